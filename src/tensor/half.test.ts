import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from "./half.js";
import { bytesOf, float32Values, tensorFromBytes } from "./tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const patterns = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

/** The pattern nearest to a value by trying: the slow, obvious way. Of two equally near ones the even one. */
function nearest(value: number, from: (bits: number) => number, largestBits: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  let low = 0;
  let high = largestBits;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from(middle) <= size) low = middle;
    else high = middle;
  }
  // Infinity stands where the next number would.
  const next = Number.isFinite(from(high)) ? from(high) : 2 * from(low) - from(low - 1);
  const [below, above] = [size - from(low), next - size];
  if (below === above) return sign | (low % 2 === 0 ? low : high);
  return sign | (below < above ? low : high);
}

const anyFloat = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true, min: -70000, max: 70000 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  // Close to a tie: half way between two half-precision numbers, and one step of a double beside it.
  fc.record({ bits: fc.nat(0x7bfe), nudge: fc.constantFrom(-1, 0, 1) }).map(({ bits, nudge }) => {
    const tie = (fromFloat16(bits) + fromFloat16(bits + 1)) / 2;
    return tie * (1 + nudge * Number.EPSILON);
  }),
);

describe("float16", () => {
  it.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [1e39, 0x7c00],
    [Number.POSITIVE_INFINITY, 0x7c00],
    [Number.NEGATIVE_INFINITY, 0xfc00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * (1 + Number.EPSILON), 0x0001],
    [-1e-60, 0x8000],
    [2 ** -14 - 2 ** -25, 0x0400],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [1 + 2 ** -11 + 2 ** -40, 0x3c01],
  ])("%f is %i", (value, bits) => {
    expect(toFloat16(value)).toBe(bits);
  });

  it("keeps every number, and every not-a-number as one", () => {
    for (const bits of patterns) {
      const value = fromFloat16(bits);
      if (Number.isNaN(value)) expect(fromFloat16(toFloat16(value))).toBeNaN();
      else if (toFloat16(value) !== bits) expect([bits, value]).toBe(toFloat16(value));
    }
  });

  it("takes the nearest number, of two equally near ones the even one", () => {
    fc.assert(
      fc.property(anyFloat, (value) => {
        expect(toFloat16(value)).toBe(nearest(value, fromFloat16, 0x7c00));
      }),
      { seed: 1, numRuns: 3000 },
    );
  });

  it("reads all patterns as the runtime does", async () => {
    const halves = tensorFromBytes("float16", [65536], bytesOf(patterns));
    const { model, feeds } = makeTestModel({
      feeds: { x: halves },
      nodes: [makeNode("Cast", ["x"], ["y"], { to: 1 })],
      outputs: ["y"],
    });
    const read = float32Values((await runModel(engine, model, feeds)).get("y")!);
    expect(float32Values(halves)).toEqual(read);
  });
});

describe("bfloat16", () => {
  it.each([
    [1, 0x3f80],
    [-0, 0x8000],
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    [1 + 2 ** -8 + 2 ** -40, 0x3f81],
    [3.4e38, 0x7f80],
    [1e300, 0x7f80],
    [2 ** -133, 0x0001],
    [2 ** -134, 0x0000],
    [-(2 ** -134) * 1.25, 0x8001],
  ])("%f is %i", (value, bits) => {
    expect(toBfloat16(value)).toBe(bits);
  });

  it("keeps every number, and every not-a-number as one", () => {
    for (const bits of patterns) {
      const value = fromBfloat16(bits);
      if (Number.isNaN(value)) expect(fromBfloat16(toBfloat16(value))).toBeNaN();
      else if (toBfloat16(value) !== bits) expect([bits, value]).toBe(toBfloat16(value));
    }
  });

  it("takes the nearest number, of two equally near ones the even one", () => {
    fc.assert(
      fc.property(anyFloat, (value) => {
        expect(toBfloat16(value)).toBe(nearest(value, fromBfloat16, 0x7f80));
      }),
      { seed: 1, numRuns: 3000 },
    );
  });
});
