import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { type SplitRule, splitLargest, splitWeight } from "./split-columns.js";
import { fromColumns, toColumns, type WeightLayout } from "./weight-columns.js";

interface Case {
  readonly key: string;
  readonly bits: number | null;
  readonly w_scale: number | null;
  readonly n_split: number;
}

const layout: WeightLayout = { rowAxis: 0, inputAxis: 1, groups: 1 };

function splitAsReference(weight: Tensor, scale: number, rule: SplitRule) {
  const columns = toColumns(weight, layout);
  const pieces = columns.groups.map((group) => splitLargest(group, columns.taps, [scale], rule));
  const sources = pieces[0].slice(weight.shape[1]).map(({ source }) => source);
  return { sources, tensor: fromColumns(splitWeight(columns, [scale], pieces), weight, layout) };
}

describe.skipIf(sharedFolder === undefined)(
  "splits of columns against the authors' routine (needs the folder RECOUP_SHARED)",
  () => {
    const index = sharedFolder && JSON.parse(readFileSync(sharedPath("oracles", "index.json"), "utf8"));
    const read = (file: string): ReadonlyMap<string, Tensor> =>
      sharedFolder ? readNpz(readFileSync(sharedPath("oracles", `${file}.npz`))) : new Map();
    const casesOf = (file: string): readonly (readonly [string, Case])[] =>
      (index?.[`${file}.npz`].cases ?? []).map((one: Case) => [one.key, one] as const);

    describe.each(["ocs-conv", "ocs-linear"])("%s", (file) => {
      const arrays = read(file);
      it.each(casesOf(file))("%s: the same channels and codes", (key, { bits, w_scale, n_split }) => {
        const scale = 1 / (w_scale as number);
        const rule: SplitRule = { count: n_split, split: "aware", again: true };
        const { sources, tensor } = splitAsReference(arrays.get("W") as Tensor, scale, rule);
        expect(sources).toEqual(integerValues(arrays.get(`idx_${key}`) as Tensor));
        const half = 2 ** ((bits as number) - 1);
        const codes = [...float32Values(tensor)].map((value) =>
          clamp(roundHalfEven(Math.fround(value * (w_scale as number))), -half, half - 1),
        );
        const expected = integerValues(arrays.get(`codes_${key}`) as Tensor);
        const differences = codes.map((code, i) => Math.abs(code - expected[i]));
        expect(Math.max(...differences)).toBeLessThanOrEqual(1);
        expect(differences.filter((difference) => difference > 0).length).toBeLessThanOrEqual(0.001 * codes.length);
      });
    });

    // The others leave the smaller values of a channel whole.
    const whole = casesOf("ocs-split").filter(([key]) => key.startsWith("t0"));
    it.each(whole)("ocs-split, %s: the same values", (key, { w_scale, n_split }) => {
      const arrays = read("ocs-split");
      const rule: SplitRule = { count: n_split, split: w_scale === null ? "naive" : "aware", again: true };
      const { sources, tensor } = splitAsReference(arrays.get("W") as Tensor, 1 / (w_scale ?? 1), rule);
      expect(sources).toEqual(integerValues(arrays.get(`idx_${key}`) as Tensor));
      const expected = float32Values(arrays.get(`Wsplit_${key}`) as Tensor);
      expect(Math.max(...float32Values(tensor).map((value, i) => Math.abs(value - expected[i])))).toBeLessThan(1e-6);
    });
  },
);
