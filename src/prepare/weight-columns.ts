import type { Tensor } from "../tensor/tensor.js";
import { float32Values, floatTensor } from "../tensor/tensor.js";

/** Along which axes of a weight its output and its input channels lie. */
export interface WeightLayout {
  readonly rowAxis: number;
  readonly inputAxis: number;
  /** Runs of as many rows, each of which multiplies input channels of its own: groups of a convolution. */
  readonly groups: number;
}

/** A weight by its input channels. A column is what multiplies one input channel: `[rows, taps]`. */
export interface WeightColumns {
  /** Output channels of the whole weight. */
  readonly rows: number;
  /** Values for each pair of an output and an input channel. */
  readonly taps: number;
  readonly groups: readonly GroupColumns[];
}

/** What one group multiplies. */
export interface GroupColumns {
  readonly firstRow: number;
  readonly rows: number;
  /** One for each input channel of the group, `[rows, taps]`. */
  readonly columns: readonly Float64Array[];
}

/** @param tensor of a float type, with whole groups of rows */
export function toColumns(tensor: Tensor, { rowAxis, inputAxis, groups }: WeightLayout): WeightColumns {
  const values = float32Values(tensor);
  const rows = tensor.shape[rowAxis];
  const rowsPerGroup = rows / groups;
  const channels = tensor.shape[inputAxis];
  const taps = values.length / (rows * channels);
  const read = Array.from({ length: groups }, (_, group) => ({
    firstRow: group * rowsPerGroup,
    rows: rowsPerGroup,
    columns: Array.from({ length: channels }, () => new Float64Array(rowsPerGroup * taps)),
  }));
  forEachElement(tensor.shape, rowAxis, inputAxis, (stored, row, channel, tap) => {
    const group = read[Math.floor(row / rowsPerGroup)];
    group.columns[channel][(row - group.firstRow) * taps + tap] = values[stored];
  });
  return { rows, taps, groups: read };
}

/** The opposite of `toColumns`; the number of columns may be another than that of the given tensor. */
export function fromColumns(weight: WeightColumns, like: Tensor, { rowAxis, inputAxis }: WeightLayout): Tensor {
  const channels = weight.groups[0].columns.length;
  const shape = like.shape.map((size, axis) => (axis === inputAxis ? channels : size));
  const values = new Float64Array(weight.rows * weight.taps * channels);
  const rowsPerGroup = weight.rows / weight.groups.length;
  forEachElement(shape, rowAxis, inputAxis, (stored, row, channel, tap) => {
    const group = weight.groups[Math.floor(row / rowsPerGroup)];
    values[stored] = group.columns[channel][(row - group.firstRow) * weight.taps + tap];
  });
  return floatTensor(like.type, shape, values);
}

/** Calls with the index in storage order and with the three coordinates of every element. */
function forEachElement(
  shape: readonly number[],
  rowAxis: number,
  inputAxis: number,
  visit: (stored: number, row: number, channel: number, tap: number) => void,
): void {
  const place = shape.map(() => 0);
  const count = shape.reduce((product, size) => product * size, 1);
  for (let stored = 0; stored < count; stored++) {
    let tap = 0;
    for (let axis = 0; axis < shape.length; axis++) {
      if (axis !== rowAxis && axis !== inputAxis) tap = tap * shape[axis] + place[axis];
    }
    visit(stored, place[rowAxis], place[inputAxis], tap);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place[axis]++;
      if (place[axis] < shape[axis]) break;
      place[axis] = 0;
    }
  }
}
