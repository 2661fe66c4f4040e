import { describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { rangeEstimators } from "../quantize/estimators/index.js";
import type { WeightFormat } from "../quantize/format.js";
import { nearestCodes } from "../quantize/weight.js";
import { chooseWeightGrids } from "../quantize/weight-grid.js";
import { toRows } from "../tensor/rows.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import { planSplits, planWithoutSplits, type SplitPlan, type SplitTask } from "./plan-splits.js";
import { type SplitRule, splitWeight } from "./split-columns.js";
import { fromColumns, toColumns, type WeightLayout } from "./weight-columns.js";

const layout: WeightLayout = { rowAxis: 0, inputAxis: 1, groups: 1 };
const rule: SplitRule = { count: 2, split: "aware", again: true };
const tensor = (() => {
  const plain = someFloats([6, 8, 2], 3);
  const spiked = float32Values(plain).map((value, i) => (Math.floor(i / 2) % 8 === 5 ? 6 * value : value));
  return float32Tensor(plain.shape, spiked);
})();

const formatOf = (bits: 3 | 4, kind: "per-tensor" | "per-channel", symmetric: boolean): WeightFormat => ({
  bits,
  symmetric,
  granularity: { kind },
  range: "mse",
});
const formats = [
  formatOf(4, "per-tensor", true),
  formatOf(3, "per-tensor", false),
  formatOf(4, "per-channel", true),
  formatOf(3, "per-channel", false),
];

/** What rounding the split weight and adding up its pieces does, written out. */
function foldedErrorOf(format: WeightFormat, plan: SplitPlan, importance?: readonly number[]): number {
  const columns = toColumns(tensor, layout);
  const split = fromColumns(splitWeight(columns, plan.scales, plan.pieces), tensor, layout);
  const rows = toRows(float32Values(split), split.shape, 0);
  const ended = { ...format, ends: plan.ends };
  const grids = chooseWeightGrids(rows, 6, ended);
  const codes = nearestCodes(rows, 6, grids, ended);
  const [channels, width] = [split.shape[1], split.shape[1] * 2];
  const folded = new Float64Array(6 * 8 * 2);
  codes.forEach((code, i) => {
    const row = Math.floor(i / width);
    const grid = grids.scales.length === 1 ? 0 : row;
    const { source } = plan.pieces[0][Math.floor((i % width) / 2) % channels];
    folded[(row * 8 + source) * 2 + (i % 2)] += (code - grids.zeroPoints[grid]) * grids.scales[grid];
  });
  const weightOf = (i: number) => importance?.[Math.floor(i / 2) % 8] ?? 1;
  return float32Values(tensor).reduce((sum, value, i) => sum + weightOf(i) * (value - folded[i]) ** 2, 0);
}

describe.each(formats)("planSplits for $bits bits, $granularity.kind, symmetric $symmetric", (format) => {
  const task: SplitTask = { weight: toColumns(tensor, layout), format, clip: "folded" };
  const plain = planWithoutSplits(task);
  const plan = planSplits(task, plain, rule);

  it("tells the error that rounding the split weight leaves", () => {
    expect(plan.error / foldedErrorOf(format, plan)).toBeCloseTo(1, 3);
    expect(plain.error / foldedErrorOf(format, plain)).toBeCloseTo(1, 3);
  });

  it("lowers it, and no more splits leave more of it", () => {
    expect(plan.error).toBeLessThan(plain.error);
    expect(planSplits(task, plain, { ...rule, count: 4 }).error).toBeLessThanOrEqual(1.05 * plan.error);
  });

  it("ends the grid at the largest split value or before", () => {
    const values = splitWeight(task.weight, [0], plan.pieces).groups[0].columns.flatMap((column) => [...column]);
    const largest = Math.max(...values.map(Math.abs));
    for (const { low, high } of plan.ends) expect(Math.max(-low, high)).toBeLessThanOrEqual(largest * 1.0001);
  });

  it.each(rangeEstimators)("takes its grid from $name", ({ name }) => {
    const found = planSplits({ ...task, clip: name }, plain, rule);
    expect(found.error / foldedErrorOf(format, found)).toBeCloseTo(1, 3);
    expect(found.error).toBeGreaterThanOrEqual(0.999 * plan.error);
  });

  it("counts the errors of a column as it is told to", () => {
    const importance = [1, 1, 1, 50, 1, 0.1, 1, 1];
    const weighted = planSplits({ ...task, importance: [importance] }, plain, rule);
    expect(weighted.error / foldedErrorOf(format, weighted, importance)).toBeCloseTo(1, 3);
    expect(weighted.error).toBeLessThanOrEqual(1.001 * foldedErrorOf(format, plan, importance));
  });
});
