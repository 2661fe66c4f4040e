import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { Tensor } from "../tensor/tensor.js";
import { float32Tensor, floatTensor } from "../tensor/tensor.js";
import { observe } from "./observe.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

async function distributionOfTensor(x: Tensor, opset = 17) {
  const { model } = makeTestModel({ opset, feeds: { x }, nodes: [makeNode("Identity", ["x"], ["y"])], outputs: ["y"] });
  async function* once() {
    yield { id: "sample", feeds: new Map([["x", x]]) };
  }
  const seen = await observe(engine, model, new Map([["y", "distribution"]]), once(), () => {});
  const distribution = seen.result().get("y")?.distribution;
  if (distribution === undefined) throw new Error("no distribution");
  return distribution;
}

/** Rows of a value per channel: 0 in the first, 1 in the second … */
const channels = (rows: number, width: number) =>
  float32Tensor(
    [1, rows, width],
    Float32Array.from({ length: rows * width }, (_, i) => i % width),
  );

describe("HistogramStatistic", () => {
  it.each([
    [5, 8],
    [100, 192],
    [1000, 64],
    [4096, 192],
    [3000, 29],
    [2000, 7 * 49],
  ])("takes all of few values, and of %i x %i every channel's share", async (rows, width) => {
    const found = await distributionOfTensor(channels(rows, width));
    const size = rows * width;
    if (size <= 16_384) expect(found.count).toBe(size);
    else {
      expect(found.count).toBeLessThanOrEqual(16_384);
      expect(found.count).toBeGreaterThan(16_384 / 11);
    }
    for (let channel = 0; channel < width; channel++) {
      const share = found.countBelow(channel + 0.5) - found.countBelow(channel - 0.5);
      expect(share / (found.count / width)).toBeGreaterThan(0.5);
    }
  });

  it.each([11, 13])("does so at operator set %i", async (opset) => {
    expect((await distributionOfTensor(channels(1000, 64), opset)).count).toBeGreaterThan(5000);
  });

  it("counts what half precision cannot hold at its ends", async () => {
    const found = await distributionOfTensor(float32Tensor([4], [-1e6, 1, 2, 1e5]));
    expect([found.count, found.low, found.high]).toEqual([4, -65504, 65504]);
  });

  it("looks at half precision and double precision too", async () => {
    for (const type of ["float16", "float64"] as const) {
      const found = await distributionOfTensor(floatTensor(type, [3], [-1, 0.5, 4]));
      expect([found.low, found.mean, found.high]).toEqual([-1, 3.5 / 3, 4]);
    }
  });
});
