import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel } from "../../test/models.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { nameOf } from "../../test/statistic-contract.js";
import { BlockSumsStatistic, type Curves, totalOf } from "../calibrate/block-sums.js";
import { collect } from "../calibrate/collect.js";
import { readNpz } from "../data/npz.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import type { PairSums } from "../math/ridge.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, float64Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { fitCorrections, ridgeFor } from "./block-fit.js";
import type { BlockSite } from "./block-sites.js";
import { writeCorrection } from "./write-correction.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Sums and convolutions in the runtime are float32. */
const tolerance = 1e-4;
/** As the oracle's own page has it for predictions through an exponential. */
const predictionTolerance = 2e-4;

describe.skipIf(!sharedFolder)("corrections in the runtime against the reference program", () => {
  it.each(["qwt-conv1x1-s2", "qwt-conv3x3-s1-g2", "qwt-conv3x3-s2-g1", "qwt-tokens", "qwt-rect"])(
    "%s",
    async (name) => {
      const arrays = readNpz(readFileSync(sharedPath("oracles", `${name}.npz`)));
      const tensorOf = (key: string) => {
        const tensor = arrays.get(key) as Tensor;
        return float32Tensor(tensor.shape, float32Values(tensor));
      };
      const wholeOf = (key: string) => {
        const tensor = arrays.get(key) as Tensor;
        return tensor.type.includes("int") ? integerValues(tensor)[0] : float64Values(tensor)[0];
      };
      const [x, yq, y] = ["x", "y_q", "y_fp"].map(tensorOf);
      const site = siteOf(name.startsWith("qwt-conv") ? wholeOf : undefined, x, y, wholeOf("ridge"));
      const { model, feeds } = makeTestModel({
        feeds: { x, quantized: yq, float: y },
        nodes: [makeNode("Identity", ["quantized"], ["y"]), makeNode("Identity", ["float"], ["float/y"])],
        outputs: ["y", "float/y"],
      });
      const statistic = new BlockSumsStatistic(site, [{}]);
      await collect(engine, model, [statistic], nameOf, [{ id: name, feeds }]);
      const found = statistic.result();
      // The reference has the ridge that it says, however few rows there are.
      const same = { ...site, ridge: site.ridge / ridgeFor({ ...site, ridge: 1 }, found) };
      const [correction] = fitCorrections(same, totalOf(found.halves[0]) as PairSums, {}, found, ["full"]);
      const graph = applyPatch(model.graph, writeCorrection(model.graph, site, correction));
      const corrected = (await runModel(engine, withGraph(model, graph), feeds)).get("y") as Tensor;
      const wanted = float64Values(arrays.get("y_comp") as Tensor);
      expectClose(float32Values(corrected), wanted, tolerance);
    },
  );

  it.each(["nbc-tokens", "nbc-rect"])("%s", async (name) => {
    const arrays = readNpz(readFileSync(sharedPath("oracles", `${name}.npz`)));
    const numbersOf = (key: string) => float64Values(arrays.get(key) as Tensor);
    const tensorOf = (key: string) => {
      const tensor = arrays.get(key) as Tensor;
      return float32Tensor(tensor.shape, float32Values(tensor));
    };
    const [x, yq, y] = ["x", "y_q", "y_fp"].map(tensorOf);
    const [[ridge], [scaleX], [scaleE]] = ["ridge", "scale_x", "scale_e"].map(numbersOf);
    const site = siteOf(undefined, x, y, ridge);
    const { model, feeds } = makeTestModel({
      feeds: { x, quantized: yq, float: y },
      nodes: [makeNode("Identity", ["quantized"], ["y"]), makeNode("Identity", ["float"], ["float/y"])],
      outputs: ["y", "float/y"],
    });
    /** @returns what a correction with the reference's ridge adds, up to the largest error of each channel or to infinity */
    const predict = async (curves: Curves, isCapped: boolean) => {
      const statistic = new BlockSumsStatistic(site, [curves]);
      await collect(engine, model, [statistic], nameOf, [{ id: name, feeds }]);
      const found = statistic.result();
      expectClose(found.largest, numbersOf("cap"), tolerance);
      const same = { ...site, ridge: site.ridge / ridgeFor({ ...site, ridge: 1 }, found) };
      const [fitted] = fitCorrections(same, totalOf(found.halves[0]) as PairSums, curves, found, ["full"]);
      const most = fitted.most?.map((size) => (isCapped ? size : Number.POSITIVE_INFINITY));
      const graph = applyPatch(model.graph, writeCorrection(model.graph, site, { ...fitted, most }));
      const corrected = (await runModel(engine, withGraph(model, graph), feeds)).get("y") as Tensor;
      const before = float64Values(yq);
      return float64Values(corrected).map((value, i) => value - before[i]);
    };
    const errors = float64Values(y).map((value, i) => value - float64Values(yq)[i]);
    const alphas = numbersOf("alpha");
    for (const [i, alpha] of alphas.entries()) {
      if (alpha < 0.1) continue;
      const curves = { input: alpha / scaleX, error: alpha / scaleE };
      for (const [key, isCapped] of [
        ["pred", true],
        ["pred_uncapped", false],
      ] as const) {
        const wanted = numbersOf(key).subarray(i * errors.length, (i + 1) * errors.length);
        const predicted = await predict(curves, isCapped);
        expectClose(predicted, wanted, predictionTolerance);
        if (!isCapped) continue;
        const left = predicted.reduce((sum, value, at) => sum + (errors[at] - value) ** 2, 0) / errors.length;
        expect(Math.abs(left / numbersOf("mse_after")[i] - 1)).toBeLessThan(predictionTolerance);
      }
    }
    expectClose(await predict({ input: 1, error: 1 }, false), numbersOf("pred_plain"), predictionTolerance);
  });
});

function expectClose(actual: ArrayLike<number>, expected: Float64Array, most: number): void {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  expect(actual).toHaveLength(expected.length);
  const largest = expected.reduce((worst, value, i) => Math.max(worst, Math.abs(value - actual[i])), 0);
  expect(largest / scale).toBeLessThan(most);
}

/** @param whole of maps: kernel, stride, padding and groups by name */
function siteOf(whole: ((key: string) => number) | undefined, x: Tensor, y: Tensor, ridge: number): BlockSite {
  const axis = whole === undefined ? x.shape.length - 1 : 1;
  const twice = (value: number) => [value, value];
  return {
    label: "y",
    value: "y",
    input: "x",
    entry: "x",
    output: "y",
    rank: x.shape.length,
    inputChannels: x.shape[axis],
    outputChannels: y.shape[axis],
    form:
      whole === undefined
        ? { kind: "vectors" }
        : {
            kind: "maps",
            kernel: twice(whole("kernel")),
            strides: twice(whole("stride")),
            padding: [...twice(whole("pad")), ...twice(whole("pad"))],
          },
    trajectoryShare: 1,
    isLevelled: false,
    elementType: "float32",
    ridge,
    storage: "float32",
    groups: whole?.("groups") ?? 1,
    rankWanted: "full",
    isRankFree: false,
    constantPlace: undefined,
  };
}
