import type { ValueName } from "../graph/graph.js";
import type { InputForm } from "../operators/layer.js";
import type { ProbeWriter } from "./probe-writer.js";

/** What a layer reads, and how much of it is looked at. */
export interface InputSite {
  /** What the layer reads in the current network. */
  readonly input: ValueName;
  /** Rank of the input. */
  readonly rank: number;
  readonly form: InputForm;
  /** Columns of a row of the weight. */
  readonly columns: number;
  /** How many of the vectors or patches of one run are taken at most, about: they are chosen evenly over the positions. */
  readonly rowsPerRun: number;
}

/**
 * A layer's input as the matrix X `[n, K]` that a row of its weight is multiplied with, one matrix per group of channels:
 * vectors as they are, patches of a convolution with the zeros of its padding. Only the chosen positions are ever
 * written out.
 */
export interface InputMatrix {
  /** XᵀX, `[groups, K, K]`, or `[K, K]` where there is one group. */
  gram(): ValueName;
  /**
   * EᵀX, `[groups, O / groups, K]`, or `[O, K]` where there is one group.
   *
   * @param error E in the form of the layer's output
   * @param outputAxis axis of its channels, counted from the end, where the input is vectors
   */
  cross(error: ValueName, outputAxis: number): ValueName;
  /** n, one number. */
  readonly rowCount: ValueName;
}

/** @param input in float32 */
export function writeInputMatrix(writer: ProbeWriter, input: ValueName, site: InputSite): InputMatrix {
  const { form } = site;
  return form.kind === "vectors"
    ? writeVectors(writer, input, form.axis, site)
    : writePatches(writer, input, form, site);
}

function writeVectors(
  writer: ProbeWriter,
  input: ValueName,
  axis: number,
  { rank, columns, rowsPerRun }: InputSite,
): InputMatrix {
  const alongLast = (value: ValueName, along: number) =>
    along === -1 ? value : writer.node("Transpose", [value], { perm: lastTwoSwapped(rank) });
  const all = writer.node("Reshape", [alongLast(input, axis), writer.integers([-1, columns])]);
  const chosen = chooseEvenly(writer, sizeOf(writer, all, 0), writer.integers([rowsPerRun], []));
  const rows = writer.node("Gather", [all, chosen], { axis: 0 });
  return {
    rowCount: sizeOf(writer, rows, 0),
    gram: () => writer.node("Gemm", [rows, rows], { transA: 1 }),
    cross(error, outputAxis) {
      const width = sizeOf(writer, error, outputAxis);
      const shape = writer.node("Concat", [writer.integers([-1]), unsqueezed(writer, width)], { axis: 0 });
      const errors = writer.node("Gather", [writer.node("Reshape", [alongLast(error, outputAxis), shape]), chosen], {
        axis: 0,
      });
      return writer.node("Gemm", [errors, rows], { transA: 1 });
    },
  };
}

function writePatches(
  writer: ProbeWriter,
  input: ValueName,
  form: Extract<InputForm, { kind: "patches" }>,
  { columns, rowsPerRun }: InputSite,
): InputMatrix {
  const { groups, kernel, strides, dilations } = form;
  const reach = kernel.map((size, axis) => (size - 1) * dilations[axis] + 1);
  const padded = writePadding(writer, input, form, reach);
  const shape = writer.node("Shape", [padded]);
  const sizes = kernel.map((_, axis) => elementOf(writer, shape, axis + 2));
  // The places where the kernel lies along each axis.
  const places = sizes.map((size, axis) => {
    const rest = writer.node("Sub", [size, writer.integers([reach[axis]], [])]);
    const steps = writer.node("Div", [rest, writer.integers([strides[axis]], [])]);
    return writer.node("Add", [steps, writer.integers([1], [])]);
  });
  const product = (values: readonly ValueName[]) =>
    values.reduce((left, right) => writer.node("Mul", [left, right]), writer.integers([1], []));
  const total = product(places);
  const samples = atLeast(writer, 1, elementOf(writer, shape, 0));
  const perSample = writer.node("Div", [writer.integers([rowsPerRun], []), samples]);
  const chosen = chooseEvenly(writer, total, perSample);
  const offsets = kernel.map((_, axis) => {
    const place = remainder(writer, chosen, product(places.slice(axis + 1)), places[axis]);
    const from = writer.node("Mul", [place, writer.integers([strides[axis]], [])]);
    const tapPlaces = tapsAlong(kernel, axis).map((tap) => tap * dilations[axis]);
    const at = writer.node("Add", [writer.integers(tapPlaces, [tapPlaces.length, 1]), from]);
    return writer.node("Mul", [at, product(sizes.slice(axis + 1))]);
  });
  // Without axes behind the channels each sample is one patch.
  const nowhere = writer.node("Mul", [chosen, writer.integers([0], [1, 1])]);
  const indices = offsets.reduce((left, right) => writer.node("Add", [left, right]), nowhere);
  const flat = (value: ValueName) =>
    kernel.length === 1 ? value : writer.node("Reshape", [value, writer.integers([0, 0, -1])]);
  const gathered = writer.node("Gather", [flat(padded), indices], { axis: 2 });
  const tapsFirst = writer.node("Transpose", [gathered], { perm: [1, 2, 0, 3] });
  const grouped = groups === 1 ? [] : [groups];
  const matrix = writer.node("Reshape", [tapsFirst, writer.integers([...grouped, columns, -1])]);
  const multiply = (left: ValueName) =>
    groups === 1
      ? writer.node("Gemm", [left, matrix], { transB: 1 })
      : writer.node("MatMul", [left, writer.node("Transpose", [matrix], { perm: [0, 2, 1] })]);
  return {
    rowCount: sizeOf(writer, matrix, -1),
    gram: () => multiply(matrix),
    cross(error) {
      const outputs = elementOf(writer, writer.node("Shape", [error]), 1);
      const perGroup = writer.node("Div", [outputs, writer.integers([groups], [])]);
      const sampled = writer.node("Gather", [flat(error), chosen], { axis: 2 });
      const channelsFirst = writer.node("Transpose", [sampled], { perm: [1, 0, 2] });
      const target = [writer.integers(grouped), unsqueezed(writer, perGroup), writer.integers([-1])];
      return multiply(writer.node("Reshape", [channelsFirst, writer.node("Concat", target, { axis: 0 })]));
    },
  };
}

/** The input with its padding written out. */
function writePadding(
  writer: ProbeWriter,
  input: ValueName,
  { strides, padding }: Extract<InputForm, { kind: "patches" }>,
  reach: readonly number[],
): ValueName {
  if (typeof padding !== "string") {
    if (padding.every((zeros) => zeros === 0)) return input;
    const axes = padding.length / 2;
    return writer.node("Pad", [
      input,
      writer.integers([0, 0, ...padding.slice(0, axes), 0, 0, ...padding.slice(axes)]),
    ]);
  }
  const shape = writer.node("Shape", [input]);
  const two = writer.integers([2], []);
  const sides = reach.map((size, axis) => {
    const [stride, one] = [writer.integers([strides[axis]], []), writer.integers([1], [])];
    const length = elementOf(writer, shape, axis + 2);
    // As many places as strides begin in the input, less one.
    const steps = writer.node("Div", [writer.node("Sub", [length, one]), stride]);
    const covered = writer.node("Add", [writer.node("Mul", [steps, stride]), writer.integers([size], [])]);
    const missing = atLeast(writer, 0, writer.node("Sub", [covered, length]));
    const less = writer.node("Div", [missing, two]);
    const more = writer.node("Sub", [missing, less]);
    const [before, behind] = padding === "SAME_UPPER" ? [less, more] : [more, less];
    return [unsqueezed(writer, before), unsqueezed(writer, behind)] as const;
  });
  const none = writer.integers([0, 0]);
  const parts = [none, ...sides.map(([before]) => before), none, ...sides.map(([, behind]) => behind)];
  return writer.node("Pad", [input, writer.node("Concat", parts, { axis: 0 })]);
}

/** Denominator of the fractions below. */
const parts = 1000;
/** The golden section: its multiples fall evenly into every step, and never into the same column of a picture. */
const golden = 618;

/**
 * Some of the places from 0 to `total`, ascending: all of them where they are not more than `most`, else one in each of
 * so many equal parts, now earlier in it and now later.
 */
export function chooseEvenly(writer: ProbeWriter, total: ValueName, most: ValueName): ValueName {
  const one = writer.integers([1], []);
  const some = atLeast(writer, 1, most);
  const count = writer.node("Where", [writer.node("Less", [total, some]), total, some]);
  const numbers = writer.node("Range", [writer.integers([0], []), count, one]);
  const denominator = writer.integers([parts], []);
  const shift = writer.node("Mod", [writer.node("Mul", [numbers, writer.integers([golden], [])]), denominator]);
  const shifted = writer.node("Add", [writer.node("Mul", [numbers, denominator]), shift]);
  const steps = writer.node("Mul", [atLeast(writer, 1, count), denominator]);
  return writer.node("Div", [writer.node("Mul", [shifted, total]), steps]);
}

/** (value / divisor) mod modulus */
function remainder(writer: ProbeWriter, value: ValueName, divisor: ValueName, modulus: ValueName): ValueName {
  return writer.node("Mod", [writer.node("Div", [value, divisor]), modulus]);
}

/** Where each tap of a kernel lies along an axis, the last axis running fastest. */
function tapsAlong(kernel: readonly number[], axis: number): readonly number[] {
  const taps = kernel.reduce((count, size) => count * size, 1);
  const inner = kernel.slice(axis + 1).reduce((count, size) => count * size, 1);
  return Array.from({ length: taps }, (_, tap) => Math.floor(tap / inner) % kernel[axis]);
}

function atLeast(writer: ProbeWriter, least: number, value: ValueName): ValueName {
  const limit = writer.integers([least], []);
  return writer.node("Where", [writer.node("Less", [value, limit]), limit, value]);
}

function sizeOf(writer: ProbeWriter, value: ValueName, axis: number): ValueName {
  return elementOf(writer, writer.node("Shape", [value]), axis);
}

function elementOf(writer: ProbeWriter, values: ValueName, index: number): ValueName {
  return writer.node("Gather", [values, writer.integers([index], [])]);
}

function unsqueezed(writer: ProbeWriter, scalar: ValueName): ValueName {
  return writer.node("Reshape", [scalar, writer.integers([1])]);
}

function lastTwoSwapped(rank: number): readonly number[] {
  return Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
}
