import { afterAll, describe, expect, it } from "vitest";
import type { Feeds } from "../src/engine/engine.js";
import { signalNoise, sqnrDb } from "../src/evaluate/outputs.js";
import {
  buildGraph,
  type Dimension,
  type Graph,
  type GraphParts,
  type Node,
  subgraphsOf,
  type Value,
} from "../src/graph/graph.js";
import type { Model } from "../src/graph/model.js";
import { collectNames } from "../src/graph/names.js";
import { makeNode } from "../src/graph/node.js";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import { encodeModel, joinChunks, readModel } from "../src/onnx/model.js";
import type { RecipeInput } from "../src/recipe/recipe.js";
import { steps } from "../src/steps.js";
import type { ElementType } from "../src/tensor/element-type.js";
import { float32Values, int64Tensor, type Tensor } from "../src/tensor/tensor.js";
import { makeIf, runModel, someFloats, type TestModel, yes } from "./models.js";
import { NetworkWriter } from "./networks.js";
import { quantizeTestModel } from "./quantizing.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const untyped = (name: string): Value => ({ name, type: { kind: "other" } });

interface BodyParts extends Pick<GraphParts, "nodes"> {
  readonly inputs?: readonly (readonly [name: string, type: ElementType, shape: readonly Dimension[]])[];
  readonly outputs: readonly string[];
}

function makeBodyOf({ inputs = [], outputs, nodes }: BodyParts): Graph {
  const typed = inputs.map(([name, elementType, shape]): Value => {
    return { name, type: { kind: "tensor", elementType, shape } };
  });
  const values = { inputs: typed, outputs: outputs.map(untyped) };
  return buildGraph({ name: "body", ...values, nodes, initializers: new Map(), valueInfo: new Map() }, true);
}

/**
 * Layers around a Loop that reads a layer's output and another layer's weight, a Scan that reads a bias, and an If in an
 * If that reads three layers.
 *
 * @param inner the names inside of bodies, in the order of their use; `inner0` and so on where there are none
 */
function makeNet(inner: readonly string[] = []): TestModel {
  const names = new Map<string, string>();
  const own = (wished: string) => {
    const name = names.get(wished) ?? inner[names.size] ?? `inner${names.size}`;
    names.set(wished, name);
    return name;
  };
  const net = new NetworkWriter();
  net.constant("c", yes);
  net.constant("trips", int64Tensor([], [2]));
  const first = net.relu(net.linear("x", "first", [6, 8]));
  const loop = makeBodyOf({
    inputs: [
      [own("i"), "int64", []],
      [own("go"), "bool", []],
      [own("state"), "float32", ["batch", 8]],
    ],
    outputs: [own("still"), own("next")],
    nodes: [
      makeNode("Identity", [own("go")], [own("still")]),
      makeNode("MatMul", [own("state"), "second_w"], [own("product")]),
      makeNode("Tanh", [own("product")], [own("bent")]),
      makeNode("Add", [own("bent"), first], [own("next")]),
    ],
  });
  net.node("Loop", ["trips", "", first], "looped", { body: { kind: "graph", value: loop } });
  const second = net.linear("looped", "second", [8, 8]);
  const scan = makeBodyOf({
    inputs: [[own("row"), "float32", [8]]],
    outputs: [own("scaled")],
    nodes: [makeNode("Add", [own("row"), "second_b"], [own("scaled")])],
  });
  net.node("Scan", [second], "scanned", { body: { kind: "graph", value: scan }, num_scan_inputs: 1 });
  const third = net.relu(net.linear("scanned", "third", [8, 8]));
  const leaf = (opType: string, name: string) =>
    makeBodyOf({ outputs: [own(name)], nodes: [makeNode(opType, [second, first], [own(name)])] });
  const nested = makeBodyOf({
    outputs: [own("sum")],
    nodes: [
      makeIf(own("picked"), leaf("Sub", "less"), leaf("Mul", "times")),
      makeNode("Add", [own("picked"), third], [own("sum")]),
    ],
  });
  net.nodes.push(makeIf("chosen", nested, leaf("Add", "other")));
  net.linear("chosen", "y", [8, 3]);
  return net.finish({ x: someFloats([1, 6], 94) }, ["y"]);
}

const samples = Array.from({ length: 8 }, (_, i): Feeds => new Map([["x", someFloats([1, 6], 40 + i)]]));

async function sqnrOf(float: Model, quantized: Model): Promise<number> {
  const sums = { signal: 0, noise: 0 };
  for (const feeds of samples) {
    const [wanted, found] = [await runModel(engine, float, feeds), await runModel(engine, quantized, feeds)];
    const { signal, noise } = signalNoise(floatsOf(wanted.get("y")), floatsOf(found.get("y")));
    sums.signal += signal;
    sums.noise += noise;
  }
  return sqnrDb(sums);
}

function floatsOf(tensor: Tensor | undefined): Float32Array {
  return float32Values(tensor as Tensor);
}

/** Names of bodies that hide a name of a graph around them. */
function hidden(graph: Graph, outer: ReadonlySet<string> = new Set()): readonly string[] {
  const own = [
    ...graph.inputs.map(({ name }) => name),
    ...graph.initializers.keys(),
    ...graph.nodes.flatMap((n) => n.outputs),
  ];
  const visible = new Set([...outer, ...own]);
  const inside = graph.nodes.flatMap(subgraphsOf).flatMap((body) => hidden(body, visible));
  return [...own.filter((name) => name !== "" && outer.has(name)), ...inside];
}

function namesOf({ graph }: Model): ReadonlySet<string> {
  const names = new Set<string>();
  collectNames(graph, names);
  return names;
}

/** The nodes inside bodies, whatever their values are called. */
function shapeOf(graph: Graph): unknown {
  const bodies = (node: Node): unknown => [
    node.opType,
    node.inputs.length,
    subgraphsOf(node).map((b) => b.nodes.map(bodies)),
  ];
  return graph.nodes.filter((node) => subgraphsOf(node).length > 0).map(bodies);
}

const low: RecipeInput["formats"] = [{ weight: { bits: 4, rounding: { use: "gptq" } }, activation: { bits: 8 } }];
type Case = readonly [about: string, recipe: RecipeInput, leastDb: number];

const recipes: readonly Case[] = [
  ["8 bits", {}, 25],
  ["8 bits as int8", { storage: "int8" }, 25],
  ["4-bit weights in the standard's types", { storage: "onnx", formats: low }, 8],
  ["4-bit weights and activations", { formats: [{ weight: { bits: 4 }, activation: { bits: 4 } }] }, 2],
  ...steps.map(({ name }): Case => [`4-bit weights and ${name}`, { formats: low, steps: [name] }, 8]),
];

describe("a network with values that Loop, Scan and If read from outside", () => {
  it.each(recipes)("keeps them whole: %s", async (_about, recipe, leastDb) => {
    const { model } = makeNet();
    const quantized = await quantizeTestModel(engine, makeNet(), recipe, samples);
    const read = readModel(joinChunks(encodeModel(quantized.model).chunks));
    expect(quantized.report.layers.map(({ name }) => name)).toContain("third_product");
    expect(hidden(read.graph)).toEqual([]);
    expect(shapeOf(read.graph)).toEqual(shapeOf(model.graph));
    expect(await sqnrOf(model, read)).toBeGreaterThan(leastDb);

    // Bodies whose own names are those that were made up just now.
    const made = [...namesOf(read)].filter((name) => !namesOf(model).has(name));
    const taken = makeNet(made);
    expect(hidden(taken.model.graph)).toEqual([]);
    const again = await quantizeTestModel(engine, taken, recipe, samples);
    expect(hidden(again.model.graph)).toEqual([]);
    expect(await sqnrOf(taken.model, again.model)).toBeCloseTo(await sqnrOf(model, read), 3);
  });

  it("does not quantize a weight that a body reads, and says so", async () => {
    const { report } = await quantizeTestModel(engine, makeNet(), {}, samples);
    const reasons = new Map(report.skipped.map(({ name, reason }) => [name, reason]));
    expect(reasons.get("second_product")).toBe("a subgraph reads second_w too");
    expect(reasons.get("looped")).toBe("layers inside Loop are not quantized: it holds 1");
  });
});

describe("an initializer that is an input too", () => {
  it("is a default that callers may override: no weight, no bias, no constant", async () => {
    const made = makeNet();
    const { graph } = made.model;
    const defaults = ["third_w", "y_b"];
    const inputs = defaults.map((name): Value => {
      const { type, shape } = graph.initializers.get(name) as Tensor;
      return { name, type: { kind: "tensor", elementType: type, shape } };
    });
    const model = { ...made.model, graph: buildGraph({ ...graph, inputs: [...graph.inputs, ...inputs] }) };
    for (const step of steps) {
      const recipe = { formats: low, steps: [step.name] };
      const quantized = await quantizeTestModel(engine, { ...made, model }, recipe, samples);
      const read = readModel(joinChunks(encodeModel(quantized.model).chunks));
      expect(read.graph.inputs.map(({ name }) => name)).toEqual(["x", ...defaults]);
      expect(quantized.report.layers.map(({ name }) => name)).not.toContain("third_product");
      const override = new Map([...samples[0], ["y_b", someFloats([3], 7)] as const]);
      const [before, after] = [await runModel(engine, model, override), await runModel(engine, read, override)];
      const noise = signalNoise(floatsOf(before.get("y")), floatsOf(after.get("y")));
      expect(sqnrDb(noise), step.name).toBeGreaterThan(8);
    }
  });
});
