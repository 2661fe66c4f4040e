import { type NodeWriter, writeExponential, writeLogarithm } from "../calibrate/curve.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { float32Tensor, floatTensor } from "../tensor/tensor.js";
import type { StoredCorrection } from "./block-fit.js";
import type { BlockSite } from "./block-sites.js";
import { type StoredMatrix, writeMatrix } from "./stored-matrix.js";

/** Adds a correction to what leaves a block: the value keeps its name, the raw one gets another. */
export function writeCorrection(graph: Graph, site: BlockSite, correction: StoredCorrection): GraphPatch {
  const { output, input, elementType, limits } = site;
  const producer = graph.producer(output);
  if (producer === undefined) throw new Error(`${output} is computed by no node`);
  const patch = new PatchWriter(createNameSource(graph));
  const writer: NodeWriter = {
    node: (opType, inputs, attributes) => patch.node(opType, inputs, `${output}_correction`, attributes),
    constant: (tensor) => patch.constant(`${output}_correction_constant`, tensor),
  };
  const cast = (value: ValueName, to: "float32" | typeof elementType) =>
    elementType === "float32" ? value : writer.node("Cast", [value], { to: elementCodeOf(to) });
  const raw = patch.names.fresh(`${output}_uncompensated`);
  patch.add(
    withOutputs(
      producer,
      producer.outputs.map((name) => (name === output ? raw : name)),
    ),
  );
  const added = writeAdded(writer, cast(input, "float32"), site, correction);
  const isLimited = limits !== undefined;
  const last = (opType: string, inputs: readonly ValueName[], isLast: boolean) =>
    isLast && elementType === "float32" ? patch.nodeTo(output, opType, inputs) : writer.node(opType, inputs);
  const sum = last("Add", [cast(raw, "float32"), added], !isLimited);
  const limited = isLimited ? last(...limiting(writer, sum, limits), true) : sum;
  if (elementType !== "float32") patch.nodeTo(output, "Cast", [limited], { to: elementCodeOf(elementType) });
  return patch.finish(`correct ${output}`, { remove: [producer] });
}

function limiting(
  writer: NodeWriter,
  value: ValueName,
  { low, high }: NonNullable<BlockSite["limits"]>,
): readonly [string, readonly ValueName[]] {
  if (low === 0 && high === Number.POSITIVE_INFINITY) return ["Relu", [value]];
  const limits = [low, high].map((limit) =>
    Number.isFinite(limit) ? writer.constant(floatTensor("float32", [], [limit])) : "",
  );
  return ["Clip", [value, ...limits]];
}

function writeAdded(writer: NodeWriter, input: ValueName, site: BlockSite, correction: StoredCorrection): ValueName {
  const { curves, matrices, offset, most } = correction;
  const { form, rank } = site;
  const shape = form.kind === "vectors" ? [offset.length] : [offset.length, ...new Array<number>(rank - 2).fill(1)];
  const constant = writer.constant(float32Tensor(shape, offset));
  const start =
    curves.input === undefined || matrices.length === 0 ? input : writeLogarithm(writer, input, curves.input);
  const multiplied = matrices.reduce(
    (value, matrix, i) =>
      form.kind === "vectors"
        ? writer.node("MatMul", [value, writeMatrix(writer, matrix, [matrix.columns, matrix.rows], 1)])
        : writeConv(writer, value, matrix, site, i === 0),
    start,
  );
  const sum = matrices.length === 0 ? constant : writer.node("Add", [multiplied, constant]);
  if (curves.error === undefined || most === undefined) return sum;
  return writeExponential(writer, sum, curves.error, most, shape);
}

/** The first convolution goes over the maps as the block does, the second one only mixes channels. */
function writeConv(
  writer: NodeWriter,
  value: ValueName,
  matrix: StoredMatrix,
  { form, groups, rank, inputChannels }: BlockSite,
  isFirst: boolean,
): ValueName {
  const ones = new Array<number>(rank - 2).fill(1);
  if (form.kind === "vectors" || !isFirst) {
    return writer.node("Conv", [value, writeMatrix(writer, matrix, [matrix.rows, matrix.columns, ...ones], 0)]);
  }
  const own = groups === 1 ? matrix : withoutOtherGroups(matrix, groups);
  const weight = writeMatrix(writer, own, [matrix.rows, inputChannels / groups, ...form.kernel], 0);
  return writer.node("Conv", [value, weight], { group: groups, strides: form.strides, pads: form.padding });
}

/** Of each row the columns of its own group. */
function withoutOtherGroups(matrix: StoredMatrix, groups: number): StoredMatrix {
  const columns = matrix.columns / groups;
  const perGroup = matrix.rows / groups;
  const values = Float32Array.from({ length: matrix.rows * columns }, (_, i) => {
    const row = Math.floor(i / columns);
    return matrix.values[row * matrix.columns + Math.floor(row / perGroup) * columns + (i % columns)];
  });
  return { ...matrix, columns, values };
}
