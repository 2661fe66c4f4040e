import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, runModel, someFloats, type TestModel } from "../../test/models.js";
import {
  makeDecoder,
  makeResidualNet,
  makeTransformer,
  makeTwoInputs,
  NetworkWriter,
  networks,
} from "../../test/networks.js";
import { quantizeTestModel } from "../../test/quantizing.js";
import { prepareRefinement } from "../../test/refining.js";
import { compensateSlowly } from "../../test/slow-walk.js";
import { prepareWalk, roundWeights, stepNamed, unjudgedBias, walkThrough } from "../../test/walking.js";
import { type Block, findBlocks } from "../blocks/blocks.js";
import { inBatches } from "../engine/batch.js";
import type { Engine, Feeds, HeldTensor } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import { buildGraph } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, withGraph } from "../graph/model.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks } from "../onnx/model.js";
import { gptqRounding } from "../round/gptq.js";
import { liveRanges } from "../round/live-ranges.js";
import { isFloatType } from "../tensor/element-type.js";
import { float32Tensor, float32Values, int64Tensor } from "../tensor/tensor.js";
import { type WalkInput, walk } from "./walk.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

describe("walk", () => {
  it.each(networks)("gives what going through the whole network layer by layer gives: %s", async (_about, make) => {
    const given = make();
    const [float, current, samples] = [given.model, roundWeights(given.model), samplesFor(given)];
    const { model, records } = await walkThrough(engine, float, current, samples, unjudgedBias);
    const slow = await compensateSlowly(engine, float, current, samples);
    expect(records.some((record) => record.kind === "solved")).toBe(true);
    expect(largestDifference(constantsOf(model), constantsOf(slow))).toBeLessThan(1e-4);
    expect(largestDifference(constantsOf(model), constantsOf(current))).toBeGreaterThan(0.01);
  });

  it.each([
    ["wherever a network is cut", { blocks: "every node" }],
    ["in one block", { blocks: "one" }],
    ["where nothing can be held", { mostHeldBytes: 0 }],
    ["where something can be held", { mostHeldBytes: 500 }],
  ] as const)("gives the same %s", async (_about, change) => {
    for (const make of [makeTransformer, makeTwoInputs]) {
      const { input, context } = await prepare(make());
      const { graph } = input.float;
      const blocks = "blocks" in change && change.blocks === "one" ? cutAfter(input, []) : cutAfter(input, graph.nodes);
      const other = { ...input, ...("blocks" in change ? { blocks } : change) };
      const expected = await walk(input, [stepNamed("bc").open(context)]);
      const { model, records } = await walk(other, [stepNamed("bc").open(context)]);
      expect(largestDifference(constantsOf(model), constantsOf(expected.model))).toBeLessThan(1e-5);
      expect(
        records
          .flat()
          .map(({ kind, label }) => [kind, label])
          .sort(),
      ).toEqual(
        expected.records
          .flat()
          .map(({ kind, label }) => [kind, label])
          .sort(),
      );
    }
  });

  it.each([
    ["a weight", makeSharedWeight, "float"],
    ["a grid", makeSharedGrid, { bits: 3 }],
  ] as const)("gives the same whatever is held where several nodes share %s", async (_about, make, activation) => {
    const weight = { bits: 3, rounding: { use: "gptq", target: "same" } } as const;
    const given = make();
    const prepared = await prepareRefinement(
      engine,
      given,
      { formats: [{ weight, activation }] },
      samplesFor(given, 6),
    );
    const { float, types, quantized } = prepared.task;
    const { batches } = prepared;
    const blocks = findBlocks(float.graph, types, new Set(), new Set());
    const context = {
      float: float.graph,
      types,
      layers: [],
      plans: [],
      current: quantized.model.graph,
      batches: batches.length,
    };
    const groups = quantized.groups.filter(({ format }) => format.rangeFrom === "quantized");
    const results = [];
    for (const mostHeldBytes of [0, 1e9]) {
      const steps = [gptqRounding(quantized.unrounded), liveRanges(groups, blocks)];
      const input = { engine, float, current: quantized.model, types, blocks, batches, mostHeldBytes };
      const opened = steps.map((step) => step.open(context));
      results.push(await walk(input, opened));
    }
    const [first, second] = results;
    expect(second.records).toEqual(first.records);
    expect(joinChunks(encodeModel(second.model).chunks)).toEqual(joinChunks(encodeModel(first.model).chunks));
  });

  it("gives the same whatever the size of batches", async () => {
    const { input, context } = await prepare(makeResidualNet(), 7);
    const expected = await walk(input, [stepNamed("bc").open(context)]);
    for (const size of [2, 16]) {
      const batches = [];
      for await (const batch of inBatches(input.batches, size)) batches.push(batch);
      expect(batches).toHaveLength(Math.ceil(7 / size));
      const { model } = await walk({ ...input, batches }, [stepNamed("bc").open(context)]);
      expect(largestDifference(constantsOf(model), constantsOf(expected.model))).toBeLessThan(1e-5);
    }
  });

  it("takes samples of different lengths", async () => {
    const { model: float } = makeDecoder();
    const tokens = Array.from({ length: 12 }, (_, i) => (37 * i) % 1000);
    const samples = [1, 7, 3, 12].map(
      (length): Feeds => new Map([["ids", int64Tensor([1, length], tokens.slice(0, length))]]),
    );
    const opened = openShape(float);
    const { model } = await walkThrough(engine, opened, roundWeights(opened), samples, unjudgedBias);
    const slow = await compensateSlowly(engine, opened, roundWeights(opened), samples);
    expect(largestDifference(constantsOf(model), constantsOf(slow))).toBeLessThan(1e-4);
  });

  it("brings the outputs nearer to those of the float network", async () => {
    const given = makeResidualNet();
    const [float, current, samples] = [given.model, roundWeights(given.model), samplesFor(given)];
    const { model } = await walkThrough(engine, float, current, samples);
    const difference = async (other: Model) => {
      const differences = samples.map(async (feeds) =>
        largestDifference(await runModel(engine, float, feeds), await runModel(engine, other, feeds)),
      );
      return (await Promise.all(differences)).reduce((sum, value) => sum + value, 0);
    };
    expect(await difference(model)).toBeLessThan(0.6 * (await difference(current)));
  });

  it("goes past a table that is the last layer's weight too, turned around", async () => {
    const net = new NetworkWriter();
    const turned = net.node("Transpose", [net.weight("table", [64, 64])], "turned");
    let value = net.node("Gather", ["table", "ids"], "looked_up");
    for (let i = 0; i < 6; i++) value = net.node("Tanh", [net.linear(value, `linear${i}`, [64, 64])], `hidden${i}`);
    net.node("MatMul", [value, turned], "y");
    const given = net.finish({ ids: int64Tensor([1, 5], [1, 4, 9, 16, 25]) }, ["y"]);
    const { report, model } = await quantizeTestModel(engine, given, {
      formats: [{ weight: { bits: 4 } }],
      steps: ["bc"],
    });
    expect(report.blocks).toBeGreaterThan(3);
    const skipped = report.steps[0].sites.filter(({ kind }) => kind === "skipped");
    expect(skipped.map(({ label }) => label)).toEqual(["looked_up"]);
    expect((await runModel(engine, model, given.feeds)).size).toBe(1);
  });

  it("minds no value that is named like its own", async () => {
    const given = makeResidualNet();
    const { graph } = given.model;
    const named = joinGraphs(
      graph,
      "float/",
      buildGraph({ ...graph, nodes: [], outputs: [], inputs: [], initializers: new Map() }),
      new Set(),
    );
    const float = withGraph(given.model, named);
    const samples = samplesFor(given).map(
      (feeds) => new Map([...feeds].map(([name, tensor]) => [`float/${name}`, tensor])),
    );
    const { model } = await walkThrough(engine, float, roundWeights(float), samples);
    const { model: expected } = await walkThrough(engine, given.model, roundWeights(given.model), samplesFor(given));
    const bytes = ({ graph: { initializers } }: Model) => [...initializers.values()].map((tensor) => tensor.bytes());
    expect(bytes(model)).toEqual(bytes(expected));
  });

  it("gives the same bytes where held tensors have no place in memory", async () => {
    const onDisk = createRuntimeEngine({ threads: 1, memoryBytes: 0 });
    for (const make of [makeTransformer, makeTwoInputs]) {
      const { input, context } = await prepare(make());
      const expected = await walk(input, [stepNamed("bc").open(context)]);
      const { model, records } = await walk({ ...input, engine: onDisk }, [stepNamed("bc").open(context)]);
      const [bytes, expectedBytes] = [model, expected.model].map((given) => joinChunks(encodeModel(given).chunks));
      expect(bytes).toEqual(expectedBytes);
      expect(records).toEqual(expected.records);
    }
    await onDisk.close();
  });

  it("says how far it is, from 0 to 1", async () => {
    const { input, context } = await prepare(makeTransformer());
    const told: number[] = [];
    await walk(input, [stepNamed("bc").open(context)], { onProgress: (done) => told.push(done) });
    expect(told).toEqual([...told].sort((a, b) => a - b));
    expect(told[0]).toBeGreaterThan(0);
    expect(told.at(-1)).toBe(1);
  });

  it("gives the same bytes twice, on one thread and on two", async () => {
    const given = makeWideNet();
    const [float, current, samples] = [given.model, roundWeights(given.model, 0.7), samplesFor(given, 3)];
    const results = [
      await walkThrough(engine, float, current, samples),
      await walkThrough(engine, float, current, samples),
    ];
    const two = createRuntimeEngine({ threads: 2 });
    results.push(await walkThrough(two, float, current, samples));
    await two.close();
    const [first, second, third] = results.map(({ model }) => joinChunks(encodeModel(model).chunks));
    expect(second).toEqual(first);
    expect(third).toEqual(first);
  });
});

describe("the tensors that walk holds", () => {
  it.each([1e9, 2000, 0])("are all released when at most %d bytes may be held", async (mostHeldBytes) => {
    for (const make of [makeResidualNet, makeTwoInputs]) {
      const { input, context } = await prepare(make());
      const counting = countHeld(engine);
      await walk({ ...input, engine: counting.engine, mostHeldBytes }, [stepNamed("bc").open(context)]);
      expect(counting.held.size).toBe(0);
      expect(counting.total()).toBeGreaterThan(0);
    }
  });

  it.each([1, 12, 25, 40])("are all released when run %d fails", async (failing) => {
    const { input, context } = await prepare(makeResidualNet());
    const counting = countHeld(engine, failing);
    const work = walk({ ...input, engine: counting.engine }, [stepNamed("bc").open(context)]);
    await expect(work).rejects.toMatchObject({ code: "engine/run" });
    expect(counting.held.size).toBe(0);
  });

  it("are all released when the runtime does not take a batch", async () => {
    const { input, context } = await prepare(makeResidualNet());
    const counting = countHeld(engine);
    let batches = 0;
    const full: Engine = {
      ...counting.engine,
      async hold(tensors) {
        if (++batches === 3) throw new RecoupError("engine/crashed", "a fault");
        return counting.engine.hold(tensors);
      },
    };
    const work = walk({ ...input, engine: full }, [stepNamed("bc").open(context)]);
    await expect(work).rejects.toMatchObject({ code: "engine/crashed" });
    expect(counting.total()).toBeGreaterThan(0);
    expect(counting.held.size).toBe(0);
  });

  it("are those of a cut and of one depth", async () => {
    const { input, context } = await prepare(makeResidualNet(12));
    const counting = countHeld(engine);
    await walk({ ...input, engine: counting.engine }, [stepNamed("bc").open(context)]);
    const picture = 4 * 4 * 6 * 6 * context.batches;
    // Both networks at a cut and at two depths; there are 26 convolutions.
    expect(counting.mostBytes()).toBeLessThanOrEqual(6 * picture);
  });
});

async function prepare(given: TestModel, count = 4) {
  return prepareWalk(engine, given.model, roundWeights(given.model), samplesFor(given, count));
}

/** Feeds like those of a network, but of other numbers. */
function samplesFor({ feeds }: TestModel, count = 5): readonly Feeds[] {
  const tensorFor = (name: string, seed: number) => {
    const like = feeds.get(name)!;
    if (like.type !== "int64") return someFloats(like.shape, 100 + seed);
    return int64Tensor(
      like.shape,
      Array.from({ length: like.shape[1] }, (_, i) => (17 * seed + 5 * i) % 1000),
    );
  };
  return Array.from({ length: count }, (_, i) => new Map([...feeds.keys()].map((name) => [name, tensorFor(name, i)])));
}

/** A weight that is read deep down and at once; what reads it at once is looked at before and after. */
function makeSharedWeight(): TestModel {
  const net = new NetworkWriter();
  net.weight("shared", [6, 6]);
  const hidden = net.node("Tanh", [net.linear("x", "hidden", [6, 6])], "hidden_tanh");
  const deep = net.node("MatMul", [hidden, "shared"], "deep");
  const near = net.node("Tanh", [net.node("MatMul", ["x", "shared"], "near")], "near_tanh");
  const sum = net.node("Add", [deep, net.linear(near, "first", [6, 6])], "sum");
  const behind = net.node("Add", [near, net.linear(sum, "behind", [6, 6])], "behind_sum");
  net.linear(behind, "y", [6, 4]);
  return net.finish({ x: someFloats([5, 6], 91) }, ["y"]);
}

/** A Concat whose first input is read before the second one is there, which decides on the grid of both. */
function makeSharedGrid(): TestModel {
  const net = new NetworkWriter();
  const near = net.relu(net.conv("x", "near", [3, 2]));
  const side = net.relu(net.conv(near, "side", [3, 3]));
  let deep = "x";
  for (const [i, from] of [2, 3, 3].entries()) deep = net.relu(net.conv(deep, `deep${i}`, [3, from]));
  // About as large as the first input, else the Concat reads both on grids of their own.
  for (const name of ["deep2_w", "deep2_b"]) {
    const tensor = net.initializers[name];
    const values = float32Values(tensor).map((value) => value * 0.17);
    net.constant(name, float32Tensor(tensor.shape, values));
  }
  const both = net.relu(net.conv(net.node("Concat", [near, deep], "joined", { axis: 1 }), "both", [3, 6]));
  net.conv(net.node("Add", [both, side], "sum"), "y", [2, 3]);
  return net.finish({ x: someFloats([1, 2, 6, 6], 90) }, ["y"]);
}

function constantsOf(model: Model): Feeds {
  return new Map([...model.graph.initializers].filter(([, tensor]) => isFloatType(tensor.type)));
}

/** Blocks that end behind some nodes, whatever is live there. */
function cutAfter({ float, types }: WalkInput, nodes: Iterable<Block["nodes"][number]>): readonly Block[] {
  return findBlocks(float.graph, types, new Set(nodes), new Set());
}

function openShape(model: Model): Model {
  const inputs = model.graph.inputs.map((input) => ({
    ...input,
    type: { kind: "tensor", elementType: "int64", shape: ["batch", "length"] } as const,
  }));
  return withGraph(model, buildGraph({ ...model.graph, inputs }));
}

/** Wide enough that the runtime divides its work among threads. */
function makeWideNet(): TestModel {
  const net = new NetworkWriter();
  const first = net.relu(net.conv("x", "first", [32, 3]));
  const second = net.relu(net.conv(first, "second", [64, 32]));
  const tokens = net.node("Transpose", [second], "tokens", { perm: [0, 2, 3, 1] });
  net.linear(net.linear(tokens, "wide", [64, 256]), "y", [256, 64]);
  return net.finish({ x: someFloats([1, 3, 24, 24], 93) }, ["y"]);
}

/** The engine, with a count of what it holds. One of its runs may fail. */
function countHeld(engine: Engine, failing?: number) {
  const held = new Map<number, number>();
  let [runs, total, bytes, mostBytes] = [0, 0, 0, 0];
  const add = (tensors: ReadonlyMap<string, HeldTensor>) => {
    for (const { held: id, shape } of tensors.values()) {
      held.set(id, 4 * shape.reduce((a, b) => a * b, 1));
      bytes += held.get(id)!;
      total++;
    }
    mostBytes = Math.max(mostBytes, bytes);
    return tensors;
  };
  const count = () => {
    if (++runs === failing) throw new RecoupError("engine/run", "a fault");
  };
  const counting: Engine = {
    name: "counting",
    async open(model, options) {
      const session = await engine.open(model, options);
      return {
        ...session,
        run: async (...given) => {
          count();
          return session.run(...given);
        },
        runAndHold: async (...given) => {
          count();
          return add(await session.runAndHold(...given));
        },
      };
    },
    hold: async (tensors) => add(await engine.hold(tensors)),
    async release(tensors) {
      for (const { held: id } of tensors) {
        expect(held.has(id)).toBe(true);
        bytes -= held.get(id) ?? 0;
        held.delete(id);
      }
      await engine.release(tensors);
    },
    close: () => engine.close(),
  };
  return { engine: counting, held, total: () => total, mostBytes: () => mostBytes };
}
