import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import { steps } from "../steps.js";
import { presets } from "./presets.js";
import { type FormatRule, neededOpset, parseRecipe, type RecipeInput } from "./recipe.js";
import { leaveToTrials, resolveRecipe, resolveStep, type Settings, textOfStep } from "./settings.js";

/** The error that something throws, which must be one that callers expect. */
function errorOf(work: () => unknown): RecoupError {
  try {
    work();
  } catch (error) {
    if (error instanceof RecoupError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("parseRecipe", () => {
  it("fills in everything", () => {
    expect(parseRecipe({})).toEqual({
      version: 1,
      formats: [
        {
          match: ["*"],
          weight: { bits: 8, granularity: "channel", rounding: { use: "rtn" } },
          activation: { bits: 8, range: "mse", symmetric: false },
        },
      ],
      steps: [],
      auto: false,
      skip: [],
      storage: "packed",
      inlineFunctions: "layers",
      samples: 128,
      seed: 0,
    });
  });

  it("takes the short forms", () => {
    const recipe = parseRecipe({
      formats: [{ match: "op:Conv", weight: { bits: 4 }, activation: "float" }, { weight: "float" }],
      steps: ["bc", { use: "bc" }],
      skip: "head*",
    });
    expect(recipe.formats.map(({ match }) => match)).toEqual([["op:Conv"], ["*"]]);
    expect(recipe.formats[0]).toMatchObject({ weight: { bits: 4, granularity: "channel" }, activation: "float" });
    expect(recipe.formats[1]).toMatchObject({ weight: "float", activation: { bits: 8 } });
    expect(recipe.steps).toMatchObject([{ use: "bc", bias: "channel" }, { use: "bc" }]);
    expect(recipe.steps[1]).toEqual(recipe.steps[0]);
    expect(recipe.skip).toEqual(["head*"]);
  });

  const rounding = (fields: object) => ({ formats: [{ weight: { rounding: { use: "gptq", ...fields } } }] });
  const bits = /must be a whole number of bits from 2 to 8/;
  const stepNames = steps.map(({ name }) => name).join(", ");
  it.each<readonly [value: unknown, field: string | undefined, message: RegExp]>([
    [null, undefined, /must be a recipe/],
    [[], undefined, /must be a recipe/],
    [{ version: 2 }, "version", /must be 1/],
    [{ formts: [] }, undefined, /unknown field, "formts": there are version, formats, steps/],
    [{ formats: [] }, "formats", /at least one/],
    [{ formats: {} }, "formats", /must be a list/],
    [{ formats: [{}, { weight: { bits: 9 } }] }, "formats[1].weight.bits", bits],
    [{ formats: [{ weight: { bits: "4" } }] }, "formats[0].weight.bits", bits],
    [{ formats: [{ weight: { bits: 4.5 } }] }, "formats[0].weight.bits", bits],
    [{ formats: [{ weight: { bit: 4 } }] }, "formats[0].weight", /unknown field, "bit": there are bits/],
    [{ formats: [{ weight: 4 }] }, "formats[0].weight", /must be "float" or a format/],
    [{ formats: [{ weight: { granularity: "group:0" } }] }, "formats[0].weight.granularity", /"group:64"/],
    [{ formats: [{ weight: { granularity: 64 } }] }, "formats[0].weight.granularity", /"group:64"/],
    [{ formats: [{ weight: { symmetric: 1 } }] }, "formats[0].weight.symmetric", /must be true or false/],
    [{ formats: [{ weight: { rounding: "gtpq" } }] }, "formats[0].weight.rounding", /must be "rtn" or "gptq", or an/],
    [{ formats: [{ weight: { rounding: {} } }] }, "formats[0].weight.rounding.use", /must be "rtn" or "gptq", or an/],
    [rounding({ target: "flot" }), "formats[0].weight.rounding.target", /must be "auto" or "same" or "unquant/],
    [rounding({ order: "random" }), "formats[0].weight.rounding.order", /must be "activation" or "natural"/],
    [rounding({ groups: "dynamic" }), "formats[0].weight.rounding.order", /"natural" where groups are "dynamic"/],
    [rounding({ damping: 0 }), "formats[0].weight.rounding.damping", /above 0 and at most 1/],
    [rounding({ damping: "0.1" }), "formats[0].weight.rounding.damping", /above 0 and at most 1/],
    [rounding({ blocks: 128 }), "formats[0].weight.rounding", /unknown field, "blocks": there are use, target/],
    [rounding({ use: "rtn", target: "float" }), "formats[0].weight.rounding", /unknown field, "target": there are use/],
    [{ formats: [{ activation: { rangeFrom: "both" } }] }, "formats[0].activation.rangeFrom", /"float" or "quantized"/],
    [{ formats: [{ activation: { bits: 1 } }] }, "formats[0].activation.bits", bits],
    [{ formats: [{ activation: "none" }] }, "formats[0].activation", /must be "float" or a format/],
    [{ formats: [{ match: 3 }] }, "formats[0].match", /must be a pattern or a list/],
    [{ steps: "bc" }, "steps", /must be a list/],
    [{ steps: ["gtpq"] }, "steps[0]", new RegExp(`\\(${stepNames}\\) or as {"use": name}`)],
    [{ steps: [{ use: "gtpq" }] }, "steps[0].use", new RegExp(`\\(${stepNames}\\) or as {"use": name}`)],
    [
      { steps: [{ use: "qwt", rank: 4, groups: 4 }] },
      "steps[0].groups",
      /^must be 1 where rank is a number: only full matrices fall into groups$/,
    ],
    [{ steps: [{ use: "bc", bits: 3 }] }, "steps[0]", /unknown field, "bits": there are use/],
    [{ auto: true, steps: ["bc"] }, "steps", /must be empty where they are chosen automatically/],
    [
      { auto: true, formats: [{}, { weight: { rounding: "rtn" } }] },
      "formats[1].weight.rounding",
      /must be left out where it is chosen automatically/,
    ],
    [{ skip: ["a", 3] }, "skip[1]", /must be a pattern/],
    [{ storage: "int4" }, "storage", /must be "packed" or "int8" or "onnx"/],
    [{ inlineFunctions: "some" }, "inlineFunctions", /must be "layers" or "all" or "none"/],
    [{ samples: 0 }, "samples", /must be a whole number, 1 or more/],
    [{ samples: "many" }, "samples", /must be a whole number, 1 or more/],
    [{ seed: -1 }, "seed", /must be a whole number, 0 or more/],
    [{ seed: 2 ** 60 }, "seed", /must be a whole number, 0 or more/],
  ])("says where %j is wrong", (value, field, message) => {
    const error = errorOf(() => parseRecipe(value, "recipe.json"));
    expect(error.code).toBe("recipe/invalid");
    expect(error.place).toEqual({ file: "recipe.json", field });
    expect(error.message).toMatch(message);
  });

  it("leaves a rounding open that is chosen automatically, and what was filled in before as it is", () => {
    const once = parseRecipe({ auto: true });
    expect(once.formats[0].weight).not.toHaveProperty("rounding");
    expect(parseRecipe(once)).toEqual(once);
    expect(resolveRecipe(once, {})).toEqual(once);
    expect(resolveRecipe(once, { steps: ["bc"] })).toEqual(parseRecipe({ steps: ["bc"] }));
  });

  it("leaves a recipe as it is that has been filled in before, whatever it was", () => {
    fc.assert(
      fc.property(someRecipe, (value) => {
        const once = parseRecipe(value);
        expect(parseRecipe(JSON.parse(JSON.stringify(once)))).toEqual(once);
        expect(resolveRecipe(JSON.parse(JSON.stringify(once)), {})).toEqual(once);
      }),
      { numRuns: 200, seed: 1 },
    );
  });
});

describe("resolveRecipe", () => {
  const given: RecipeInput = {
    formats: [
      { match: "head", weight: "float", activation: "float" },
      { match: "a", weight: { bits: 3, granularity: "group:32" } },
      { activation: { bits: 4, symmetric: true } },
    ],
    steps: ["bc"],
    skip: "stem",
    seed: 7,
  };

  it.each<readonly [about: string, settings: Settings, expected: unknown]>([
    ["nothing", {}, parseRecipe(given)],
    [
      "bits of weights that are not in float",
      { weights: 2 },
      { formats: weights("float", { bits: 2, granularity: "group:32" }, { bits: 2 }) },
    ],
    [
      "granularity",
      { granularity: "tensor" },
      { formats: weights("float", { bits: 3, granularity: "tensor" }, { granularity: "tensor" }) },
    ],
    ["symmetry", { symmetric: true }, { formats: weights("float", { symmetric: true }, { symmetric: true }) }],
    [
      "bits of all activations",
      { activations: 6 },
      { formats: activations({ bits: 6 }, { bits: 6 }, { bits: 6, symmetric: true }) },
    ],
    ["no activations", { activations: "none" }, { formats: activations("float", "float", "float") }],
    ["rounding", { rounding: "gptq" }, { formats: weights("float", gptq(), gptq()) }],
    ["the target", { rounding: "gptq", target: "same" }, { formats: weights("float", gptq("same"), gptq("same")) }],
    ["steps", { steps: ["bc", "bc"] }, { steps: [{ use: "bc" }, { use: "bc" }] }],
    ["no steps", { steps: [] }, { steps: [] }],
    ["no steps by name", { steps: ["none"] }, { steps: [] }],
    ["what else to skip", { skip: ["tail"] }, { skip: ["stem", "tail"] }],
    ["the rest", { storage: "onnx", samples: 5, seed: 0 }, { storage: "onnx", samples: 5, seed: 0 }],
  ])("lets settings change %s", (_about, settings, expected) => {
    expect(resolveRecipe(given, settings)).toMatchObject(expected as object);
  });

  it("starts from nothing where there is no recipe", () => {
    expect(resolveRecipe(undefined, {})).toEqual(parseRecipe({}));
  });

  it.each<readonly [settings: Settings, flag: string]>([
    [{ weights: 9 }, "--weights"],
    [{ activations: 0 }, "--activations"],
    [{ granularity: "row" }, "--granularity"],
    [{ storage: "small" }, "--storage"],
    [{ inlineFunctions: "some" }, "--inline-functions"],
    [{ steps: ["bc", "gtpq"] }, "--steps gtpq"],
    [{ steps: ["none", "bc"] }, "--steps"],
    [{ steps: ["none", "none"] }, "--steps"],
    [{ steps: ["bc", "nbc:rho=1:alpha=11"] }, "--steps nbc:alpha"],
    [{ steps: ["qwt:kernel=2"] }, "--steps qwt:kernel"],
    [{ steps: ["qwt:rank=4:groups=4"] }, "--steps qwt:groups"],
    [{ steps: ["bc", "nbc:groups=2:rank=1"] }, "--steps nbc:groups"],
    [{ steps: ["bc:rank=3"] }, "--steps bc"],
    [{ rounding: "gtpq" }, "--rounding"],
    [{ rounding: "gptq", target: "flot" }, "--target"],
    [{ target: "float" }, "--target"],
    [{ samples: 0 }, "--samples"],
    [{ seed: -1 }, "--seed"],
    [{ symmetric: "yes" as unknown as boolean }, "--symmetric"],
  ])("names the flag of %j", (settings, flag) => {
    const error = errorOf(() => resolveRecipe({}, settings));
    expect([error.code, error.place.field]).toEqual(["usage/argument", flag]);
  });

  const low: RecipeInput = { formats: [{ weight: { bits: 4 } }] };
  const rounded: RecipeInput = { formats: [{}, { weight: { bits: 4, rounding: { use: "gptq", target: "same" } } }] };
  const place = { file: "recipe.json", field: "formats[1].weight.rounding" };
  it.each<readonly [recipe: RecipeInput, settings: Settings, code: string, place: object, message: string]>([
    [{}, { steps: ["auto"], rounding: "rtn" }, "usage/argument", { field: "--rounding" }, "--steps auto chooses the r"],
    [low, { steps: ["auto"], target: "same" }, "usage/argument", { field: "--target" }, "--steps auto chooses the t"],
    [{ auto: true }, { rounding: "gptq" }, "usage/argument", { field: "--rounding" }, "the recipe's auto chooses"],
    [rounded, { steps: ["auto"] }, "recipe/invalid", place, "--steps auto chooses the rounding: leave one of them out"],
  ])("refuses what trials would choose: %j with %j", (recipe, settings, code, where, message) => {
    const error = errorOf(() => resolveRecipe(recipe, settings, "recipe.json"));
    expect([error.code, error.place]).toEqual([code, where]);
    expect(error.message).toContain(message);
  });

  it("takes over a recipe of somebody else's for trials, but for the rounding that it says", () => {
    const settings = { steps: ["auto"], range: "minmax" };
    for (const { recipe } of [{ recipe: rounded }, { recipe: parseRecipe(rounded) }, ...presets]) {
      const { auto, steps: chosen, formats } = resolveRecipe(leaveToTrials(recipe, settings), settings);
      expect([auto, chosen]).toEqual([true, []]);
      expect(formats.some(({ weight }) => weight !== "float" && weight.rounding !== undefined)).toBe(false);
      const parsed = parseRecipe(recipe);
      expect(formats.map(bitsOf)).toEqual(parsed.formats.map(bitsOf));
      expect(leaveToTrials(recipe, {})).toBe(recipe);
      expect(resolveRecipe(leaveToTrials(parsed, {}), { rounding: "gptq" }).formats).toMatchObject(
        parsed.formats.map(() => ({ weight: { rounding: { use: "gptq" } } })),
      );
    }
    expect(errorOf(() => resolveRecipe(leaveToTrials(rounded, settings), { ...settings, rounding: "rtn" })).code).toBe(
      "usage/argument",
    );
  });

  it.each<readonly [step: string, field: string]>([
    ["bc:places=layers:places=all", "--steps bc:places"],
    ["nbc:rho=1:alpha=plain:rho=1", "--steps nbc:rho"],
  ])("refuses an option that a step has twice: %s", (step, field) => {
    const { code, place: where, message } = errorOf(() => resolveStep(step));
    expect([code, where.field, message]).toEqual(["usage/argument", field, "is given twice"]);
  });

  it.each(["bc", "nbc:rho=1:alpha=plain", "bc:places=all", "qwt:rank=2:relu=false"])(
    "reads and writes the step %s",
    (text) => {
      expect(textOfStep(resolveStep(text))).toBe(text);
    },
  );

  it("keeps what a recipe says of a rounding that a setting names too, and gives a target to what has one", () => {
    const own: RecipeInput = {
      formats: [{ match: "a" }, { weight: { rounding: { use: "gptq", damping: 0.5 } } }],
    };
    expect(resolveRecipe(own, { target: "float" })).toMatchObject({
      formats: weights({ rounding: { use: "rtn" } }, { rounding: { use: "gptq", damping: 0.5, target: "float" } }),
    });
    expect(resolveRecipe(own, { rounding: "gptq" })).toMatchObject({
      formats: weights(gptq(), { rounding: { use: "gptq", damping: 0.5, target: "auto" } }),
    });
    expect(resolveRecipe(own, { rounding: "rtn" })).toMatchObject({
      formats: weights({ rounding: { use: "rtn" } }, { rounding: { use: "rtn" } }),
    });
  });

  it("blames the recipe for what stands in it", () => {
    const error = errorOf(() => resolveRecipe({ seed: -1 }, { seed: 3 }, "recipe.json"));
    expect([error.code, error.place]).toEqual(["recipe/invalid", { file: "recipe.json", field: "seed" }]);
  });

  it("takes back what it gave", () => {
    const once = resolveRecipe(given, { weights: 4, activations: 8, skip: ["tail"] });
    expect(resolveRecipe(JSON.parse(JSON.stringify(once)), {})).toEqual(once);
  });
});

describe("neededOpset", () => {
  it.each<readonly [about: string, recipe: RecipeInput, opset: number]>([
    ["packed weights", { formats: [{ weight: { bits: 2 } }] }, 13],
    ["8 bits", { storage: "onnx" }, 13],
    ["4-bit types", { storage: "onnx", formats: [{ weight: { bits: 4 } }] }, 21],
    ["3 bits in a 4-bit type", { storage: "onnx", formats: [{ weight: { bits: 3 } }] }, 21],
    ["groups", { storage: "onnx", formats: [{ weight: { granularity: "group:16" } }] }, 21],
    ["5 bits in bytes", { storage: "onnx", formats: [{ weight: { bits: 5 } }] }, 13],
    ["2-bit types in one of the formats", { storage: "onnx", formats: [{ match: "a" }, { weight: { bits: 2 } }] }, 25],
    ["float", { storage: "onnx", formats: [{ weight: "float" }] }, 13],
  ])("for %s", (_about, recipe, opset) => {
    expect(neededOpset(parseRecipe(recipe))).toBe(opset);
  });
});

function weights(...given: readonly unknown[]): readonly unknown[] {
  return given.map((weight) => ({ weight }));
}

function gptq(target = "auto"): unknown {
  return { rounding: { use: "gptq", target, order: "activation", groups: "static", damping: 0.01 } };
}

function activations(...given: readonly unknown[]): readonly unknown[] {
  return given.map((activation) => ({ activation }));
}

function bitsOf({ weight, activation }: FormatRule): readonly unknown[] {
  return [weight, activation].map((format) => (format === "float" ? "float" : format.bits));
}

const someBits = fc.constantFrom(2, 3, 4, 5, 6, 7, 8) as fc.Arbitrary<2 | 3 | 4 | 5 | 6 | 7 | 8>;
const somePatterns = fc.oneof(fc.string(), fc.array(fc.string(), { maxLength: 3 }));
type Weight = NonNullable<RecipeInput["formats"]>[number]["weight"];
type Rounding = Exclude<Weight, string | undefined>["rounding"];
const someWeight = fc.record(
  {
    bits: someBits,
    granularity: fc.constantFrom("channel", "tensor", "group:32"),
    symmetric: fc.boolean(),
    rounding: fc.constantFrom<Rounding>("rtn", "gptq", { use: "gptq", target: "float" }, { use: "rtn" }),
  },
  { requiredKeys: [] },
);
const someActivation = fc.record({ bits: someBits, symmetric: fc.boolean() }, { requiredKeys: [] });
const someRecipe: fc.Arbitrary<RecipeInput> = fc.record(
  {
    version: fc.constant(1 as const),
    formats: fc.array(
      fc.record(
        {
          match: somePatterns,
          weight: fc.oneof(fc.constant("float" as const), someWeight),
          activation: fc.oneof(fc.constant("float" as const), someActivation),
        },
        { requiredKeys: [] },
      ),
      { minLength: 1, maxLength: 3 },
    ),
    steps: fc.array(fc.oneof(fc.constant("bc"), fc.constant({ use: "bc" })), { maxLength: 2 }),
    skip: somePatterns,
    storage: fc.constantFrom("packed", "int8", "onnx"),
    samples: fc.integer({ min: 1 }),
    seed: fc.nat(),
  },
  { requiredKeys: [] },
);
