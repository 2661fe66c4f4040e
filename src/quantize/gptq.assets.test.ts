import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gramOfPatches, type PatchForm } from "../../test/patches.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { factorGram, type Gridding, outputErrors, roundAgainstGram } from "./gptq.js";
import { dequantizeRows, nearestCodes, roundToNearest } from "./weight.js";
import type { WeightGrid } from "./weight-grid.js";

interface Case {
  readonly key: string;
  readonly bits: number;
  readonly sym: boolean;
  readonly group: number;
  readonly actorder: boolean;
  readonly static_groups: boolean;
  readonly blocksize: number;
  readonly percdamp: number;
  readonly mse?: boolean;
  readonly rel_out_err: number;
}

interface Oracle {
  readonly cases: readonly Case[];
  readonly layer: string | { readonly stride: number; readonly pad: number; readonly groups: number };
}

describe.skipIf(sharedFolder === undefined)("symmetric grids where the authors' routine has a defect", () => {
  it("hold rows whose weights reach further up than down", () => {
    const weight = readNpz(readFileSync(sharedPath("oracles", "gptq-quirk-symrow.npz"))).get("W") as Tensor;
    const [rowCount, columns] = weight.shape;
    const rows = float32Values(weight);
    const rounded = roundToNearest(rows, rowCount, {
      bits: 4,
      symmetric: true,
      granularity: { kind: "per-channel" },
      range: "minmax",
    });
    for (const [i, value] of dequantizeRows(rounded, rowCount).entries()) {
      const scale = rounded.scales[Math.floor(i / columns)];
      expect(Math.abs(value - rows[i])).toBeLessThanOrEqual(scale * (0.5 + 1e-6));
    }
  });
});

/** Of codes, and of grids that follow from them: a tie that falls to the other side changes the columns behind it. */
const leastAgreement = 0.99;

describe.skipIf(sharedFolder === undefined)(
  "GPTQ against the authors' routine in float64 (needs the folder RECOUP_SHARED)",
  () => {
    const index = sharedFolder && JSON.parse(readFileSync(sharedPath("oracles", "index.json"), "utf8"));
    const files = [
      "gptq-linear",
      "gptq-linear-dead",
      "gptq-conv",
      "gptq-conv-stride2",
      "gptq-conv-grouped",
      "gptq-conv-depthwise",
    ];
    describe.each(files)("%s", (file) => {
      const oracle: Oracle = index?.[`${file}.npz`] ?? { cases: [], layer: "" };
      // With dynamic groups in larger blocks the routine takes grids from values that miss the last updates.
      const cases = oracle.cases.filter(
        ({ group, static_groups, blocksize }) => group < 0 || static_groups || blocksize <= group,
      );
      const arrays = sharedFolder ? readNpz(readFileSync(sharedPath("oracles", `${file}.npz`))) : new Map();
      it.each(cases.map((one) => [one.key, one] as const))("%s", (key, one) => {
        const weight = arrays.get("W") as Tensor;
        const groups = groupsOf(oracle, arrays.get("X") as Tensor, weight);
        const expected = integerValues(arrays.get(`codes_${key}`) as Tensor);
        const scales = float32Values(arrays.get(`scale_${key}`) as Tensor);
        const zeros = integerValues(arrays.get(`zero_${key}`) as Tensor);
        const half = 2 ** (one.bits - 1);
        let [same, live, sameGrids, grids, error, signal, nearestError] = [0, 0, 0, 0, 0, 0, 0];
        groups.forEach(({ rows, rowCount, size, gram }, g) => {
          const isLive = (column: number) => gram[column * size + column] > 0;
          const liveCount = Array.from({ length: size }, (_, column) => column).filter(isLive).length;
          // The routine gives columns without any input a diagonal of one, next to nothing beside the others, and lets
          // them count in the mean that the damping is a share of.
          const damping = (one.percdamp * liveCount) / size;
          const factored = factorGram(gram, size, { order: one.actorder ? "activation" : "natural", damping });
          if (one.actorder) {
            const order = integerValues(arrays.get(`perm_${key}`) as Tensor);
            const wanted = Array.from(order)
              .slice(g * size, (g + 1) * size)
              .map(Number);
            expect([...factored.order].filter(isLive)).toEqual(wanted.filter(isLive));
          }
          const limits = { low: -half, high: half - 1 };
          // It sets their weights to zero before it looks at groups; we leave them at the nearest level.
          const seen = one.group < 0 ? rows : rows.map((value, i) => (isLive(i % size) ? value : 0));
          const gridding = griddingOf(one, seen, rowCount, size);
          const rounded = roundAgainstGram(factored, rows, rowCount, gridding, limits);
          const perRow = rounded.grids.scales.length / rowCount;
          rounded.grids.scales.forEach((scale, i) => {
            const at = g * rowCount * perRow + i;
            const isSame =
              Math.abs(scale / scales[at] - 1) < 1e-5 && rounded.grids.zeroPoints[i] + half === Number(zeros[at]);
            grids++;
            if (isSame) sameGrids++;
          });
          rounded.codes.forEach((code, i) => {
            if (!isLive(i % size)) return;
            live++;
            if (code + half === Number(expected[g * rowCount * size + i])) same++;
          });
          error += sum(rounded.errors);
          signal += sum(outputErrors(factored, rows, new Float32Array(rows.length), rowCount));
          if (gridding.kind === "dynamic") return;
          const format = { bits: one.bits as 4, symmetric: false, granularity: { kind: "per-channel" } as const };
          const codes = nearestCodes(rows, rowCount, gridding.grids, format);
          const nearest = rows.map((_, i) => {
            const grid = Math.floor(i / size) * perRow + Math.floor((i % size) / gridding.grids.groupSize);
            return (codes[i] - gridding.grids.zeroPoints[grid]) * gridding.grids.scales[grid];
          });
          nearestError += sum(outputErrors(factored, rows, nearest, rowCount));
        });
        expect(sameGrids / grids).toBeGreaterThanOrEqual(isDynamic(one) ? leastAgreement : 1);
        expect(same / live).toBeGreaterThanOrEqual(leastAgreement);
        expect(Math.sqrt(error / signal)).toBeLessThanOrEqual(1.01 * one.rel_out_err);
        if (nearestError > 0) expect(error).toBeLessThan(nearestError);
      });
    });
  },
);

interface Group {
  readonly rows: Float32Array;
  readonly rowCount: number;
  readonly size: number;
  readonly gram: Float64Array;
}

/** The groups of a layer: each has rows, columns and a Gram matrix of its own. */
function groupsOf({ layer }: Oracle, input: Tensor, weight: Tensor): readonly Group[] {
  const form: PatchForm =
    typeof layer === "string"
      ? { kernel: [], stride: 1, pad: 0, groups: 1 }
      : { ...layer, kernel: weight.shape.slice(2) };
  const size = elementCount(weight.shape.slice(1));
  const rowCount = weight.shape[0] / form.groups;
  const values = float32Values(weight);
  return gramOfPatches(input, form).map((gram, g) => ({
    rows: values.slice(g * rowCount * size, (g + 1) * rowCount * size),
    rowCount,
    size,
    gram,
  }));
}

/** As the routine chooses grids: the whole range, or the best of eighty smaller ones. */
function gridOf({ bits, sym, mse }: Case, values: Float32Array): WeightGrid {
  const steps = 2 ** bits - 1;
  const half = 2 ** (bits - 1);
  const largest = Math.max(...values.map(Math.abs));
  const [low, high] = sym ? [-largest, largest] : [Math.min(0, ...values), Math.max(0, ...values)];
  const gridFor = (share: number) => {
    const scale = (share * (high - low)) / steps;
    return { scale, zeroPoint: sym ? 0 : roundHalfEven((-share * low) / scale) - half };
  };
  if (!mse) return gridFor(1);
  let [best, least] = [gridFor(1), Number.POSITIVE_INFINITY];
  for (let i = 0; i < 80; i++) {
    const { scale, zeroPoint } = gridFor(1 - i / 100);
    const error = values.reduce((total, value) => {
      const code = clamp(roundHalfEven(value / scale) + zeroPoint, -half, half - 1);
      return total + Math.abs(value - (code - zeroPoint) * scale) ** 2.4;
    }, 0);
    if (error < least) [best, least] = [{ scale, zeroPoint }, error];
  }
  return best;
}

function isDynamic({ group, static_groups }: Case): boolean {
  return group > 0 && !static_groups;
}

function griddingOf(one: Case, rows: Float32Array, rowCount: number, size: number): Gridding {
  const groupSize = one.group < 0 ? size : one.group;
  if (isDynamic(one)) {
    return { kind: "dynamic", groupSize, choose: (_row, values) => gridOf(one, values) };
  }
  const grids: WeightGrid[] = [];
  for (let row = 0; row < rowCount; row++) {
    for (let column = 0; column < size; column += groupSize) {
      const end = Math.min(column + groupSize, size);
      grids.push(gridOf(one, rows.slice(row * size + column, row * size + end)));
    }
  }
  const scales = Float32Array.from(grids, ({ scale }) => scale);
  const zeroPoints = Int8Array.from(grids, ({ zeroPoint }) => zeroPoint);
  return { kind: "static", grids: { scales, zeroPoints, groupSize } };
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
