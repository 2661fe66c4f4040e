import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats } from "../../test/models.js";
import type { Graph, Node } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, integerValues, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { writeCodeLimits } from "./write-code-limits.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

interface Case {
  readonly scale: number;
  readonly zeroPoint: number;
  readonly low?: number;
  readonly high?: number;
  /** The largest code of a grid below 8 bits. */
  readonly top?: number;
  readonly isRelu?: boolean;
}

const x = float32Tensor(
  [200],
  float32Values(someFloats([200])).map((value) => value * 8),
);

/** x, limited, quantized, dequantized as y. */
function build({ scale, zeroPoint, low, high, top, isRelu }: Case, more: readonly Node[] = [], outputs = ["y"]) {
  const limits = [low === undefined ? "" : "low", high === undefined ? "" : "high"];
  const initializers: Record<string, Tensor> = { s: float32Tensor([], [scale]), z: uint8Tensor([], [zeroPoint]) };
  if (low !== undefined) initializers.low = float32Tensor([], [low]);
  if (high !== undefined) initializers.high = float32Tensor([], [high]);
  if (top !== undefined) initializers.top = uint8Tensor([], [top]);
  const nodes = [
    makeNode("Neg", ["x"], ["n"]),
    isRelu ? makeNode("Relu", ["n"], ["r"]) : makeNode("Clip", ["n", ...limits], ["r"]),
    makeNode("QuantizeLinear", ["r", "s", "z"], ["q"]),
    ...(top === undefined ? [] : [makeNode("Clip", ["q", "", "top"], ["c"])]),
    makeNode("DequantizeLinear", [top === undefined ? "q" : "c", "s", "z"], ["y"]),
    ...more,
  ];
  return makeTestModel({ feeds: { x }, nodes, outputs, initializers });
}

function rewrite(graph: Graph): Graph {
  return applyPatch(graph, writeCodeLimits(graph));
}

/** Operators in order, with the codes that a Clip lets through. */
function describeNodes(graph: Graph): string {
  const codeOf = (input: string) => {
    const tensor = graph.constant(input);
    return tensor?.type === "uint8" ? integerValues(tensor) : [];
  };
  return graph.nodes
    .map(({ opType, inputs }) => (opType === "Clip" ? `Clip(${inputs.slice(1).flatMap(codeOf)})` : opType))
    .join(" ");
}

describe("writeCodeLimits", () => {
  it.each<readonly [about: string, given: Case, nodes: string]>([
    [
      "puts limits on codes",
      { scale: 0.25, zeroPoint: 4, low: -0.5, high: 0.5 },
      "Neg QuantizeLinear Clip(2,6) DequantizeLinear",
    ],
    [
      "leaves out limits beyond the grid",
      { scale: 0.25, zeroPoint: 4, low: -1, high: 64 },
      "Neg QuantizeLinear DequantizeLinear",
    ],
    [
      "takes a missing limit for none",
      { scale: 0.25, zeroPoint: 4, low: -0.5 },
      "Neg QuantizeLinear Clip(2,255) DequantizeLinear",
    ],
    [
      "leaves out limits beyond a grid of few bits",
      { scale: 1, zeroPoint: 0, low: 0, high: 15, top: 15 },
      "Neg QuantizeLinear Clip(15) DequantizeLinear",
    ],
    [
      "adds a limit within a grid of few bits",
      { scale: 1, zeroPoint: 8, low: 0, high: 15, top: 15 },
      "Neg QuantizeLinear Clip(8,23) Clip(15) DequantizeLinear",
    ],
    [
      "puts a Relu on codes where the grid goes below zero",
      { scale: 1, zeroPoint: 3, isRelu: true },
      "Neg QuantizeLinear Clip(3,255) DequantizeLinear",
    ],
    [
      "leaves a Relu to the runtime where it does not",
      { scale: 1, zeroPoint: 0, isRelu: true },
      "Neg Relu QuantizeLinear DequantizeLinear",
    ],
  ])("%s", (_about, given, nodes) => {
    expect(describeNodes(rewrite(build(given).model.graph))).toBe(nodes);
  });

  it("changes no code", async () => {
    const cases = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].flatMap((seed) => {
      const [scale, zeroPoint, low, high] = float32Values(someFloats([4], seed + 1)).map(Math.abs);
      const grid = { scale: 0.02 + scale / 5, zeroPoint: Math.round(zeroPoint * 255) };
      const limits = { low: -low * 6, high: high * 6 };
      const few = { scale: 0.1 + scale, zeroPoint: Math.round(zeroPoint * 15), top: 15 };
      return [
        { ...grid, ...limits },
        { ...few, ...limits },
        { ...grid, isRelu: true },
        { ...few, isRelu: true },
      ];
    });
    const { model, feeds } = build(cases[0]);
    const graphs = cases.map((given) => build(given).model.graph);
    const join = (all: readonly Graph[]) =>
      all.reduce((joined, graph, i) => joinGraphs(graph, `${i}/`, joined, new Set(["x"])));
    const before = await runModel(engine, withGraph(model, join(graphs)), feeds);
    const after = await runModel(engine, withGraph(model, join(graphs.map(rewrite))), feeds);
    expect(before.size).toBe(cases.length);
    expect(largestDifference(before, after)).toBe(0);
  });

  it.each<readonly [about: string, more: readonly Node[], outputs: readonly string[]]>([
    ["somebody else reads the limited value", [makeNode("Neg", ["r"], ["o"])], ["y", "o"]],
    ["somebody else reads the value before", [makeNode("Abs", ["n"], ["o"])], ["y", "o"]],
    ["the limited value leaves the graph", [], ["y", "r"]],
  ])("changes nothing where %s", (_about, more, outputs) => {
    const { graph } = build({ scale: 1, zeroPoint: 3, isRelu: true }, more, [...outputs]).model;
    expect(writeCodeLimits(graph)).toMatchObject({ remove: [], add: [] });
  });

  it("changes nothing where a limit is computed", () => {
    const { model } = makeTestModel({
      feeds: { x, high: float32Tensor([], [1]) },
      nodes: [
        makeNode("Clip", ["x", "", "high"], ["r"]),
        makeNode("QuantizeLinear", ["r", "s", "z"], ["q"]),
        makeNode("DequantizeLinear", ["q", "s", "z"], ["y"]),
      ],
      initializers: { s: float32Tensor([], [1]), z: uint8Tensor([], [3]) },
      outputs: ["y"],
    });
    expect(writeCodeLimits(model.graph)).toMatchObject({ remove: [], add: [] });
  });
});
