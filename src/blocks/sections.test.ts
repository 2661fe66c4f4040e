import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModel } from "../../test/models.js";
import {
  makeBranches,
  makeChain,
  makeDecoder,
  makeFires,
  makeResidualNet,
  makeStemless,
  makeTransformer,
  makeUNet,
  NetworkWriter,
  networks,
} from "../../test/networks.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { readsOf } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { int64Tensor } from "../tensor/tensor.js";
import { findSections, type SectionSize } from "./sections.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

async function sectionsOf({ model }: TestModel, size: SectionSize = "block") {
  const types = await inferValueTypes(engine, model);
  const layers = findLayers(model.graph, types).layers.map((layer) => layer.node);
  return { graph: model.graph, ...findSections(model.graph, types, layers, size) };
}

async function endsOf(model: TestModel, size?: SectionSize): Promise<readonly string[]> {
  const { sections } = await sectionsOf(model, size);
  return sections.map(({ entry, exit }) => `${entry} ${exit}`);
}

describe("findSections", () => {
  it("takes two layers of a chain together, the head none", async () => {
    expect(await endsOf(makeChain(6))).toEqual(["c0_relu c2_relu", "c2_relu c4_relu"]);
    expect(await endsOf(makeChain(4), "part")).toEqual(["c0_relu c1_relu", "c1_relu c2_relu"]);
  });

  it("takes the layer that narrows together with the branches behind it, as fire modules do", async () => {
    expect(await endsOf(makeFires())).toEqual(["stem_relu joined0", "joined0 joined1"]);
    expect(await endsOf(makeFires(), "part")).toEqual([
      "stem_relu squeeze0_relu",
      "squeeze0_relu joined0",
      "joined0 squeeze1_relu",
      "squeeze1_relu joined1",
    ]);
  });

  it("goes from activation function to activation function of residual blocks", async () => {
    expect(await endsOf(makeResidualNet())).toEqual(["stem_relu block0", "block0 block1", "block1 block2"]);
  });

  it("takes an attention and what follows it together, or each by itself", async () => {
    expect(await endsOf(makeTransformer())).toEqual(["embedded layer0", "layer0 layer1"]);
    expect(await endsOf(makeTransformer(), "part")).toEqual([
      "embedded attended0",
      "attended0 layer0",
      "layer0 attended1",
      "attended1 layer1",
    ]);
  });

  it("finds modules of parallel branches", async () => {
    expect(await endsOf(makeBranches())).toEqual(["stem_relu joined0", "joined0 joined1"]);
  });

  it("begins with what the network is fed where that takes more than one way", async () => {
    expect(await endsOf(makeStemless())).toEqual(["x block0", "block0 block1", "block1 block2"]);
    const { others } = await sectionsOf(makeStemless());
    expect(others).toEqual([{ label: "y_product", reason: "it ends in the outputs of the network" }]);
  });

  it.each([
    ["a chain", makeChain, "c0"],
    ["residual blocks", makeResidualNet, "stem"],
    ["branches", makeBranches, "stem"],
    ["fire modules", makeFires, "stem"],
    ["a transformer", makeTransformer, "embedded_product"],
  ])("says that the stem is left out: %s", async (_about, make, label) => {
    for (const size of ["block", "part"] as const) {
      const { others } = await sectionsOf(make(), size);
      expect(others[0]).toEqual({ label, reason: "it is the stem: nothing leads around its layers" });
    }
  });

  it("says of token numbers that they are no activations", async () => {
    const { others } = await sectionsOf(makeDecoder());
    expect(others[0]).toEqual({ label: "embedded", reason: "what enters it are no activations" });
  });

  it("does not take the shape of what is fed for a way around a stem", async () => {
    const net = new NetworkWriter();
    const stem = net.conv("x", "stem", [2, 2]);
    net.node("Reshape", [stem, net.node("Shape", ["x"], "shape")], "same");
    net.conv(net.relu("same"), "y", [2, 2]);
    const { sections, others } = await sectionsOf(net.finish({ x: someFloats([1, 2, 6, 6]) }, ["y"]));
    expect(sections).toEqual([]);
    expect(others.map(({ label }) => label)).toEqual(["stem", "y"]);
  });

  it("knows the masks that are fed beside what enters the first block", async () => {
    const net = new NetworkWriter();
    let value = "x";
    for (let i = 0; i < 2; i++) {
      const wide = net.relu(net.node("Add", [value, "mask"], `masked${i}`));
      value = net.node("Add", [net.linear(wide, `narrow${i}`, [4, 4]), value], `block${i}`);
    }
    net.node("Add", [net.linear(value, "head", [4, 4]), "mask"], "y");
    const feeds = { x: someFloats([1, 4]), mask: someFloats([1, 4], 2) };
    const { sections } = await sectionsOf(net.finish(feeds, ["y"]));
    expect(sections).toMatchObject([
      { entry: "x", exit: "block0", sides: ["mask"] },
      { entry: "block0", exit: "block1", sides: ["mask"] },
    ]);
  });

  it("says how many inputs enter what the network begins with", async () => {
    const net = new NetworkWriter();
    const inner = net.linear(net.relu(net.node("Add", ["x", "z"], "met")), "narrow", [4, 4]);
    net.linear(net.node("Add", [inner, "x"], "block"), "y", [4, 3]);
    const { sections, others } = await sectionsOf(
      net.finish({ x: someFloats([1, 4]), z: someFloats([1, 4], 2) }, ["y"]),
    );
    expect(sections).toEqual([]);
    expect(others[0]).toEqual({ label: "narrow_product", reason: "2 inputs of the network enter it" });
  });

  it("knows the masks and tables that layers of a decoder read besides", async () => {
    const { sections } = await sectionsOf(makeDecoder());
    expect(sections.map(({ exit }) => exit)).toEqual(["layer0", "layer1"].slice(-sections.length));
    for (const { sides } of sections) expect([...sides].sort()).toEqual(["cos", "mask", "sin"]);
  });

  it("says of a U-Net that more than one activation is left between its levels", async () => {
    const { others } = await sectionsOf(makeUNet());
    expect(others.map(({ reason }) => reason)).toContainEqual(
      expect.stringMatching(/^[23] activations (enter|leave) it$/),
    );
  });

  it("starts behind the pooling that nothing else goes around", async () => {
    const nodes = [
      makeNode("Conv", ["x", "a"], ["stem"]),
      makeNode("MaxPool", ["stem"], ["pooled"], { kernel_shape: [2, 2], strides: [2, 2] }),
      makeNode("Conv", ["pooled", "b"], ["left"]),
      makeNode("Conv", ["pooled", "b"], ["right"]),
      makeNode("Concat", ["left", "right"], ["joined"], { axis: 1 }),
      makeNode("Conv", ["joined", "c"], ["y"]),
    ];
    const initializers = {
      a: someFloats([2, 2, 1, 1]),
      b: someFloats([2, 2, 1, 1], 2),
      c: someFloats([2, 4, 1, 1], 3),
    };
    const model = makeTestModel({ feeds: { x: someFloats([1, 2, 6, 6]) }, nodes, outputs: ["y"], initializers });
    expect(await endsOf(model)).toEqual(["pooled joined"]);
  });

  it("starts where pictures have become tokens", async () => {
    const nodes = [
      makeNode("Conv", ["x", "a"], ["patches"]),
      makeNode("Reshape", ["patches", "flat"], ["rows"]),
      makeNode("Transpose", ["rows"], ["turned"], { perm: [0, 2, 1] }),
      makeNode("Concat", ["class", "turned"], ["joined"], { axis: 1 }),
      makeNode("Add", ["joined", "places"], ["tokens"]),
      makeNode("Relu", ["tokens"], ["normal"]),
      makeNode("MatMul", ["normal", "b"], ["wide"]),
      makeNode("Add", ["wide", "tokens"], ["first"]),
      makeNode("MatMul", ["first", "b"], ["y"]),
    ];
    const initializers = {
      a: someFloats([4, 2, 1, 1]),
      b: someFloats([4, 4], 2),
      class: someFloats([1, 1, 4], 3),
      places: someFloats([1, 10, 4], 4),
      flat: int64Tensor([3], [0, 4, 9]),
    };
    const model = makeTestModel({ feeds: { x: someFloats([1, 2, 3, 3]) }, nodes, outputs: ["y"], initializers });
    expect(await endsOf(model)).toEqual(["tokens first"]);
  });

  it.each(networks)("computes the exit from the entry and the sides alone: %s", async (_about, make) => {
    const { graph, sections, others } = await sectionsOf(make());
    for (const { reason } of others) expect(reason.length).toBeGreaterThan(10);
    for (const { entry, exit, nodes, sides } of sections) {
      const known = new Set([entry, ...sides, ...graph.initializers.keys()]);
      for (const node of nodes) {
        for (const value of readsOf(node)) expect(known).toContain(value);
        for (const output of node.outputs) known.add(output);
      }
      expect(known).toContain(exit);
    }
  });
});
