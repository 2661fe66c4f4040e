import { afterAll, describe, expect, it } from "vitest";
import { nearest } from "../../test/fake-quantize.js";
import { makeBody, makeIf, makeTestModel, someFloats, type TestModel, yes } from "../../test/models.js";
import { quantizeTestModel } from "../../test/quantizing.js";
import { type Feeds, withSession } from "../engine/engine.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { QuantizeOutcome } from "../pipeline.js";
import { float32Values } from "../tensor/tensor.js";
import type { Bits } from "./format.js";
import { codesInUse, tableOf } from "./spacing.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([1, 4, 6, 6]);
const initializers = { w: someFloats([8, 4, 3, 3], 2), v: someFloats([8, 8, 3, 3], 3) };

/** `a` comes out of an integer kernel; `y` needs it in few bits, `z` in float. */
const branched = makeTestModel({
  feeds: { x },
  nodes: [
    makeNode("Conv", ["x", "w"], ["a"]),
    makeNode("Conv", ["a", "v"], ["b"]),
    makeNode("Tanh", ["b"], ["y"]),
    makeNode("Tanh", ["a"], ["z"]),
  ],
  initializers,
  outputs: ["y", "z"],
});

function quantizeTo(test: TestModel, bits: Bits, symmetric = false): Promise<QuantizeOutcome> {
  return quantizeTestModel(engine, test, { formats: [{ activation: { bits, symmetric } }] });
}

async function tap(
  { model }: QuantizeOutcome,
  feeds: Feeds,
  taps: readonly string[],
): Promise<readonly Float32Array[]> {
  return withSession(engine, model, { taps }, async (session) => {
    const { outputs } = await session.run(feeds);
    return taps.map((name) => float32Values(outputs.get(name)!));
  });
}

/** The grid for the range that the report gives, and what becomes of a value on it. */
function fakeQuantizer({ report }: QuantizeOutcome, value: string, symmetric: boolean) {
  const { low, high, bits } = report.activations.find(({ values }) => values.includes(value))!;
  const top = 2 ** bits - 1;
  const half = 2 ** (bits - 1);
  const ends = [Math.min(low, 0), Math.max(high, 0)];
  const scale = Math.fround(symmetric ? Math.max(-ends[0], ends[1]) / (half - 1) : (ends[1] - ends[0]) / top);
  const zero = symmetric ? half : nearest(-ends[0] / scale);
  const limit = (code: number) => Math.min(Math.max(code, 0), top);
  return (real: number) => Math.fround((limit(nearest(Math.fround(real / scale)) + zero) - zero) * scale);
}

describe("the shares of attention below 8 bits", () => {
  const attention = makeTestModel({
    feeds: { x },
    nodes: [
      makeNode("Softmax", ["x"], ["shares"], { axis: -1 }),
      makeNode("MatMul", ["shares", "x"], ["mixed"]),
      makeNode("Conv", ["mixed", "w"], ["y"]),
    ],
    initializers: { w: initializers.w },
    outputs: ["y"],
  });

  it.each([
    ["log", 4],
    ["log", 3],
    ["twin", 4],
    ["twin", 6],
  ] as const)("have the levels of their grid: %s, %i bits", async (softmax, bits) => {
    const outcome = await quantizeTestModel(engine, attention, { formats: [{ activation: { bits, softmax } }] });
    const record = outcome.report.activations.find(({ values }) => values.includes("shares"))!;
    expect(record).toMatchObject({ bits, spacing: softmax });
    const [given, read] = await tap(outcome, attention.feeds, ["shares", "shares_dequantized"]);
    const scale = Math.fround(record.high / 255);
    const codes = codesInUse(softmax, bits);
    const table = tableOf(codes);
    expect(read).toEqual(
      given.map((share) => Math.fround(scale * table[Math.min(nearest(Math.fround(share / scale)), 255)])),
    );
    expect(new Set(read).size).toBeGreaterThan(codes.length / 3);
  });
});

describe("values below 8 bits", () => {
  const cases = ([2, 3, 4, 5, 6, 7] as const).flatMap((bits) =>
    [true, false].map((symmetric) => ({ bits, symmetric })),
  );

  it.each(cases)("have the levels of their grid, at $bits bits, symmetric $symmetric", async ({ bits, symmetric }) => {
    const outcome = await quantizeTo(branched, bits, symmetric);
    const [given, input, real, few, many] = await tap(outcome, branched.feeds, [
      "x",
      "x_dequantized",
      "a",
      "a_dequantized",
      "a_fine_dequantized",
    ]);
    expect(input).toEqual(given.map(fakeQuantizer(outcome, "x", symmetric)));
    expect(few).toEqual(real.map(fakeQuantizer(outcome, "a", symmetric)));
    expect(new Set(few).size).toBeLessThanOrEqual(2 ** bits);
    expect(new Set(few).size).toBeGreaterThan(2 ** (bits - 2));
    // The finer grid that readers in float see has an odd number of steps in one of the coarser.
    const finer = bits === 7 ? 1 : 3;
    const step = (values: Float32Array) => Math.min(...values.map(Math.abs).filter((value) => value > 0));
    expect(step(few) / step(many)).toBeGreaterThanOrEqual(finer - 1e-3);
  });

  it("are read by layers alone: other readers get more bits, or the value as it is", async () => {
    const { model } = await quantizeTo(branched, 4);
    const inputOf = (output: string) => model.graph.producer(output)?.inputs[0];
    expect(inputOf("b")).toBe("a_dequantized");
    expect(inputOf("z")).toBe("a_fine_dequantized");
  });

  it("have one grid where everybody reads it", async () => {
    const { model } = await quantizeTo(
      makeTestModel({
        feeds: { x },
        nodes: [
          makeNode("Conv", ["x", "w"], ["a"]),
          makeNode("MaxPool", ["a"], ["m"], { kernel_shape: [2, 2] }),
          makeNode("Conv", ["m", "v"], ["b"]),
          makeNode("Tanh", ["b"], ["y"]),
        ],
        initializers,
        outputs: ["y"],
      }),
      4,
    );
    expect([...model.graph.initializers.keys()].filter((name) => name.endsWith("_scale")).sort()).toEqual([
      "b_scale",
      "m_scale",
      "v_scale",
      "w_scale",
      "x_scale",
    ]);
  });
});

describe("writeActivations", () => {
  it("leaves the value to readers that did not ask, where it exists in float", async () => {
    const test = makeTestModel({
      feeds: { x },
      nodes: [
        makeNode("Tanh", ["x"], ["t"]),
        makeNode("Conv", ["t", "w"], ["a"]),
        makeNode("Tanh", ["a"], ["y"]),
        makeNode("Neg", ["t"], ["z"]),
      ],
      initializers,
      outputs: ["y", "z"],
    });
    const { model } = await quantizeTo(test, 8);
    expect(model.graph.producer("z")?.inputs).toEqual(["t"]);
    expect(model.graph.producer("a")?.inputs[0]).toBe("t_dequantized");
  });

  it("reaches into the bodies of control flow", async () => {
    const body = (opType: string) => makeBody(["inner"], [makeNode(opType, ["a"], ["inner"])]);
    const test = makeTestModel({
      feeds: { x, c: yes },
      nodes: [
        makeNode("Conv", ["x", "w"], ["a"]),
        makeNode("Conv", ["a", "v"], ["b"]),
        makeNode("Tanh", ["b"], ["y"]),
        makeIf("z", body("Neg"), body("Relu")),
      ],
      initializers,
      outputs: ["y", "z"],
    });
    const { model } = await quantizeTo(test, 8);
    expect(model.graph.consumers("a").map((node) => node.opType)).toEqual(["QuantizeLinear"]);
    expect(model.graph.consumers("a_dequantized").map((node) => node.opType)).toEqual(["Conv", "If"]);
  });
});
