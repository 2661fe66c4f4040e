import { describe, expect, it } from "vitest";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import { PairedRowsStatistic } from "./paired-rows.js";

/** A run over some samples, each of so many rows of four numbers. */
function update(statistic: PairedRowsStatistic, samples: number, rowsEach: number): void {
  const values = float32Tensor([samples * rowsEach, 4], new Float32Array(samples * rowsEach * 4));
  statistic.update([int64Tensor([3], [samples, rowsEach, 4]), values, values]);
}

describe("PairedRowsStatistic", () => {
  it("keeps as many samples as fit, whole, and counts the rows of the others", () => {
    const [whole, first, second] = Array.from({ length: 3 }, () => new PairedRowsStatistic("y", 4, 64));
    for (const statistic of [whole, first]) update(statistic, 5, 2);
    for (const statistic of [whole, second]) {
      update(statistic, 2, 3);
      // Would not fit behind all the others, and the next one would.
      update(statistic, 1, 2);
      update(statistic, 1, 1);
    }
    first.merge(second);
    for (const { samples, dropped } of [whole.result(), first.result()]) {
      expect([...samples]).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6]);
      expect(dropped).toBe(3);
    }
  });
});
