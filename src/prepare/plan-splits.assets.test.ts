import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import type { Bits } from "../quantize/format.js";
import type { Tensor } from "../tensor/tensor.js";
import { planSplits, planWithoutSplits } from "./plan-splits.js";
import { toColumns } from "./weight-columns.js";

interface Target {
  readonly bits: Bits;
  readonly expand_ratio: number;
  readonly n_split: number;
  readonly rel_weight_error_folded: number;
}

describe.skipIf(sharedFolder === undefined)(
  "a joint choice of splits and grid (needs the folder RECOUP_SHARED)",
  () => {
    const index = sharedFolder && JSON.parse(readFileSync(sharedPath("oracles", "index.json"), "utf8"));
    describe.each(["ocs-conv", "ocs-linear"])("%s", (file) => {
      const targets: readonly Target[] = index?.[`${file}.npz`].own_targets_folded_optimal ?? [];
      const weight = () => {
        const tensor = readNpz(readFileSync(sharedPath("oracles", `${file}.npz`))).get("W") as Tensor;
        return toColumns(tensor, { rowAxis: 0, inputAxis: 1, groups: 1 });
      };
      it.each(targets)("reaches the error at $bits bits with $n_split splits", ({ bits, n_split, ...target }) => {
        const columns = weight();
        // All codes, as in the reference; a symmetric grid gives up the lowest one.
        const format = { bits, granularity: { kind: "per-tensor" }, symmetric: false, range: "mse" } as const;
        const task = { weight: columns, format, clip: "folded" };
        const plan = planSplits(task, planWithoutSplits(task), { count: n_split, split: "aware", again: true });
        const power = columns.groups[0].columns
          .flatMap((column) => [...column])
          .reduce((sum, value) => sum + value ** 2, 0);
        expect(Math.sqrt(plan.error / power)).toBeLessThanOrEqual(1.02 * target.rel_weight_error_folded);
      });
    });
  },
);
