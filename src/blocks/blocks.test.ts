import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModel } from "../../test/models.js";
import {
  makeBranches,
  makeChain,
  makeConditional,
  makeDecoder,
  makeResidualNet,
  makeTransformer,
  makeTwoInputs,
  makeUNet,
  networks,
} from "../../test/networks.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { type Graph, type Node, readsOf } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import type { ValueTypes } from "../graph/value-types.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { float32Tensor } from "../tensor/tensor.js";
import { type Block, findBlocks } from "./blocks.js";
import { findLayerBlocks } from "./layer-blocks.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

async function blocksOf({ model }: TestModel) {
  const types = await inferValueTypes(engine, model);
  const layers = findLayers(model.graph, types).layers.map((layer) => layer.node);
  return { graph: model.graph, types, layers, blocks: findLayerBlocks(model.graph, types, layers) };
}

const cutsOf = (blocks: readonly Block[]) => blocks.slice(0, -1).map((block) => block.outputs);

describe("findLayerBlocks", () => {
  it.each(networks)("cuts %s into runs of nodes between live values", async (_about, make) => {
    const { graph, layers, blocks } = await blocksOf(make());
    expect(blocks.flatMap((block) => block.nodes)).toEqual(graph.nodes);
    let position = 0;
    for (const { nodes, inputs, outputs } of blocks) {
      expect([...inputs].sort()).toEqual(liveAt(graph, position));
      position += nodes.length;
      expect([...outputs].sort()).toEqual(liveAt(graph, position));
      expect(nodes.some((node) => layers.includes(node))).toBe(true);
    }
    expect(blocks.length).toBeGreaterThan(1);
  });

  it("cuts a chain behind each activation function", async () => {
    const { blocks } = await blocksOf(makeChain());
    expect(cutsOf(blocks)).toEqual([["c0_relu"], ["c1_relu"], ["c2_relu"]]);
  });

  it("cuts between residual blocks, never inside them", async () => {
    const { blocks } = await blocksOf(makeResidualNet());
    expect(cutsOf(blocks)).toEqual([["stem_relu"], ["sum0"], ["sum1"], ["sum2"]]);
  });

  it("cuts behind the Concat of branches", async () => {
    const { blocks } = await blocksOf(makeBranches());
    expect(cutsOf(blocks)).toEqual([["stem_relu"], ["joined0"], ["joined1"]]);
  });

  it("cuts a transformer on its residual stream", async () => {
    const { blocks } = await blocksOf(makeTransformer());
    expect(cutsOf(blocks)).toEqual([["embedded"], ["attended0"], ["layer0"], ["attended1"], ["layer1"]]);
  });

  it("does not mind what every layer of a decoder reads", async () => {
    const { blocks } = await blocksOf(makeDecoder());
    const streams = cutsOf(blocks).map((cut) => cut.filter((value) => !["cos", "sin", "mask"].includes(value)));
    expect(streams).toEqual(expect.arrayContaining([["attended0"], ["layer0"], ["attended1"], ["layer1"]]));
  });

  it("keeps what a skip of a U-Net spans beside the cuts", async () => {
    const { blocks } = await blocksOf(makeUNet());
    expect(cutsOf(blocks)).toContainEqual(["first_relu", "second_relu", "bottom5_relu"]);
  });

  it("carries inputs that are read late, and outputs only as far as they are read", async () => {
    const { blocks } = await blocksOf(makeTwoInputs());
    expect(cutsOf(blocks)).toEqual([["met"]]);
    expect(blocks[0].inputs).toEqual(["x", "z"]);
    expect(blocks.at(-1)?.outputs).toEqual([]);
  });

  it("counts what bodies read", async () => {
    const { blocks } = await blocksOf(makeConditional());
    expect(cutsOf(blocks)[0]).toEqual(["first_relu"]);
    for (const { inputs, nodes } of blocks.slice(1, -1)) {
      if (nodes.some((node) => node.outputs[0] === "second")) expect(inputs).toContain("first_relu");
    }
  });

  it("does not carry what it can compute again from constants, but what is drawn by chance", async () => {
    const nodes = [
      makeNode("RandomNormalLike", ["e"], ["noise"]),
      makeNode("Transpose", ["e"], ["turned"]),
      makeNode("Constant", [], ["shift"], { value: float32Tensor([], [1]) }),
      makeNode("Neg", ["shift"], ["raise"]),
      makeNode("MatMul", ["x", "w"], ["a"]),
      makeNode("Tanh", ["a"], ["b"]),
      makeNode("MatMul", ["b", "v"], ["c"]),
      makeNode("Add", ["c", "raise"], ["d"]),
      makeNode("MatMul", ["d", "turned"], ["f"]),
      makeNode("Add", ["f", "noise"], ["y"]),
    ];
    const weights = { e: someFloats([4, 4]), w: someFloats([4, 4], 2), v: someFloats([4, 4], 3) };
    const parts = { feeds: { x: someFloats([4, 4], 4) }, nodes, outputs: ["y"], initializers: weights };
    const { blocks } = await blocksOf(makeTestModel(parts));
    expect(cutsOf(blocks)).toEqual([
      ["noise", "a"],
      ["noise", "c"],
    ]);
  });

  it("keeps a layer, its bias and its activation functions together", async () => {
    for (const [, make] of networks) {
      const { graph, blocks } = await blocksOf(make());
      for (const { nodes } of blocks) {
        for (const node of nodes.filter(({ opType }) => opType === "MatMul" || opType === "Conv")) {
          const readers = graph.consumers(node.outputs[0]);
          const isPart = readers.length === 1 && ["Relu", "Clip"].includes(readers[0].opType);
          if (isPart && !graph.isOutput(node.outputs[0])) expect(nodes).toContain(readers[0]);
        }
      }
    }
  });
});

describe("findBlocks", () => {
  const none: ReadonlySet<string> = new Set();

  it("makes one block of a network that is nowhere narrow, or has no layer", () => {
    const { graph } = makeChain().model;
    const everything = new Set(graph.nodes.flatMap((node) => node.outputs));
    const layers = new Set(graph.nodes.filter((node) => node.opType === "Conv"));
    for (const blocks of [
      findBlocks(graph, new Map(), layers, everything),
      findBlocks(graph, new Map(), new Set(), none),
    ]) {
      expect(blocks).toEqual([{ nodes: graph.nodes, inputs: ["x"], outputs: [] }]);
    }
  });

  it("gives a network without nodes no blocks", () => {
    const { graph } = makeTestModel({ feeds: { x: float32Tensor([1], [0]) }, nodes: [], outputs: ["x"] }).model;
    expect(findBlocks(graph, new Map(), new Set(), none)).toEqual([]);
  });

  it("takes integers for narrow, and what it does not know for wide", () => {
    const nodes = [
      makeNode("Shape", ["x"], ["shape"]),
      makeNode("Relu", ["x"], ["a"]),
      makeNode("Relu", ["a"], ["b"]),
      makeNode("Reshape", ["b", "shape"], ["y"]),
    ];
    const { graph } = makeTestModel({ feeds: { x: float32Tensor([1], [0]) }, nodes, outputs: ["y"] }).model;
    const layers = new Set(graph.nodes.filter((node) => node.opType === "Relu"));
    const sizes: ValueTypes = new Map([["shape", { kind: "tensor", elementType: "int64", shape: [1] }]]);
    const at = (types: ValueTypes) => cutsOf(findBlocks(graph, types, layers, none));
    expect(at(sizes)).toEqual([["shape", "a"]]);
    expect(at(new Map())).toEqual([["shape", "a"]]);
    expect(at(new Map([["b", { kind: "tensor", elementType: "int64", shape: [1] }]]))).toEqual([]);
  });

  it("cuts a long chain in which much stays live throughout", () => {
    const graph = makeLongChain(100_000, 2000);
    const layers = new Set(graph.nodes.filter((_, i) => i % 1000 === 0));
    // A list of what is live at every node would take a gigabyte, and going through it minutes.
    expect(findBlocks(graph, new Map(), layers, none).length).toBeGreaterThan(90);
  });
});

/** The slow and obvious version: what nodes or inputs in front define and nodes behind read. */
function liveAt(graph: Graph, position: number): readonly string[] {
  const before = graph.nodes.slice(0, position).flatMap((node) => node.outputs);
  const fed = graph.inputs.map((input) => input.name).filter((name) => !graph.initializers.has(name));
  const read = new Set(graph.nodes.slice(position).flatMap((node) => [...readsOf(node)]));
  return [...fed, ...before].filter((value) => read.has(value)).sort();
}

/** A chain beside which many values stay live throughout. */
function makeLongChain(length: number, count: number): Graph {
  const masks = Array.from({ length: count }, (_, i) => `mask${i}`);
  const nodes: Node[] = masks.map((mask) => makeNode("Relu", ["x"], [mask]));
  for (let i = 0; i < length; i++) nodes.push(makeNode("Relu", [i === 0 ? "x" : `v${i - 1}`], [`v${i}`]));
  nodes.push(makeNode("Sum", [`v${length - 1}`, ...masks], ["y"]));
  return makeTestModel({ feeds: { x: float32Tensor([1], [0]) }, nodes, outputs: ["y"] }).model.graph;
}
