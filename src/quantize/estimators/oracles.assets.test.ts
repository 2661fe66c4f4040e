import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../../test/shared.js";
import { MovingAverageStatistic } from "../../calibrate/moving-average.js";
import { readNpz } from "../../data/npz.js";
import { distributionOf } from "../../math/distribution.js";
import { float32Tensor, float32Values, type Tensor } from "../../tensor/tensor.js";
import type { Bits } from "../format.js";
import { chooseActivationGrid, levelsOfGrid } from "../grid.js";
import { errorOf, type GridRule } from "./estimator.js";
import { rangeEstimatorNamed } from "./index.js";

interface Oracle {
  readonly tensor: string;
  readonly percentile_abs: Readonly<Record<string, number>>;
  readonly percentile_lohi: Readonly<Record<string, readonly [number, number]>>;
  readonly bits: Readonly<Record<string, Readonly<Record<string, { readonly mse: number; readonly alpha: number }>>>>;
}

/** The three kinds of grid with the tolerance of their brute force. */
const narrow = (bits: number): GridRule => ({
  bits,
  symmetric: true,
  levelsOf: ({ high }) => {
    const steps = 2 ** (bits - 1) - 1;
    return { first: -high, step: high / steps, count: 2 * steps + 1 };
  },
});
const full = (bits: number): GridRule => ({
  bits,
  symmetric: true,
  levelsOf: ({ high }) => {
    const steps = 2 ** (bits - 1) - 1;
    return { first: -high - high / steps, step: high / steps, count: 2 ** bits };
  },
});
const asymmetric = (bits: number): GridRule => ({
  bits,
  symmetric: false,
  levelsOf: (range) => levelsOfGrid(chooseActivationGrid(range, bits as Bits, false)),
});

const schemes = [
  ["mse_sym_narrow", narrow, 1.005],
  ["mse_sym_full", full, 1.005],
  ["mse_asym", asymmetric, 1.02],
  ["mse_unsigned", asymmetric, 1.005],
] as const;

describe.skipIf(sharedFolder === undefined)(
  "range estimators against brute force (needs the folder RECOUP_SHARED)",
  () => {
    const index = sharedFolder && JSON.parse(readFileSync(sharedPath("oracles", "index.json"), "utf8"));
    const oracles: readonly Oracle[] = index ? index["range-estimators.npz"].results : [];
    const arrays = sharedFolder
      ? readNpz(readFileSync(sharedPath("oracles", "range-estimators.npz")))
      : new Map<string, Tensor>();
    const observe = (tensor: string) => {
      const values = Float64Array.from(float32Values(arrays.get(`x_${tensor}`) as Tensor)).sort();
      const distribution = distributionOf(values);
      return { extremes: { low: distribution.low, high: distribution.high }, distribution };
    };

    it.each(oracles.map((oracle) => [oracle.tensor, oracle] as const))("%s", (tensor, oracle) => {
      const observed = observe(tensor);
      const { distribution } = observed;
      for (const [percent, reach] of Object.entries(oracle.percentile_abs)) {
        expect(distribution.magnitudes().quantile(Number(percent) / 100) / reach).toBeCloseTo(1, 6);
      }
      for (const [percent, [low, high]] of Object.entries(oracle.percentile_lohi)) {
        expect(distribution.quantile(1 - Number(percent) / 100)).toBeCloseTo(low, 6);
        expect(distribution.quantile(Number(percent) / 100)).toBeCloseTo(high, 6);
      }
      for (const [bits, found] of Object.entries(oracle.bits)) {
        for (const [scheme, ruleOf, tolerance] of schemes) {
          if (!(scheme in found)) continue;
          const rule = ruleOf(Number(bits));
          const error =
            errorOf(distribution, rule, rangeEstimatorNamed("mse").estimate(observed, rule)) / distribution.count;
          expect(error / found[scheme].mse, `${tensor}, ${bits} bits, ${scheme}`).toBeLessThanOrEqual(tolerance);
        }
        if (bits === "8") {
          const { low, high } = rangeEstimatorNamed("kl").estimate(observed, narrow(8));
          const reach = Math.max(-low, high);
          const binWidth = distribution.magnitudes().high / 512;
          expect(Math.abs(reach - found.kl_abs.alpha), `${tensor}, kl`).toBeLessThanOrEqual(2.01 * binWidth);
        }
      }
    });

    it("has the moving average of the extremes", () => {
      const extremes = float32Values(arrays.get("ema_batch_minmax") as Tensor);
      const statistic = new MovingAverageStatistic({ from: "float", value: "y" });
      for (let i = 0; i < extremes.length; i += 2) {
        const [low, high] = extremes.subarray(i, i + 2);
        statistic.update([low, high, low + high].map((value) => float32Tensor([], [value])));
      }
      const { low, high } = statistic.result();
      const { lo, hi } = index["range-estimators.npz"].ema;
      expect(low / lo).toBeCloseTo(1, 6);
      expect(high / hi).toBeCloseTo(1, 6);
    });
  },
);
