/** From the smallest to the largest value: of no values at all from infinity to minus infinity. */
export interface Range {
  readonly low: number;
  readonly high: number;
}

/** What was seen of a tensor, or of the part of a weight that shares a scale. */
export interface Observed {
  readonly extremes: Range;
  /** The extremes of the samples, a moving average in which a new one has a weight of a tenth; where asked for. */
  readonly averageExtremes?: Range;
  /** Where asked for. */
  readonly distribution?: Distribution;
}

/** What more than the extremes shall be seen of a tensor. */
export type Detail = "extremes" | "averageExtremes" | "distribution";

/** How the values of a tensor, or of a part of one, lie. Sums are float64. */
export interface Distribution {
  readonly count: number;
  /** The smallest and the largest value. */
  readonly low: number;
  readonly high: number;
  readonly mean: number;
  readonly standardDeviation: number;
  /** Mean distance from the mean. */
  readonly meanDeviation: number;
  /** Of the values above zero; zero where there are none. */
  readonly positive: { readonly mean: number; readonly rootMeanSquare: number };
  /** Of the magnitudes of the values. */
  magnitudes(): Distribution;
  /** How many values lie below a place. */
  countBelow(place: number): number;
  /** The value below which a share (0 to 1) of all lies, linear between neighbours. */
  quantile(share: number): number;
  /**
   * Sum of squared errors when each value becomes the nearest of some levels.
   *
   * @param first the lowest level
   * @param step from one level to the next, positive
   * @param most errors above it need not be told apart: infinity is returned where what lies beyond the levels alone is more
   */
  squaredError(first: number, step: number, levels: number, most?: number): number;
  /**
   * Sum of squared errors when the values between two borders become one level.
   *
   * @param levels ascending
   * @param borders between each level and the next
   */
  squaredErrorBetween(levels: readonly number[], borders: readonly number[]): number;
}

/**
 * Of finite values. A place is found by bisection and sums come from running totals, so an error on levels costs the number
 * of levels and not of values.
 *
 * @param values sorted; empty is one zero
 * @param counts how often each occurs; once where not given
 */
export function distributionOf(values: Float64Array | Float32Array, counts?: Float64Array): Distribution {
  return values.length === 0 ? new SortedValues(Float64Array.of(0)) : new SortedValues(values, counts);
}

/** With fewer distinct values than this for each level, going through the values is faster than to look for the levels. */
const valuesPerLevel = 8;

class SortedValues implements Distribution {
  readonly low: number;
  readonly high: number;
  readonly count: number;
  readonly mean: number;
  readonly standardDeviation: number;
  readonly meanDeviation: number;
  readonly positive: { readonly mean: number; readonly rootMeanSquare: number };
  readonly #values: Float64Array | Float32Array;
  /** Totals over the first `i` values: how many there are, their sum, the sum of their squares. */
  readonly #counts: Float64Array;
  readonly #sums: Float64Array;
  readonly #squares: Float64Array;
  /** Index of the first value in each of equally wide parts of the range: where to look for a place. */
  readonly #parts: Int32Array;
  readonly #partsPerUnit: number;

  constructor(values: Float64Array | Float32Array, counts?: Float64Array) {
    const size = values.length;
    this.#values = values;
    this.low = values[0];
    this.high = values[size - 1];
    this.#counts = new Float64Array(size + 1);
    this.#sums = new Float64Array(size + 1);
    this.#squares = new Float64Array(size + 1);
    this.#parts = new Int32Array(size + 2).fill(size);
    const perUnit = size / (this.high - this.low);
    this.#partsPerUnit = Number.isFinite(perUnit) ? perUnit : 0;
    for (let i = size - 1; i >= 0; i--) this.#parts[this.#partOf(values[i])] = i;
    for (let part = size; part >= 0; part--) this.#parts[part] = Math.min(this.#parts[part], this.#parts[part + 1]);
    for (let i = 0; i < size; i++) {
      const count = counts === undefined ? 1 : counts[i];
      this.#counts[i + 1] = this.#counts[i] + count;
      this.#sums[i + 1] = this.#sums[i] + count * values[i];
      this.#squares[i + 1] = this.#squares[i] + count * values[i] ** 2;
    }
    this.count = this.#counts[size];
    this.mean = this.#sums[size] / this.count;
    this.standardDeviation = Math.sqrt(Math.max(this.#squares[size] / this.count - this.mean ** 2, 0));
    const below = this.#indexOf(this.mean);
    // What lies below the mean is as far from it, all in all, as what lies above.
    this.meanDeviation = (2 * (this.mean * this.#counts[below] - this.#sums[below])) / this.count;
    const above = this.#indexOf(Number.MIN_VALUE);
    const positives = Math.max(this.count - this.#counts[above], 1);
    this.positive = {
      mean: (this.#sums[size] - this.#sums[above]) / positives,
      rootMeanSquare: Math.sqrt((this.#squares[size] - this.#squares[above]) / positives),
    };
  }

  magnitudes(): Distribution {
    if (this.low >= 0) return this;
    const size = this.#values.length;
    const magnitudes = new Float64Array(size);
    const counts = new Float64Array(size);
    // Both sides are in order, from zero outwards.
    let down = this.#indexOf(0) - 1;
    let up = down + 1;
    for (let i = 0; i < size; i++) {
      const isDown = up === size || (down >= 0 && -this.#values[down] < this.#values[up]);
      const from = isDown ? down-- : up++;
      magnitudes[i] = Math.abs(this.#values[from]);
      counts[i] = this.#counts[from + 1] - this.#counts[from];
    }
    return new SortedValues(magnitudes, counts);
  }

  countBelow(place: number): number {
    return this.#counts[this.#indexOf(place)];
  }

  quantile(share: number): number {
    const place = share * (this.count - 1);
    const before = Math.floor(place);
    const value = this.#valueAt(before);
    return value + (place - before) * (this.#valueAt(Math.min(before + 1, this.count - 1)) - value);
  }

  squaredError(first: number, step: number, levels: number, most = Number.POSITIVE_INFINITY): number {
    if (most < Number.POSITIVE_INFINITY && this.#errorBeyond(first, first + (levels - 1) * step) > most) {
      return Number.POSITIVE_INFINITY;
    }
    return this.#values.length < valuesPerLevel * levels
      ? this.#errorByValue(first, step, levels)
      : this.#errorByLevel(first, step, levels);
  }

  squaredErrorBetween(levels: readonly number[], borders: readonly number[]): number {
    let error = 0;
    let start = 0;
    for (const [i, level] of levels.entries()) {
      const end = i === borders.length ? this.#values.length : this.#indexOf(borders[i]);
      error += this.#errorAt(level, start, end);
      start = end;
    }
    return Math.max(error, 0);
  }

  /** Of the values below the lowest and above the highest level. */
  #errorBeyond(lowest: number, highest: number): number {
    const [below, above, size] = [this.#indexOf(lowest), this.#indexOf(highest), this.#values.length];
    return this.#errorAt(lowest, 0, below) + this.#errorAt(highest, above, size);
  }

  /** Of the values from one index to another when they all become a level. */
  #errorAt(level: number, start: number, end: number): number {
    const count = this.#counts[end] - this.#counts[start];
    const sum = this.#sums[end] - this.#sums[start];
    return this.#squares[end] - this.#squares[start] - 2 * level * sum + level * level * count;
  }

  #errorByValue(first: number, step: number, levels: number): number {
    let error = 0;
    for (let i = 0; i < this.#values.length; i++) {
      const level = Math.min(Math.max(Math.round((this.#values[i] - first) / step), 0), levels - 1);
      const distance = this.#values[i] - (first + level * step);
      error += (this.#counts[i + 1] - this.#counts[i]) * distance * distance;
    }
    return error;
  }

  #errorByLevel(first: number, step: number, levels: number): number {
    let error = 0;
    let start = 0;
    for (let i = 0; i < levels; i++) {
      const level = first + i * step;
      const end = i === levels - 1 ? this.#values.length : this.#indexOf(level + step / 2);
      if (end === start) continue;
      error += this.#errorAt(level, start, end);
      start = end;
    }
    return Math.max(error, 0);
  }

  /** Index of the first value that is not below a place. */
  #indexOf(place: number): number {
    if (!(place > this.low)) return 0;
    if (place > this.high) return this.#values.length;
    const part = this.#partOf(place);
    let from = this.#parts[part];
    let to = this.#parts[part + 1];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#values[middle] < place) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  #partOf(place: number): number {
    return Math.floor((place - this.low) * this.#partsPerUnit);
  }

  /** The value at a rank, repetitions counted. */
  #valueAt(rank: number): number {
    let from = 0;
    let to = this.#values.length - 1;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#counts[middle + 1] <= rank) from = middle + 1;
      else to = middle;
    }
    return this.#values[from];
  }
}
