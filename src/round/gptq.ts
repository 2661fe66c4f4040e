import { type Cross, CrossStatistic } from "../calibrate/cross.js";
import { type Gram, GramStatistic } from "../calibrate/gram.js";
import type { InputSite } from "../calibrate/input-matrix.js";
import type { Tap } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, labelOf } from "../graph/node.js";
import type { SharedConstants } from "../graph/patch-writer.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import type { InputForm } from "../operators/layer.js";
import type { GptqRounding } from "../quantize/format.js";
import {
  naming,
  roundWeightToNearest,
  rowCountOf,
  type WeightToRound,
  writeRounded,
} from "../quantize/round-weights.js";
import type { QuantizedRows } from "../quantize/weight.js";
import { type AnyStep, defineStep } from "../step/open-step.js";
import type { Outcome, Site, StatisticsOf, StepContext } from "../step/step.js";
import { type FactorOnce, rememberFactors } from "./factors.js";
import { roundGroups, widthsOf } from "./round-groups.js";

interface GptqSite extends Site, InputSite {
  readonly weight: WeightToRound;
  readonly rounding: GptqRounding;
  /** Where the wanted input is; undefined where it is the quantized one itself. */
  readonly wanted: Tap | undefined;
}

/** XᵀX, and EᵀX where the weight is moved. */
type Found = readonly [Gram, ...Cross[]];

export const roundingName = "gptq";

/** Vectors or patches that the Gram matrix of a layer is made of at most: more change no code that matters. */
const mostRows = 32_768;

/**
 * GPTQ, layer by layer on the inputs that the already rounded network gives: each column of a weight is rounded so that it
 * makes up for what rounding the earlier ones did to the layer's output. Before that the weight is moved towards the
 * target by least squares: W + (XᵀX + λ)⁻¹ Xᵀ(Xt - X) W, with X the quantized input and Xt the wanted one, as far as that
 * holds on samples it was not made from.
 *
 * @param weights those that `gptqObstacle` has nothing against
 * @see Frantar et al., GPTQ, arXiv:2210.17323; for the target Li et al., GPTAQ, arXiv:2504.02692
 */
export function gptqRounding(weights: readonly WeightToRound[]): AnyStep {
  const shared: SharedConstants = new Map();
  const factorOnce = rememberFactors();
  return defineStep<Record<never, never>, GptqSite, Found, QuantizedRows>({
    name: roundingName,
    options: {},
    outcome: "weights rounded",
    summary: "rounds weights column by column, each making up for the error of those before it",
    sites: (context) => ({
      usable: weights.map((weight) => siteOf(context, weight)),
      unusable: [],
    }),
    statistics: statisticsOf,
    solve: (site, found) => solve(site, found, factorOnce),
    rewrite: (graph, { weight }, rows) => writeRounded(graph, weight, rows, createNameSource(graph), shared),
    standIn: { work: workOf, solution: ({ weight }) => roundWeightToNearest(withWidestRange(weight)).rows },
  });
}

/** Why a weight cannot be rounded by what its layers read; undefined where it can. */
export function gptqObstacle(graph: Graph, types: ValueTypes, { plans }: WeightToRound): string | undefined {
  const other = plans.find(({ layer }) => layer.inputForm === undefined || layer.data === undefined);
  if (other !== undefined) {
    const { node } = other.layer;
    return isOperator(node, "Gather") ? `${labelOf(node)} looks it up` : `${labelOf(node)} is not one product with it`;
  }
  const [{ layer }] = plans;
  if (graph.constant(layer.data ?? "") !== undefined) return "it is multiplied with a constant";
  return shapeOf(types, layer.data ?? "") === undefined ? "the rank of its input is unknown" : undefined;
}

/** The factors of the Gram matrices, and a few products of the rows with them; the grids of the rows. Fitted to times. */
function workOf({ weight, rounding, columns, form }: GptqSite): number {
  const groups = form.kind === "patches" ? form.groups : 1;
  const tries = widthsOf(weight.format).length;
  const searches = rounding.groups === "dynamic" ? tries : 1;
  return rowCountOf(weight) * columns * (tries * columns + searches * 200) + (groups * columns ** 3) / 6;
}

/** Nothing is searched for. */
function withWidestRange(weight: WeightToRound): WeightToRound {
  return { ...weight, format: { ...weight.format, range: undefined } };
}

/** Layers that share a weight get the codes that suit the first of them. */
function siteOf({ current, types, batches }: StepContext, weight: WeightToRound): GptqSite {
  const { layer } = weight.plans[0];
  const [output] = layer.node.outputs;
  const node = current.producer(output);
  const input = node?.inputs[layer.weightInput === 0 ? 1 : 0];
  const data = layer.data ?? "";
  const rounding = weight.format.rounding as GptqRounding;
  if (input === undefined) throw new Error(`${output} lost its node`);
  return {
    label: labelOf(layer.node),
    value: output,
    weight,
    rounding,
    input,
    rank: shapeOf(types, data)?.length ?? 0,
    form: layer.inputForm as InputForm,
    columns: weight.tensor.shape.reduce((product, size) => product * size, 1) / rowCountOf(weight),
    rowsPerRun: Math.ceil(mostRows / Math.max(batches, 1)),
    wanted: wantedInput(rounding.target, input, data),
  };
}

/** A target that nobody has chosen is the input before it is quantized. */
function wantedInput(target: GptqRounding["target"], input: ValueName, data: ValueName): Tap | undefined {
  if (target === "float") return { from: "float", value: data };
  return target !== "same" && input !== data ? { from: "current", value: data } : undefined;
}

function statisticsOf(site: GptqSite): StatisticsOf<Found> {
  const { weight, wanted } = site;
  const gram = new GramStatistic(site);
  if (wanted === undefined) return [gram];
  return [gram, new CrossStatistic(site, weight.plans[0].layer, weight.tensor, wanted)];
}

function solve({ weight, rounding }: GptqSite, [gram, cross]: Found, factorOnce: FactorOnce): Outcome<QuantizedRows> {
  const obstacle = measurementObstacle(gram, cross);
  if (obstacle !== undefined) return toNearest(weight, obstacle);
  const { rows, errorBefore, errorAfter } = naming(weight, () =>
    roundGroups(weight, rounding, gram, cross, factorOnce),
  );
  return { kind: "solved", solution: rows, errorBefore, errorAfter, remark: remarkOf(weight, gram) };
}

function measurementObstacle({ rows, products }: Gram, cross: Cross | undefined): string | undefined {
  if (rows === 0) return "its input was empty on every sample";
  const measured = cross === undefined ? [products] : [products, cross.products];
  return measured.every((values) => values.every(Number.isFinite)) ? undefined : "its input is not finite";
}

/** The weight has to be rounded somehow. */
function toNearest(weight: WeightToRound, reason: string): Outcome<QuantizedRows> {
  const { rows: solution } = roundWeightToNearest(weight);
  return { kind: "solved", solution, errorBefore: 0, errorAfter: 0, remark: `rounded to nearest: ${reason}` };
}

function remarkOf({ plans, tensor }: WeightToRound, { rows }: Gram): string | undefined {
  const columns = tensor.shape.reduce((product, size) => product * size, 1) / tensor.shape[plans[0].layer.channelAxis];
  const remarks = [
    ...(plans.length > 1 ? [`rounded for the first of the ${plans.length} layers that read the weight`] : []),
    // With fewer, what GPTQ makes up for on the samples it spoils elsewhere.
    ...(rows < 2 * columns ? [`${rows} rows of input for ${columns} columns: more samples would serve it better`] : []),
  ];
  return remarks.length > 0 ? remarks.join("; ") : undefined;
}
