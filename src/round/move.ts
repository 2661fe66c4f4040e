import type { Cross } from "../calibrate/cross.js";
import type { Gram } from "../calibrate/gram.js";
import { type FactoredGram, type GptqOptions, moveRows, outputErrors } from "../quantize/gptq.js";
import type { FactorOnce } from "./factors.js";

/**
 * Moves a weight so that it gives, from its quantized input, what the float weight gives from the wanted one: by the
 * least-squares solution, as far as what one half of the samples teaches holds on the other. What is left of the error of
 * earlier layers is not always to be seen in one layer's input: moved all the way, a weight learns the samples by heart.
 *
 * @param rows `[rowCount, columns]`
 * @returns the moved rows
 */
export function moveWeight(
  rows: Float32Array,
  rowCount: number,
  gram: Gram,
  cross: Cross,
  options: GptqOptions,
  factorOnce: FactorOnce,
): Float32Array {
  const columns = rows.length / rowCount;
  const factored = factorOnce(gram.products, columns, options);
  const size = rows.length / factored.length;
  const moved = rows.slice();
  for (const [g, whole] of factored.entries()) {
    const [start, end] = [g * size, (g + 1) * size];
    const share = holdingShare(halvesOf(gram, cross, g, columns, size, options, factorOnce), size / columns);
    if (share === 0) continue;
    const target = moveRows(whole, rows.subarray(start, end), size / columns, cross.products.subarray(start, end));
    for (let i = 0; i < size; i++) moved[start + i] += share * (target[i] - rows[start + i]);
  }
  return moved;
}

/** A group of channels on one half of the samples. */
interface Half {
  readonly gram: FactoredGram;
  /** EᵀX. `[rows, columns]` */
  readonly cross: Float64Array;
}

function halvesOf(
  gram: Gram,
  cross: Cross,
  group: number,
  columns: number,
  size: number,
  { damping }: GptqOptions,
  factorOnce: FactorOnce,
): readonly Half[] {
  return gram.halves.flatMap((products, i) => {
    if (products.length === 0) return [];
    const factored = factorOnce(products, columns, { order: "natural", damping });
    return [{ gram: factored[group], cross: cross.halves[i].subarray(group * size, (group + 1) * size) }];
  });
}

/**
 * How far to go, from 0 to 1, for the smallest error on one half with what was found on the other. With Δ found on one half,
 * E and X of the other, |E - tXΔ|² is smallest at t = <E, XΔ> / |XΔ|². Nothing is moved where there is one half only.
 */
function holdingShare(halves: readonly Half[], rowCount: number): number {
  if (halves.length < 2) return 0;
  let [along, square] = [0, 0];
  for (const [i, { gram, cross }] of halves.entries()) {
    const other = halves[1 - i];
    const none = new Float32Array(cross.length);
    const change = moveRows(gram, none, rowCount, cross);
    for (let k = 0; k < change.length; k++) along += change[k] * other.cross[k];
    square += outputErrors(other.gram, change, none, rowCount).reduce((sum, error) => sum + error, 0);
  }
  return square > 0 ? Math.min(Math.max(along / square, 0), 1) : 0;
}
