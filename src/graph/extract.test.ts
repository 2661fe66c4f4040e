import { describe, expect, it } from "vitest";
import { makeBody, makeIf } from "../../test/models.js";
import { float32Tensor } from "../tensor/tensor.js";
import { extractGraph, nodesBetween, partBetween } from "./extract.js";
import { buildGraph, type Value } from "./graph.js";
import { joinGraphs } from "./join.js";
import { makeNode } from "./node.js";

const value = (name: string): Value => ({ name, type: { kind: "other" } });
const one = float32Tensor([], [1]);

/** x → a → b → y, with a side way x → s that an If reads. */
const graph = buildGraph({
  name: "g",
  inputs: ["x", "z", "c"].map(value),
  outputs: ["y", "i"].map(value),
  nodes: [
    makeNode("Relu", ["x"], ["a"]),
    makeNode("Add", ["a", "w"], ["b"]),
    makeNode("Mul", ["b", "z"], ["y"]),
    makeNode("Neg", ["x"], ["s"]),
    makeIf(
      "i",
      makeBody(["n"], [makeNode("Add", ["s", "v"], ["n"])]),
      makeBody(["p"], [makeNode("Abs", ["x"], ["p"])]),
    ),
  ],
  initializers: new Map(["w", "v"].map((name) => [name, one])),
  valueInfo: new Map([["a", value("a")]]),
});

const named = (values: readonly { readonly name: string }[]) => values.map(({ name }) => name).join(" ");

describe("extractGraph", () => {
  it("takes what the outputs depend on, and nothing else", () => {
    const part = extractGraph(graph, [], [value("b")]);
    expect(part.nodes.map((node) => node.opType)).toEqual(["Relu", "Add"]);
    expect([named(part.inputs), named(part.outputs), ...part.initializers.keys()]).toEqual(["x", "b", "w"]);
    expect(part.origin).toBeUndefined();
  });

  it("cuts above, at values and at inputs", () => {
    const part = extractGraph(graph, [value("a"), value("s")], [value("y")]);
    expect(part.nodes.map((node) => node.opType)).toEqual(["Add", "Mul"]);
    expect(named(part.inputs)).toBe("a z");
  });

  it("takes what bodies read", () => {
    const part = extractGraph(graph, [], [value("i")]);
    expect(part.nodes.map((node) => node.opType)).toEqual(["Neg", "If"]);
    expect([named(part.inputs), ...part.initializers.keys()]).toEqual(["x c", "v"]);
  });

  it("cuts at an initializer, which then is fed", () => {
    const part = extractGraph(graph, [value("w")], [value("b")]);
    expect([named(part.inputs), part.initializers.size]).toEqual(["w x", 0]);
  });

  it("takes an output that is a cut, an input or an initializer itself", () => {
    const part = extractGraph(graph, [value("a")], ["a", "x", "w"].map(value));
    expect([named(part.inputs), named(part.outputs), part.nodes.length, ...part.initializers.keys()]).toEqual([
      "a x",
      "a x w",
      0,
      "w",
    ]);
  });

  it("refuses a value that is not there", () => {
    expect(() => extractGraph(graph, [], [value("q")])).toThrow(expect.objectContaining({ code: "graph/invalid" }));
  });
});

it("finds the nodes between a cut and some values", () => {
  const between = (cut: readonly string[], values: readonly string[]) =>
    [...nodesBetween(graph, new Set(cut), values)].map((node) => node.opType).sort();
  expect(between([], ["y", "i"])).toEqual(["Add", "If", "Mul", "Neg", "Relu"]);
  expect(between(["a"], ["y"])).toEqual(["Add", "Mul"]);
  expect(between(["y"], ["y"])).toEqual([]);
});

describe("joinGraphs", () => {
  const second = buildGraph({
    ...graph,
    inputs: ["x", "q"].map(value),
    outputs: [value("y")],
    nodes: [makeNode("Sub", ["x", "q"], ["y"], {}, "")],
    initializers: new Map(),
  });
  const joined = joinGraphs(graph, "left/", second, new Set(["x"]));

  it("prefixes the values and nodes of the first, and keeps the second's", () => {
    expect(named(joined.inputs)).toBe("x left/z left/c q");
    expect(named(joined.outputs)).toBe("left/y left/i y");
    expect([...joined.initializers.keys()]).toEqual(["left/w", "left/v"]);
    expect(named(joined.nodes)).toBe("left/a left/b left/y left/s left/i ");
    expect(joined.producer("left/b")?.inputs).toEqual(["left/a", "left/w"]);
  });

  it("prefixes what bodies read, and keeps what they make", () => {
    expect(joined.consumers("left/s")).toEqual([joined.producer("left/i")]);
    const [then] = [...joined.producer("left/i")!.attributes.values()];
    expect(then.kind === "graph" && then.value.nodes[0]).toMatchObject({
      inputs: ["left/s", "left/v"],
      outputs: ["n"],
    });
  });

  it("keeps inputs and outputs that are not given", () => {
    const odd = buildGraph({
      ...graph,
      outputs: [value("o")],
      nodes: [makeNode("Op", ["x", "", "z"], ["", "o"], {}, "")],
      initializers: new Map(),
    });
    const [node] = joinGraphs(odd, "p/", second, new Set()).nodes;
    expect(node).toMatchObject({ name: "", inputs: ["p/x", "", "p/z"], outputs: ["", "p/o"] });
  });
});

describe("partBetween", () => {
  it("takes the nodes on the way and the constants that they read", () => {
    const part = partBetween(graph, new Set(["a", "z"]), "y");
    expect(part?.nodes.map(({ opType }) => opType)).toEqual(["Add", "Mul"]);
    expect([...(part?.constants.keys() ?? [])]).toEqual(["w"]);
    const body = partBetween(graph, new Set(["x", "c"]), "i");
    expect([...(body?.constants.keys() ?? [])]).toEqual(["v"]);
  });

  it("is none where the value depends on more, or on nothing that a node computes", () => {
    expect(partBetween(graph, new Set(["a"]), "y")).toBeUndefined();
    expect(partBetween(graph, new Set(["x"]), "x")).toBeUndefined();
    expect(partBetween(graph, new Set(["y"]), "w")).toBeUndefined();
  });

  it("does not mind inputs that are left out", () => {
    const nodes = [makeNode("Clip", ["x", "", "w"], ["clipped"])];
    const clipped = buildGraph({ ...graph, nodes, outputs: [value("clipped")] });
    expect(partBetween(clipped, new Set(["x"]), "clipped")?.nodes).toHaveLength(1);
  });
});
