import { describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, someFloats, yes } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import type { Layer } from "../operators/layer.js";
import { parseRecipe, type RecipeInput } from "./recipe.js";
import { unmatchedPatterns, wishesOf } from "./wish.js";

const conv = makeNode("Conv", ["x", "stem.weight"], ["features"], {}, "stem");
const product = makeNode("MatMul", ["q", "k"], ["scores"], {}, "attention");
const wish = (recipe: RecipeInput) => wishesOf(parseRecipe(recipe), [])(conv, "stem.weight");

describe("wishesOf", () => {
  it("wishes for 8 bits where nothing is said", () => {
    expect(wish({})).toEqual({
      kind: "quantize",
      weight: {
        bits: 8,
        granularity: { kind: "per-channel" },
        symmetric: true,
        range: "minmax",
        rounding: { use: "rtn" },
      },
      activation: { bits: 8, symmetric: false, range: "mse", rangeFrom: "float", softmax: "uniform" },
    });
  });

  it("takes the first format that matches, by name, weight, output or operator", () => {
    for (const match of ["stem", "stem.*", "features", "op:Conv"]) {
      const formats = [
        { match: "other", weight: { bits: 2 } },
        { match, weight: { bits: 3 } },
        { weight: { bits: 4 } },
      ] as const;
      expect(wish({ formats: [...formats] })).toMatchObject({ weight: { bits: 3 } });
      expect(wish({ formats: [formats[0], formats[2], formats[1]] })).toMatchObject({ weight: { bits: 4 } });
    }
  });

  it.each([
    [{ bits: 8 }, "uniform"],
    [{ bits: 4 }, "log"],
    [{ bits: 4, softmax: "twin" }, "twin"],
  ] as const)("gives activations of %j %s levels for shares of attention", (activation, softmax) => {
    expect(wish({ formats: [{ activation }] })).toMatchObject({ activation: { softmax } });
  });

  it.each([
    [{ bits: 8 }, true],
    [{ bits: 7 }, false],
    [{ bits: 2 }, false],
    [{ bits: 4, symmetric: true }, true],
    [{ bits: 8, symmetric: false }, false],
  ] as const)("makes weights of %j symmetric: %s", (weight, symmetric) => {
    expect(wish({ formats: [{ weight }] })).toMatchObject({ weight: { symmetric } });
  });

  it.each([
    ["channel", { kind: "per-channel" }],
    ["tensor", { kind: "per-tensor" }],
    ["group:64", { kind: "per-group", groupSize: 64 }],
  ])("reads the granularity %s", (granularity, expected) => {
    expect(wish({ formats: [{ weight: { granularity } }] })).toMatchObject({ weight: { granularity: expected } });
  });

  it.each([
    [{ bits: 8 }, "float"],
    [{ bits: 7 }, "quantized"],
    [{ bits: 2 }, "quantized"],
    [{ bits: 4, rangeFrom: "float" }, "float"],
    [{ bits: 8, rangeFrom: "quantized" }, "quantized"],
  ] as const)("looks for the range of activations of %j in the network that is %s", (activation, rangeFrom) => {
    expect(wish({ formats: [{ activation }] })).toMatchObject({ activation: { rangeFrom } });
  });

  it("says why it leaves a layer", () => {
    expect(wish({ formats: [{ weight: "float" }] })).toEqual({
      kind: "skip",
      reason: "the recipe leaves its weight in float",
    });
    expect(wish({ formats: [{ match: "head" }] })).toEqual({
      kind: "skip",
      reason: "no format of the recipe matches",
    });
    expect(wish({ skip: ["head", "st*"], formats: [{ match: "stem" }] })).toEqual({
      kind: "skip",
      reason: "the recipe skips st*",
    });
  });

  it("leaves activations in float where they are to be", () => {
    expect(wish({ formats: [{ activation: "float" }] })).toMatchObject({ activation: "float" });
    const ofProduct = wishesOf(parseRecipe({ formats: [{ match: "attention", activation: { bits: 6 } }] }), []);
    expect(ofProduct(product, undefined)).toMatchObject({ activation: { bits: 6, symmetric: false } });
  });
});

describe("edges", () => {
  const layers = ["first", "middle", "last"].map((name): Layer => {
    const node = makeNode("MatMul", [`${name}.x`, `${name}.w`], [`${name}.y`], {}, name);
    const inputForm = { kind: "vectors", axis: -1 } as const;
    return { node, weight: `${name}.w`, weightInput: 1, channelAxis: 1, outputAxis: -1, data: `${name}.x`, inputForm };
  });
  const table = makeNode("Gather", ["words", "ids"], ["embedded"], {}, "table");
  const lookup: Layer = { node: table, weight: "words", weightInput: 0, channelAxis: 0, outputAxis: -1 };
  const low: RecipeInput = { formats: [{ weight: { bits: 3, rounding: "gptq" }, activation: { bits: 4 } }] };

  it("get at least so many bits, rounded to nearest; a table that is looked up in is none of them", () => {
    const wishFor = wishesOf(parseRecipe({ ...low, edges: 8 }), [lookup, ...layers]);
    const bits = [lookup, ...layers].map(({ node, weight }) => {
      const wished = wishFor(node, weight);
      if (wished.kind !== "quantize" || wished.activation === "float") throw new Error("was not wished");
      return [wished.weight.bits, wished.weight.symmetric, wished.weight.rounding?.use, wished.activation.bits];
    });
    const raised = [8, true, "rtn", 8];
    const asGiven = [3, false, "gptq", 4];
    expect(bits).toEqual([asGiven, raised, asGiven, raised]);
  });

  it("keep what has as many bits already, and float", () => {
    const wishFor = wishesOf(
      parseRecipe({ formats: [{ weight: { rounding: "gptq" }, activation: "float" }], edges: 4 }),
      layers,
    );
    expect(wishFor(layers[0].node, "first.w")).toMatchObject({
      weight: { bits: 8, rounding: { use: "gptq" } },
      activation: "float",
    });
  });
});

describe("unmatchedPatterns", () => {
  const body = makeBody(["hidden"], [makeNode("MatMul", ["x", "inner.weight"], ["hidden"])]);
  const { graph } = makeTestModel({
    feeds: { x: someFloats([3, 3]), c: yes },
    nodes: [
      makeNode("MatMul", ["x", "stem.weight"], ["features"], {}, "stem"),
      makeNode("Relu", ["features"], ["y"]),
      makeIf("z", body, body),
    ],
    initializers: { "stem.weight": someFloats([3, 3], 2), "inner.weight": someFloats([3, 3], 3) },
    outputs: ["y", "z"],
  }).model;
  const unmatched = (recipe: RecipeInput) => unmatchedPatterns(parseRecipe(recipe), graph);

  it("names those that no node, output, weight or operator goes by, each once", () => {
    const skip = ["stem", "feat*", "stem.w*", "op:Relu", "hidden", "inner.*", "haed*", "op:Conv", "x"];
    expect(unmatched({ skip })).toEqual(["haed*", "op:Conv", "x"]);
    expect(unmatched({ formats: [{ match: ["haed*", "y"] }, { match: "haed*" }, {}] })).toEqual(["haed*"]);
  });

  it("says nothing of a recipe that names nothing", () => {
    expect(unmatched({})).toEqual([]);
  });
});
