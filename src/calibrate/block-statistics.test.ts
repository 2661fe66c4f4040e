import { afterAll } from "vitest";
import { differenceOf, mapRows, predict, type Rows, sumPairs } from "../../test/pair-sums.js";
import { type Pair, type StatisticCase, testStatistic } from "../../test/statistic-contract.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { CorrectedBlock } from "./block-rows.js";
import { type BlockSums, BlockSumsStatistic, type Curves, totalOf } from "./block-sums.js";
import { type BlockError, type BlockTrial, BlockTrialStatistic, type Correction } from "./block-trial.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Values are `[batch, 4, 3]`: 4 channels of 3 positions, or 4 tokens of 3 channels. */
const shared = { input: "y", entry: "y", output: "y", rank: 3, trajectoryShare: 1, isLevelled: false };
const maps: CorrectedBlock = {
  ...shared,
  inputChannels: 4,
  outputChannels: 4,
  form: { kind: "maps", kernel: [1], strides: [1], padding: [0, 0] },
};
const patches: CorrectedBlock = { ...maps, form: { kind: "maps", kernel: [3], strides: [1], padding: [1, 1] } };
const tokens: CorrectedBlock = { ...shared, inputChannels: 3, outputChannels: 3, form: { kind: "vectors" } };
const levelled: CorrectedBlock = { ...tokens, isLevelled: true, token: { index: 1, weight: "root" } };
const logarithmic: Curves = { input: 0.7, error: 1.5 };

/** All numbers of a statistic that do not depend on how samples go together to runs. */
const sumsSeen = (result: unknown) => {
  const { halves, largest, ...rest } = result as BlockSums;
  return {
    ...rest,
    kind: 0,
    largest: Float64Array.from(largest),
    halves: halves.map((both) => ({ ...totalOf(both) })),
  };
};

const correction: Correction = {
  curves: logarithmic,
  matrices: [
    { rows: 2, columns: 3, values: Float32Array.of(0.5, -0.25, 0.125, 1, 0, -1) },
    { rows: 3, columns: 2, values: Float32Array.of(0.5, 0.25, -0.5, 1, 0.125, 0.75) },
  ],
  offset: Float32Array.of(0.25, -0.5, 0.125),
  most: Float32Array.of(0.5, 1, 0.25),
};
const norm = { isCentred: true, gain: Float32Array.of(1, 2, 0.5), epsilon: 1e-3 };
const judged: CorrectedBlock = { ...tokens, norm, limits: { low: -1, high: 1 }, token: { index: 0, weight: 5 } };
const trialSeen = (result: unknown) => {
  const { before, after } = result as BlockTrial;
  return { before, after: { ...after } };
};

const cases: readonly StatisticCase[] = [
  {
    about: "sums over positions of maps",
    make: () => new BlockSumsStatistic(maps, [{}]),
    slowly: (pairs) => sumsOf(pairs, positionsOf, positionsOf, [{}]),
    seen: sumsSeen,
  },
  {
    about: "sums over patches of maps",
    make: () => new BlockSumsStatistic(patches, [{}]),
    slowly: (pairs) => sumsOf(pairs, patchesOf, positionsOf, [{}]),
    seen: sumsSeen,
  },
  {
    about: "sums over tokens on two scales",
    make: () => new BlockSumsStatistic(tokens, [{}, logarithmic]),
    slowly: (pairs) => sumsOf(pairs, tokensOf, tokensOf, [{}, logarithmic]),
    seen: sumsSeen,
  },
  {
    about: "sums over tokens that count differently",
    make: () => new BlockSumsStatistic(levelled, [{}]),
    slowly: (pairs) => sumsOf(pairs, tokensOf, tokensOf, [{}], weightsOf(pairs)),
    seen: sumsSeen,
  },
  {
    about: "trial of a correction of maps",
    make: () => new BlockTrialStatistic({ ...maps }, [], "none"),
    slowly: (pairs) => ({ before: errorsOf(rowsBy(pairs, positionsOf, "current"), pairs, positionsOf), after: [] }),
    seen: trialSeen,
  },
  {
    about: "trial of a correction of tokens",
    make: () => new BlockTrialStatistic(judged, [[correction, correction]], "one"),
    slowly: (pairs) => trialOf(pairs),
    seen: trialSeen,
  },
];

for (const given of cases) testStatistic(engine, given);

type Take = (values: readonly number[]) => Rows;

function tokensOf(values: readonly number[]): Rows {
  return { columns: 3, values: Float64Array.from(values) };
}

function positionsOf(values: readonly number[]): Rows {
  return { columns: 4, values: Float64Array.from(values, (_, i) => values[(i % 4) * 3 + Math.floor(i / 4)]) };
}

/** Of each position the one before, itself and the one behind, channel by channel; zeros beyond the ends. */
function patchesOf(values: readonly number[]): Rows {
  return {
    columns: 12,
    values: Float64Array.from({ length: 36 }, (_, i) => {
      const [position, channel, tap] = [Math.floor(i / 12), Math.floor((i % 12) / 3), i % 3];
      const from = position + tap - 1;
      return from < 0 || from > 2 ? 0 : values[channel * 3 + from];
    }),
  };
}

function rowsBy(pairs: readonly Pair[], take: Take, key: keyof Pair): Rows {
  const parts = pairs.map((pair) => take(pair[key]));
  return { columns: parts[0].columns, values: Float64Array.from(parts.flatMap(({ values }) => [...values])) };
}

function sumsOf(
  pairs: readonly Pair[],
  takeInput: Take,
  takeOutput: Take,
  curves: readonly Curves[],
  weights?: Float64Array,
): BlockSums {
  const x = rowsBy(pairs, takeInput, "current");
  const target = rowsBy(pairs, takeOutput, "float");
  const e = differenceOf(target, rowsBy(pairs, takeOutput, "current"));
  const meanOf = ({ values }: Rows, power: number) =>
    values.reduce((sum, value) => sum + value ** power, 0) / values.length;
  return {
    kind: "sums",
    rows: x.values.length / x.columns,
    halves: curves.map(({ input, error }) => [sumPairs(logarithm(x, input), logarithm(e, error), weights), undefined]),
    squares: { input: meanOf(x, 2), error: meanOf(e, 2), target: meanOf(target, 2) },
    kurtosis: { input: meanOf(x, 4) / meanOf(x, 2) ** 2, error: meanOf(e, 4) / meanOf(e, 2) ** 2 },
    largest: Float32Array.from({ length: e.columns }, (_, o) =>
      Math.max(...e.values.filter((_, i) => i % e.columns === o).map(Math.abs)),
    ),
  };
}

function logarithm(rows: Rows, unit: number | undefined): Rows {
  return unit === undefined ? rows : mapRows(rows, (value) => Math.sign(value) * Math.log1p(unit * Math.abs(value)));
}

/** The second of four tokens counts twice; all count by one over their variance. */
function weightsOf(pairs: readonly Pair[]): Float64Array {
  const { values } = rowsBy(pairs, tokensOf, "float");
  return Float64Array.from({ length: values.length / 3 }, (_, row) => {
    const own = values.subarray(3 * row, 3 * row + 3);
    const mean = (own[0] + own[1] + own[2]) / 3;
    const variance = own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 3;
    return (row % 4 === 1 ? 2 : 1) / (variance + 1e-6);
  });
}

function errorsOf(corrected: Rows, pairs: readonly Pair[], take: Take): BlockError {
  const { values } = differenceOf(rowsBy(pairs, take, "float"), corrected);
  const raw = values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
  return { raw, judged: raw };
}

function trialOf(pairs: readonly Pair[]): Pick<BlockTrial, "before" | "after"> {
  const target = rowsBy(pairs, tokensOf, "float");
  const output = rowsBy(pairs, tokensOf, "current");
  const [right, left] = correction.matrices;
  const inner = predict(logarithm(output, logarithmic.input), right.values, new Float64Array(2));
  const added = mapRows(predict(inner, left.values, correction.offset), (z, o) => {
    const size = Math.min(Math.expm1(Math.abs(z)) / 1.5, correction.most?.[o] ?? 0);
    return Math.sign(z) * size;
  });
  const corrected = { ...output, values: output.values.map((value, i) => value + added.values[i]) };
  return { before: judge(output, target), after: [judge(corrected, target)] };
}

/** Behind the limits, and behind a LayerNormalization with the first of four tokens counted five times. */
function judge(given: Rows, target: Rows): BlockError {
  const limited = mapRows(given, (value) => Math.min(Math.max(value, -1), 1));
  const raw = differenceOf(target, limited).values;
  const normal = differenceOf(normalized(target), normalized(limited)).values;
  const weightOf = (i: number) => (Math.floor(i / 3) % 4 === 0 ? 5 : 1);
  const weights = normal.reduce((sum, _, i) => sum + weightOf(i), 0);
  return {
    raw: raw.reduce((sum, value) => sum + value ** 2, 0) / raw.length,
    judged: normal.reduce((sum, value, i) => sum + weightOf(i) * value ** 2, 0) / weights,
  };
}

function normalized({ columns, values }: Rows): Rows {
  const result = values.map((value, i) => {
    const own = values.subarray(i - (i % 3), i - (i % 3) + 3);
    const mean = (own[0] + own[1] + own[2]) / 3;
    const variance = own.reduce((sum, one) => sum + (one - mean) ** 2, 0) / 3;
    return (norm.gain[i % 3] * (value - mean)) / Math.sqrt(variance + norm.epsilon);
  });
  return { columns, values: result };
}
