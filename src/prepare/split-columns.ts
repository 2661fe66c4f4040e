import type { GroupColumns, WeightColumns } from "./weight-columns.js";

/**
 * One of the columns after splitting: `share · w + offset · scale` of each value w of its source; a value that is zero stays
 * zero. The pieces of a source add up to it.
 */
export interface Piece {
  /** The input channel that is duplicated for it, counted within the group. */
  readonly source: number;
  readonly share: number;
  /** In units of the scale of the row. */
  readonly offset: number;
}

/** How often, and how the two halves lie: beside the middle so that both together round as the whole does, or on it. */
export interface SplitRule {
  /** Splits in each group. */
  readonly count: number;
  readonly split: "aware" | "naive";
  /** Whether a column that was split may be split again. */
  readonly again: boolean;
}

/** The scale of each row, one for all where there is one. */
export type RowScales = ArrayLike<number>;

/** Every column as it is. */
export function wholePieces({ columns }: GroupColumns): readonly Piece[] {
  return columns.map((_, source) => ({ source, share: 1, offset: 0 }));
}

/**
 * Splits the column with the largest magnitude, measured in the scales of the rows, as often as the rule says. The first half
 * takes the place of the column, the second is appended.
 *
 * @param scales of the rows of the whole weight
 * @see Zhao et al., Improving Neural Network Quantization without Retraining using Outlier Channel Splitting,
 * arXiv:1901.09504, section 3
 */
export function splitLargest(group: GroupColumns, taps: number, scales: RowScales, rule: SplitRule): readonly Piece[] {
  const pieces = [...wholePieces(group)];
  const maxima = pieces.map((piece) => largestOf(group, taps, scales, piece));
  for (let i = 0; i < rule.count; i++) {
    const isOpen = (piece: number) => rule.again || pieces[piece].share === 1;
    const chosen = maxima.reduce((best, max, at) => (isOpen(at) && max >= (maxima[best] ?? 0) ? at : best), -1);
    if (chosen < 0) break;
    const [first, second] = halves(pieces[chosen], rule);
    pieces[chosen] = first;
    pieces.push(second);
    for (const at of [chosen, pieces.length - 1]) maxima[at] = largestOf(group, taps, scales, pieces[at]);
  }
  return pieces;
}

/**
 * Splits, as often as the rule says, the column that lowers the error the most.
 *
 * @param errorOf squared error of a source column that is split into some pieces
 */
export function splitByError(
  group: GroupColumns,
  errorOf: (source: number, pieces: readonly Piece[]) => number,
  rule: SplitRule,
): readonly Piece[] {
  const parts = wholePieces(group).map((piece) => [piece]);
  const errors = parts.map((own, source) => errorOf(source, own));
  const splits = (own: readonly Piece[]) => (own.length > 1 && !rule.again ? undefined : splitWidest(own, rule));
  const gainOf = (source: number) => {
    const split = splits(parts[source]);
    return split === undefined ? Number.NEGATIVE_INFINITY : errors[source] - errorOf(source, split);
  };
  const gains = parts.map((_, source) => gainOf(source));
  const added: number[] = [];
  while (added.length < rule.count) {
    const best = gains.reduce((most, gain, source) => (gain > gains[most] ? source : most), 0);
    const split = splits(parts[best]);
    if (split === undefined) break;
    parts[best] = split;
    errors[best] = errorOf(best, split);
    gains[best] = gainOf(best);
    added.push(best);
  }
  const rest = parts.map((own) => own.slice(1));
  const appended = added.map((source) => rest[source].shift() as Piece);
  return [...parts.map(([first]) => first), ...appended];
}

/** The columns that pieces stand for, each `[rows, taps]`. */
export function columnsOf(
  group: GroupColumns,
  taps: number,
  scales: RowScales,
  pieces: readonly Piece[],
): readonly Float64Array[] {
  return pieces.map(({ source, share, offset }) =>
    group.columns[source].map((value, i) =>
      value === 0 ? 0 : share * value + offset * scaleAt(scales, group.firstRow + Math.floor(i / taps)),
    ),
  );
}

/** The weight with its columns split. */
export function splitWeight(
  weight: WeightColumns,
  scales: RowScales,
  pieces: readonly (readonly Piece[])[],
): WeightColumns {
  const groups = weight.groups.map((group, index) => ({
    ...group,
    columns: columnsOf(group, weight.taps, scales, pieces[index]),
  }));
  return { ...weight, groups };
}

export function scaleAt(scales: RowScales, row: number): number {
  return scales.length === 1 ? scales[0] : scales[row];
}

/** Splits the piece that holds the largest share of its column. */
function splitWidest(own: readonly Piece[], rule: SplitRule): Piece[] {
  const widest = own.reduce((best, { share }, at) => (share > own[best].share ? at : best), 0);
  const [first, second] = halves(own[widest], rule);
  return [...own.slice(0, widest), first, ...own.slice(widest + 1), second];
}

/** A quarter of a step apart from the middle: the sum of both rounded is the whole rounded (Hermite's identity). */
function halves({ source, share, offset }: Piece, { split }: SplitRule): readonly [Piece, Piece] {
  const distance = split === "aware" ? 0.25 : 0;
  return [
    { source, share: share / 2, offset: offset / 2 - distance },
    { source, share: share / 2, offset: offset / 2 + distance },
  ];
}

function largestOf(group: GroupColumns, taps: number, scales: RowScales, { source, share, offset }: Piece): number {
  const column = group.columns[source];
  let largest = 0;
  for (let row = 0, i = 0; row < group.rows; row++) {
    const scale = scaleAt(scales, group.firstRow + row);
    for (let tap = 0; tap < taps; tap++, i++) {
      if (column[i] === 0) continue;
      largest = Math.max(largest, Math.abs((share * column[i]) / scale + offset));
    }
  }
  return largest;
}
