import { type Engine, type Feeds, withSession } from "../src/engine/engine.js";
import type { ValueName } from "../src/graph/graph.js";
import type { Model } from "../src/graph/model.js";
import type { Layer } from "../src/operators/layer.js";
import type { GptqRounding, RoundingTarget, WeightFormat } from "../src/quantize/format.js";
import { nearestCodes } from "../src/quantize/weight.js";
import { chooseWeightGrids, codeLimits } from "../src/quantize/weight-grid.js";
import { toRows } from "../src/tensor/rows.js";
import { float32Values, type Tensor } from "../src/tensor/tensor.js";
import { type Half, moveSlowly, outputsOf } from "./halves.js";
import { patchesOf } from "./patches.js";
import { type Matrix, outputErrorsOf, type PlainGrid, roundSlowly, rowsOf } from "./slow-rounding.js";

/** A value of a model on each sample. */
export async function fetchValue(
  engine: Engine,
  model: Model,
  value: ValueName,
  samples: readonly Feeds[],
): Promise<readonly Tensor[]> {
  const fed = samples.find((feeds) => feeds.has(value));
  if (fed) return samples.map((feeds) => feeds.get(value) as Tensor);
  return withSession(engine, model, { mode: "exact", taps: [value] }, async (session) => {
    const found: Tensor[] = [];
    for (const feeds of samples) found.push((await session.run(feeds, [value])).outputs.get(value) as Tensor);
    return found;
  });
}

/** The weight of a layer as a matrix with a row per output channel, as a model reads it. */
export async function fetchRows(engine: Engine, model: Model, layer: Layer, feeds: Feeds): Promise<Matrix> {
  const read = model.graph.producer(layer.node.outputs[0])?.inputs[layer.weightInput] ?? "";
  const known = model.graph.constant(read);
  const [tensor] = known ? [known] : await fetchValue(engine, model, read, [feeds]);
  // A Transpose between the weight and its reader would move the channels.
  return rowsOf(toRows(float32Values(tensor), tensor.shape, layer.channelAxis), tensor.shape[layer.channelAxis]);
}

/**
 * The weight that a layer should get, in plain numbers: moved to the target, then rounded column by column, row by row as
 * rounding to nearest where that serves it better.
 *
 * @param current the network with all layers before this one as they shall be; its own weight does not matter
 * @param samples each of them a run of its own
 */
export async function roundLayerSlowly(
  engine: Engine,
  float: Model,
  current: Model,
  layer: Layer,
  format: WeightFormat,
  target: RoundingTarget,
  samples: readonly Feeds[],
): Promise<Matrix> {
  const rounding = format.rounding as GptqRounding;
  const read = current.graph.producer(layer.node.outputs[0])?.inputs[layer.weightInput === 0 ? 1 : 0] ?? "";
  const data = layer.data ?? "";
  const inputs = await fetchValue(engine, current, read, samples);
  const wanted =
    target === "same" ? inputs : await fetchValue(engine, target === "float" ? float : current, data, samples);
  const rows = await fetchRows(engine, float, layer, samples[0]);
  const seen = inputs.map((tensor) => matricesOf(layer, tensor));
  const perGroup = rows.length / seen[0].length;
  const groups = seen[0].map((_, g) => {
    const own = rows.slice(g * perGroup, (g + 1) * perGroup);
    const all = seen.map((matrices) => matrices[g]);
    const lacking = wanted.map((tensor, i) => outputsOf(difference(matricesOf(layer, tensor)[g], all[i]), own));
    const halves = [0, 1].flatMap((odd): readonly Half[] => {
      const isOwn = (_: unknown, i: number) => i % 2 === odd;
      const half = { inputs: [all.filter(isOwn).flat()], errors: [lacking.filter(isOwn).flat()] };
      return half.inputs[0].length === 0 ? [] : [half];
    });
    return { inputs: all.flat(), moved: target === "same" ? own : moveSlowly(own, halves, rounding.damping) };
  });
  const moved = Float32Array.from(groups.flatMap((group) => group.moved.flat()));
  const grids = chooseWeightGrids(moved, rows.length, format);
  const nearest = rowsOf(nearestCodes(Float32Array.from(rows.flat()), rows.length, grids, format), rows.length);
  const perRow = grids.scales.length / rows.length;
  const gridOf = (row: number, column: number): PlainGrid => {
    const grid = grids.scales.length === 1 ? 0 : row * perRow + Math.floor(column / grids.groupSize);
    return { scale: grids.scales[grid], zeroPoint: grids.zeroPoints[grid] };
  };
  const levelOf = (row: number, column: number, code: number) => {
    const { scale, zeroPoint } = gridOf(row, column);
    return (code - zeroPoint) * scale;
  };
  return groups.flatMap((group, g) => {
    const first = g * perGroup;
    const { order, damping } = rounding;
    const options = { order, damping, ...codeLimits(format), gridOf: (r: number, c: number) => gridOf(first + r, c) };
    const { values } = roundSlowly(group.inputs, group.moved, options);
    const others = group.moved.map((_, r) => nearest[first + r].map((code, c) => levelOf(first + r, c, code)));
    const errors = [values, others].map((one) => outputErrorsOf(group.inputs, group.moved, one));
    return values.map((row, r) => (errors[0][r] <= errors[1][r] ? row : others[r]));
  });
}

function difference(a: Matrix, b: Matrix): Matrix {
  return a.map((row, i) => row.map((value, k) => value - b[i][k]));
}

/** What a row of the weight is multiplied with, by group of channels. */
function matricesOf({ inputForm: form }: Layer, tensor: Tensor): readonly Matrix[] {
  if (form === undefined) throw new Error("the layer is no product");
  if (form.kind === "patches") {
    const { groups, kernel, strides, padding } = form;
    if (typeof padding === "string") throw new Error("padding that depends on the size is not done by hand");
    return patchesOf(tensor, { kernel, stride: strides[0], pad: padding, groups, dilation: form.dilations[0] });
  }
  if (form.axis === -1) return patchesOf(tensor, { kernel: [], stride: 1, pad: 0, groups: 1 });
  throw new Error("columns are not read by hand");
}
