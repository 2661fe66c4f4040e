import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeBody, makeIf } from "../../test/models.js";
import { float32Tensor } from "../tensor/tensor.js";
import { buildGraph, type Graph, type GraphParts, type Node, readsOf, subgraphsOf, type Value } from "./graph.js";
import { makeNode } from "./node.js";

const value = (name: string): Value => ({ name, type: { kind: "other" } });
const w = float32Tensor([], [1]);

function partsOf(nodes: readonly Node[], parts: Partial<Record<"inputs" | "outputs" | "constants", string[]>> = {}) {
  const { inputs = ["x"], outputs = ["y"], constants = [] } = parts;
  return {
    name: "g",
    inputs: inputs.map(value),
    outputs: outputs.map(value),
    nodes,
    initializers: new Map(constants.map((name) => [name, w] as const)),
    valueInfo: new Map(),
  } satisfies GraphParts;
}

const build = (...parts: Parameters<typeof partsOf>): Graph => buildGraph(partsOf(...parts));
const outputsOf = (graph: Graph) => graph.nodes.map((node) => node.outputs[0]);
const invalid = (message: string, field: string) =>
  expect.objectContaining({ code: "graph/invalid", message, place: { field } });

describe("buildGraph", () => {
  const a = makeNode("Relu", ["x"], ["a"]);
  const b = makeNode("Add", ["a", "a"], ["b", ""]);
  const y = makeNode("Concat", ["a", "", "b", "w"], ["y"]);

  it("knows who makes and who reads a value, each reader once", () => {
    const graph = build([a, b, y], { constants: ["w"] });
    expect(graph.producer("b")).toBe(b);
    expect(graph.producer("x")).toBeUndefined();
    expect(graph.producer("")).toBeUndefined();
    expect(graph.consumers("a")).toEqual([b, y]);
    expect(graph.consumers("w")).toEqual([y]);
    expect(graph.consumers("")).toEqual([]);
    expect([graph.isInput("x"), graph.isInput("w"), graph.isOutput("y"), graph.isOutput("a")]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    expect(graph.captures.size).toBe(0);
  });

  it("takes an initializer for a constant only where callers cannot override it", () => {
    const graph = build([a, b, y], { inputs: ["x", "w"], constants: ["w"] });
    expect(graph.constant("w")).toBeUndefined();
    expect(build([a, b, y], { constants: ["w"] }).constant("w")).toBe(w);
  });

  it("takes inputs and initializers as outputs, and an output read inside", () => {
    const graph = build([a, b, y], { outputs: ["y", "x", "w", "a"], constants: ["w"] });
    expect(graph.isOutput("w")).toBe(true);
    expect(graph.consumers("a")).toHaveLength(2);
  });

  it("sorts nodes by hand", () => {
    expect(outputsOf(build([y, b, a], { constants: ["w"] }))).toEqual(["a", "b", "y"]);
  });

  it("puts a node before the one that reads it inside a body", () => {
    const body = makeBody(["n"], [makeNode("Neg", ["a"], ["n"])]);
    const choice = makeIf("y", body, makeBody(["p"], [makeNode("Abs", ["x"], ["p"])]));
    const graph = build([choice, a], { inputs: ["x", "c"] });
    expect(outputsOf(graph)).toEqual(["a", "y"]);
    expect(graph.consumers("a")).toEqual([choice]);
    expect([...readsOf(choice)]).toEqual(["c", "a", "x"]);
    expect(subgraphsOf(choice)[0]).toBe(body);
  });

  it("lists what a body reads of the graphs around it, however deep", () => {
    const inner = makeBody(["i"], [makeNode("Add", ["x", "k"], ["i"])]);
    const outer = makeBody(["o"], [makeNode("Neg", ["z"], ["k"]), makeIf("o", inner, inner)]);
    expect([...outer.captures]).toEqual(["z", "c", "x"]);
  });

  it("takes a body that gives back a value of the graph around it", () => {
    expect([...makeBody(["a"], []).captures]).toEqual(["a"]);
  });

  it.each<readonly [about: string, message: string, field: string, parts: Parameters<typeof partsOf>]>([
    ["a value made twice", "is defined twice", "a", [[a, makeNode("Abs", ["x"], ["a"], {}, "z")]]],
    ["an input made again", "is defined twice", "x", [[makeNode("Abs", ["x"], ["x"])]]],
    ["an initializer made again", "is defined twice", "w", [[makeNode("Abs", ["x"], ["w"])], { constants: ["w"] }]],
    ["two inputs of a name", "is the name of two inputs", "x", [[], { inputs: ["x", "x"] }]],
    ["two nodes of a name", "is the name of two nodes", "a", [[a, makeNode("Abs", ["x"], ["q"], {}, "a")]]],
    [
      "a value nobody makes",
      "is read but no node, input or initializer defines it",
      "b",
      [[makeNode("Abs", ["b"], ["y"])]],
    ],
    ["an output nobody makes", "is read but no node, input or initializer defines it", "y", [[a]]],
    [
      "a circle",
      "is part of a cycle",
      "p",
      [[makeNode("A", ["q"], ["p"]), makeNode("B", ["p"], ["q"])], { outputs: [] }],
    ],
    ["a node that reads itself", "is part of a cycle", "y", [[makeNode("A", ["x", "y"], ["y"])]]],
    ["an input without a name", "has an input, output or initializer without a name", "g", [[], { inputs: [""] }]],
    ["an output without a name", "has an input, output or initializer without a name", "g", [[], { outputs: [""] }]],
    [
      "an initializer without a name",
      "has an input, output or initializer without a name",
      "g",
      [[], { constants: [""] }],
    ],
  ])("refuses %s", (_about, message, field, parts) => {
    expect(() => build(...parts)).toThrow(invalid(message, field));
  });

  it("names a node of a circle that has no name by its output", () => {
    const nodes = [makeNode("A", ["q"], ["p"], {}, ""), makeNode("B", ["p"], ["q"], {}, "")];
    expect(() => build(nodes, { outputs: [] })).toThrow(invalid("is part of a cycle", "p"));
  });

  it("takes many nodes without a name", () => {
    expect(
      build(
        [
          { ...a, name: "" },
          { ...b, name: "" },
        ],
        { outputs: ["b"] },
      ).nodes,
    ).toHaveLength(2);
  });
});

/** Node i reads values of earlier nodes, or the input. */
const dags = fc.array(fc.array(fc.nat(1000), { maxLength: 3 }), { minLength: 1, maxLength: 30 }).map((reads) =>
  reads.map((from, i) =>
    makeNode(
      "Op",
      from.map((far) => (far % (i + 1) === i ? "x" : `v${far % (i + 1)}`)),
      [`v${i}`],
    ),
  ),
);

describe("the order of nodes", () => {
  it("puts every node behind what it reads, wherever it stood", () => {
    fc.assert(
      fc.property(dags, fc.infiniteStream(fc.nat()), (nodes, random) => {
        const keys = new Map(nodes.map((node) => [node, random.next().value]));
        const shuffled = [...nodes].sort((p, q) => keys.get(p)! - keys.get(q)!);
        const sorted = build(shuffled, { outputs: [] }).nodes;
        expect(new Set(sorted)).toEqual(new Set(nodes));
        for (const [i, node] of sorted.entries()) {
          for (const read of node.inputs) {
            const made = sorted.findIndex((other) => other.outputs.includes(read));
            expect(made).toBeLessThan(i);
          }
        }
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it("stays where it is valid already", () => {
    fc.assert(
      fc.property(dags, (nodes) => {
        expect(build(nodes, { outputs: [] }).nodes).toEqual(nodes);
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});

describe("a graph of 100000 nodes", () => {
  const count = 100_000;
  const chain = Array.from({ length: count }, (_, i) => makeNode("Relu", [i === 0 ? "x" : `v${i - 1}`], [`v${i}`]));
  const last = [`v${count - 1}`];

  it("is sorted without recursion", () => {
    expect(build([...chain].reverse(), { outputs: last }).nodes).toEqual(chain);
  });

  it("may have one value that all read, and one node that reads all", () => {
    const fan = Array.from({ length: count }, (_, i) => makeNode("Relu", ["x"], [`v${i}`]));
    const concat = makeNode(
      "Concat",
      fan.map((node) => node.outputs[0]),
      ["y"],
    );
    const graph = build([concat, ...fan]);
    expect(graph.consumers("x")).toHaveLength(count);
    expect(graph.nodes[count]).toBe(concat);
  });
});
