import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel } from "../../test/models.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, float64Values, type Tensor } from "../tensor/tensor.js";
import { type NodeWriter, writeExponential, writeLogarithm } from "./curve.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Relative to the largest number of an array, as the oracle's own page has it for float32. */
const tolerance = 2e-5;
/** What float32 cannot tell from a straight line; compensation takes one there. */
const leastAlpha = 1e-3;

describe.skipIf(!sharedFolder)("the signed logarithm and its inverse against the reference program", () => {
  const arrays = sharedFolder ? readNpz(readFileSync(sharedPath("oracles", "nbc-transform.npz"))) : new Map();
  const numbers = (name: string) => float64Values(arrays.get(name) as Tensor);
  /** One of a stack of arrays. */
  const part = (name: string, index: number, size: number) => numbers(name).subarray(index * size, (index + 1) * size);
  const isCurved = (alpha: number) => alpha >= leastAlpha;

  it("bends as the reference does, and back", async () => {
    const [x, scales] = [numbers("x"), numbers("scale")];
    for (const [i, alpha] of numbers("alpha").entries()) {
      if (!isCurved(alpha)) continue;
      for (const [j, scale] of scales.entries()) {
        // A factor in front is a matter of the matrix.
        const place = i * scales.length + j;
        const bent = await compute(x, (writer) => writeLogarithm(writer, "x", alpha / scale));
        expectClose(times(bent, scale / alpha), part("blt", place, x.length));
        const back = await compute(bent, (writer) => writeExponential(writer, "x", alpha / scale, unlimited, []));
        expectClose(back, part("inverse_of_blt", place, x.length));
      }
    }
  });

  it("has the same inverse", async () => {
    const z = numbers("z");
    for (const [i, alpha] of numbers("alpha").entries()) {
      if (!isCurved(alpha)) continue;
      const found = await compute(times(z, alpha), (writer) => writeExponential(writer, "x", alpha, unlimited, []));
      expectClose(found, part("inverse", i, z.length));
    }
  });

  it("has the form without parameters, to any base", async () => {
    const found = await compute(numbers("x"), (writer) => writeLogarithm(writer, "x", 1));
    expectClose(found, numbers("plain"));
    expectClose(times(found, 1 / Math.LN2), numbers("plain_log2"));
  });
});

const unlimited = Float32Array.of(Number.POSITIVE_INFINITY);

function times(values: ArrayLike<number>, factor: number): Float64Array {
  return Float64Array.from(values, (value) => value * factor);
}

/** What nodes make of the value `x`. */
async function compute(x: ArrayLike<number>, write: (writer: NodeWriter) => string): Promise<Float32Array> {
  const nodes: ReturnType<typeof makeNode>[] = [];
  const initializers: Record<string, Tensor> = {};
  const writer: NodeWriter = {
    node(opType, inputs, attributes) {
      nodes.push(makeNode(opType, inputs, [`v${nodes.length}`], attributes));
      return `v${nodes.length - 1}`;
    },
    constant(tensor) {
      const name = `c${Object.keys(initializers).length}`;
      initializers[name] = tensor;
      return name;
    },
  };
  const output = write(writer);
  const feeds = { x: float32Tensor([x.length], Array.from(x)) };
  const { model, feeds: fed } = makeTestModel({ feeds, nodes, initializers, outputs: [output] });
  return float32Values((await runModel(engine, model, fed)).get(output) as Tensor);
}

function expectClose(actual: ArrayLike<number>, expected: Float64Array): void {
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  expect(actual).toHaveLength(expected.length);
  const largest = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - actual[i])), 0);
  expect(largest / scale).toBeLessThan(tolerance);
}
