import type { Cross } from "../src/calibrate/cross.js";
import type { Gram } from "../src/calibrate/gram.js";
import { flat, type Matrix, outputErrorsOf, productsOf, ridge } from "./slow-rounding.js";

/** What was seen of a layer's input in one half of the runs: by group of channels its rows, and what the outputs lack. */
export interface Half {
  readonly inputs: readonly Matrix[];
  readonly errors: readonly Matrix[];
}

/** What the statistics of a layer's input tell. */
export function seenIn(halves: readonly Half[]): { readonly gram: Gram; readonly cross: Cross } {
  const ofHalf = (half: Half | undefined, left: "inputs" | "errors") =>
    Float64Array.from((half?.inputs ?? []).flatMap((rows, g) => [...flat(productsOf(half?.[left][g] ?? [], rows))]));
  const sums = (left: "inputs" | "errors") => {
    const [one, other] = [ofHalf(halves[0], left), ofHalf(halves[1], left)];
    const total = one.map((value, i) => value + (other[i] ?? 0));
    return { halves: [one, other] as const, products: total };
  };
  const rows = halves.reduce((count, { inputs }) => count + inputs[0].length, 0);
  return { gram: { rows, ...sums("inputs") }, cross: sums("errors") };
}

/** XΔᵀ: what a change of the weight changes in the output. */
export function outputsOf(inputs: Matrix, change: Matrix): number[][] {
  return inputs.map((row) => change.map((own) => own.reduce((sum, value, k) => sum + value * row[k], 0)));
}

/**
 * Rows moved by least squares towards what the outputs lack, as far as the halves bear each other out: as a person would
 * do it by hand.
 *
 * @param halves of one group of channels
 */
export function moveSlowly(rows: Matrix, halves: readonly Half[], damping: number): number[][] {
  const inputs = halves.flatMap((half) => half.inputs[0]);
  const errors = halves.flatMap((half) => half.errors[0]);
  const change = ridge(inputs, productsOf(errors, inputs), damping);
  const share = halves.length < 2 ? 0 : shareOf(halves, damping);
  return rows.map((row, r) => row.map((value, k) => value + share * change[r][k]));
}

function shareOf(halves: readonly Half[], damping: number): number {
  let [along, square] = [0, 0];
  for (const [i, own] of halves.entries()) {
    const found = ridge(own.inputs[0], productsOf(own.errors[0], own.inputs[0]), damping);
    const other = halves[1 - i];
    outputsOf(other.inputs[0], found).forEach((row, r) => {
      for (const [o, value] of row.entries()) along += value * other.errors[0][r][o];
    });
    const none = found.map((row) => row.map(() => 0));
    for (const error of outputErrorsOf(other.inputs[0], found, none)) square += error;
  }
  return square > 0 ? Math.min(Math.max(along / square, 0), 1) : 0;
}
