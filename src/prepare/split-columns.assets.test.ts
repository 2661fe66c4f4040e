import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel } from "../../test/models.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import { makeNode } from "../graph/node.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, int64Tensor, integerValues, type Tensor } from "../tensor/tensor.js";
import { type SplitRule, splitLargest, splitWeight } from "./split-columns.js";
import { fromColumns, toColumns, type WeightLayout } from "./weight-columns.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

interface Case {
  readonly key: string;
  readonly bits: number | null;
  readonly w_scale: number | null;
  readonly n_split: number;
  readonly rel_output_error?: number;
}

const layout: WeightLayout = { rowAxis: 0, inputAxis: 1, groups: 1 };

function splitAsReference(weight: Tensor, scale: number, rule: SplitRule) {
  const columns = toColumns(weight, layout);
  const pieces = columns.groups.map((group) => splitLargest(group, columns.taps, [scale], rule));
  const sources = pieces[0].slice(weight.shape[1]).map(({ source }) => source);
  return { sources, tensor: fromColumns(splitWeight(columns, [scale], pieces), weight, layout) };
}

/** What a layer makes of inputs of which some channels are there twice. */
async function outputOf(x: Tensor, sources: readonly number[], weight: Tensor): Promise<Float32Array> {
  const channels = [...Array.from({ length: x.shape[1] }, (_, i) => i), ...sources];
  const layer =
    x.shape.length === 4
      ? makeNode("Conv", ["all", "w"], ["y"], { pads: [1, 1, 1, 1] })
      : makeNode("Gemm", ["all", "w"], ["y"], { transB: 1 });
  const { model, feeds } = makeTestModel({
    feeds: { x },
    nodes: [makeNode("Gather", ["x", "channels"], ["all"], { axis: 1 }), layer],
    initializers: { channels: int64Tensor([channels.length], channels), w: weight },
    outputs: ["y"],
  });
  return float32Values((await runModel(engine, model, feeds)).get("y") as Tensor);
}

/** Of what is expected, by the root of the sum of squares. */
function relativeError(found: Float32Array, expected: Float32Array): number {
  const sum = (values: Float32Array) => values.reduce((total, value) => total + value * value, 0);
  return Math.sqrt(sum(found.map((value, i) => value - expected[i])) / sum(expected));
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
      it.each(casesOf(file))(
        "%s: the same channels, codes and outputs",
        async (key, { bits, w_scale, n_split, ...one }) => {
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
          const [x, y] = ["X", "Y_float"].map((name) => arrays.get(name) as Tensor);
          const wanted = float32Values(y);
          expect(relativeError(await outputOf(x, sources, tensor), wanted)).toBeLessThan(1e-5);
          const rounded = float32Tensor(
            tensor.shape,
            codes.map((code) => code / (w_scale as number)),
          );
          const error = relativeError(await outputOf(x, sources, rounded), wanted);
          expect(Math.abs(error / (one.rel_output_error as number) - 1)).toBeLessThan(1e-3);
        },
      );
    });

    // The others leave the smaller values of a channel whole.
    const whole = casesOf("ocs-split").filter(([key]) => key.startsWith("t0"));
    it.each(whole)("ocs-split, %s: the same values", async (key, { w_scale, n_split }) => {
      const arrays = read("ocs-split");
      const rule: SplitRule = { count: n_split, split: w_scale === null ? "naive" : "aware", again: true };
      const { sources, tensor } = splitAsReference(arrays.get("W") as Tensor, 1 / (w_scale ?? 1), rule);
      expect(sources).toEqual(integerValues(arrays.get(`idx_${key}`) as Tensor));
      const expected = float32Values(arrays.get(`Wsplit_${key}`) as Tensor);
      expect(Math.max(...float32Values(tensor).map((value, i) => Math.abs(value - expected[i])))).toBeLessThan(1e-6);
      const [x, y] = ["X", "Y_float"].map((name) => arrays.get(name) as Tensor);
      expect(relativeError(await outputOf(x, sources, tensor), float32Values(y))).toBeLessThan(1e-6);
    });
  },
);
