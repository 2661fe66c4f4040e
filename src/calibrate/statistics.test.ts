import { afterAll } from "vitest";
import { type Pair, type StatisticCase, testStatistic } from "../../test/statistic-contract.js";
import { distributionOf, type Range } from "../math/distribution.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { Limits } from "../operators/limits.js";
import { fromFloat16, toFloat16 } from "../tensor/half.js";
import { type ChannelSums, ChannelSumsStatistic, type ChannelTrial, ChannelTrialStatistic } from "./channel-lines.js";
import { type ChannelMoments, ChannelMomentsStatistic } from "./channel-moments.js";
import { type ChannelRows, ChannelRowsStatistic } from "./channel-rows.js";
import { HistogramStatistic } from "./histogram.js";
import { MovingAverageStatistic } from "./moving-average.js";
import { type OutputError, OutputErrorStatistic } from "./output-error.js";
import { PairedRowsStatistic } from "./paired-rows.js";
import { RangeStatistic } from "./range.js";
import { SignalNoiseStatistic } from "./signal-noise.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Outputs are `[batch, 4, 3]`: 4 channels. */
const channels = 4;
const site = { output: "y", rank: 3, channelAxis: 1 };
const trial = Float64Array.of(0.5, -0.25, 0, 3);
const byPosition = { ...site, positions: [channels, 3] };
const trialByPosition = Float64Array.from({ length: 12 }, (_, i) => (i % 5) / 4 - 0.5);
/** The same outputs as 4 tokens of 3 channels; one of them counts as often as there are tokens. */
const byToken = { output: "y", rank: 3, channelAxis: 2, token: { index: 1, weight: "count" } } as const;
const trialByToken = Float64Array.of(0.25, -0.5, 1);
const relu: Limits = { low: 0, high: Number.POSITIVE_INFINITY };
const clip: Limits = { low: -0.5, high: 1 };

const cases: readonly StatisticCase[] = [
  {
    about: "range of the float network",
    make: () => new RangeStatistic({ from: "float", value: "y" }),
    slowly: (pairs) => rangeOf(pairs.flatMap(({ float }) => float)),
  },
  {
    about: "range of the current network",
    make: () => new RangeStatistic({ from: "current", value: "y" }),
    slowly: (pairs) => rangeOf(pairs.flatMap(({ current }) => current)),
  },
  {
    about: "moving average",
    make: () => new MovingAverageStatistic({ from: "float", value: "y" }),
    slowly: (pairs) =>
      pairs
        .map(({ float }) => rangeOf(float))
        .reduce((a, b) => ({ low: 0.9 * a.low + 0.1 * b.low, high: 0.9 * a.high + 0.1 * b.high })),
    isOrdered: true,
  },
  {
    about: "histogram",
    make: () => new HistogramStatistic({ from: "float", value: "y" }),
    slowly: (pairs) =>
      distributionOf(
        Float64Array.from(
          pairs.flatMap(({ float }) => float),
          (x) => fromFloat16(toFloat16(x)),
        ).sort(),
      ),
  },
  {
    about: "moments of channels",
    make: () => new ChannelMomentsStatistic({ from: "float", value: "y" }, 3, 1),
    slowly: (pairs): ChannelMoments => {
      const values = Array.from({ length: channels }, (_, channel) =>
        pairs.flatMap(({ float }) => float.filter((_, i) => Math.floor(i / 3) % channels === channel)),
      );
      return {
        count: values[0].length,
        meanSquares: Float64Array.from(values, (own) => sumOfSquares(own) / own.length),
        lows: Float64Array.from(values, (own) => Math.min(...own)),
        highs: Float64Array.from(values, (own) => Math.max(...own)),
      };
    },
  },
  {
    about: "rows of channels",
    make: () => new ChannelRowsStatistic({ from: "float", value: "y" }, 3, 1, channels),
    slowly: (pairs): ChannelRows => ({
      channels,
      halves: [0, 1].map((half) =>
        Float32Array.from(
          pairs
            .filter((_, run) => run % 2 === half)
            .flatMap(({ float }) => [0, 1, 2].flatMap((place) => [0, 1, 2, 3].map((c) => float[c * 3 + place]))),
        ),
      ) as [Float32Array, Float32Array],
    }),
    // How runs fall into halves depends on the batches.
    seen: (result) => {
      const { halves } = result as ChannelRows;
      return halves.flatMap((half) => [...half]).sort((a, b) => a - b);
    },
  },
  {
    about: "signal and noise",
    make: () => new SignalNoiseStatistic("y"),
    slowly: (pairs) => {
      const differences = pairs.flatMap(({ float, current }) => float.map((value, i) => value - current[i]));
      return { signal: sumOfSquares(pairs.flatMap(({ float }) => float)), noise: sumOfSquares(differences) };
    },
  },
  {
    about: "paired rows",
    make: () => new PairedRowsStatistic("y", 3),
    slowly: (pairs) => ({
      columns: 3,
      float: Float64Array.from(pairs.flatMap(({ float }) => float)),
      current: Float64Array.from(pairs.flatMap(({ current }) => current)),
      samples: Float64Array.from(pairs.flatMap(({ float }, i) => new Array(float.length / 3).fill(i))),
      dropped: 0,
    }),
  },
  {
    about: "output error",
    make: () => new OutputErrorStatistic(site),
    slowly: (pairs) => outputErrorOf(pairs),
    seen: withoutHalves,
  },
  {
    about: "output error, first look behind a Relu",
    make: () => new OutputErrorStatistic({ ...site, limits: relu }),
    slowly: (pairs) => outputErrorOf(pairs, relu),
    seen: withoutHalves,
  },
  {
    about: "output error with a trial",
    make: () => new OutputErrorStatistic(site, trial),
    slowly: (pairs) => outputErrorOf(pairs, undefined, trial),
    seen: withoutHalves,
  },
  {
    about: "output error with a trial behind a Relu",
    make: () => new OutputErrorStatistic({ ...site, limits: relu }, trial),
    slowly: (pairs) => outputErrorOf(pairs, relu, trial),
    seen: withoutHalves,
  },
  {
    about: "output error with a trial behind a Clip",
    make: () => new OutputErrorStatistic({ ...site, limits: clip }, trial),
    slowly: (pairs) => outputErrorOf(pairs, clip, trial),
    seen: withoutHalves,
  },
  {
    about: "output error by position",
    make: () => new OutputErrorStatistic(byPosition),
    slowly: (pairs) => outputErrorOf(pairs, undefined, undefined, 1),
    seen: withoutHalves,
  },
  {
    about: "output error by position with a trial behind a Relu",
    make: () => new OutputErrorStatistic({ ...byPosition, limits: relu }, trialByPosition),
    slowly: (pairs) => outputErrorOf(pairs, relu, trialByPosition, 1),
    seen: withoutHalves,
  },
  {
    about: "output error with a token that counts more",
    make: () => new OutputErrorStatistic(byToken),
    slowly: (pairs) => outputErrorOf(pairs.map(repeatToken), undefined, undefined, 7, 3),
    seen: withoutHalves,
  },
  {
    about: "output error with a token that counts more, a trial and a Relu",
    make: () => new OutputErrorStatistic({ ...byToken, limits: relu }, trialByToken),
    slowly: (pairs) => outputErrorOf(pairs.map(repeatToken), relu, trialByToken, 7, 3),
    seen: withoutHalves,
  },
];

const line = { gain: Float64Array.of(1, 2, 0.5, 1.5), offset: Float64Array.of(0, 0.25, -1, 0.5) };

const lineCases: readonly StatisticCase[] = [
  {
    about: "sums over channels",
    make: () => new ChannelSumsStatistic(site),
    slowly: (pairs) => [channelSumsOf(pairs)],
    // How runs fall into halves depends on the batches.
    seen: (result) => (result as readonly ChannelSums[]).slice(-1),
  },
  {
    about: "trial of lines behind a Clip",
    make: () => new ChannelTrialStatistic({ ...site, limits: clip }, [line, line]),
    slowly: (pairs) => channelTrialOf(pairs),
  },
];

for (const given of [...cases, ...lineCases]) testStatistic(engine, given);

/** Of each channel the pairs of a current and a float value. */
function channelsOf(pairs: readonly Pair[]): readonly (readonly (readonly [number, number])[])[] {
  return Array.from({ length: channels }, (_, channel) =>
    pairs.flatMap(({ float, current }) =>
      current.map((q, i) => [q, float[i]] as const).filter((_, i) => Math.floor(i / 3) % channels === channel),
    ),
  );
}

function channelSumsOf(pairs: readonly Pair[]): ChannelSums {
  const sum = (of: (q: number, e: number) => number) =>
    Float64Array.from(channelsOf(pairs), (own) => own.reduce((total, [q, y]) => total + of(q, y - q), 0));
  return {
    count: sum(() => 1),
    q: sum((q) => q),
    e: sum((_, e) => e),
    qq: sum((q) => q * q),
    qe: sum((q, e) => q * e),
  };
}

function channelTrialOf(pairs: readonly Pair[]): ChannelTrial {
  const meanSquare = (of: (q: number, channel: number) => number) =>
    Float64Array.from(channelsOf(pairs), (own, channel) => {
      const squares = own.map(([q, y]) => (limit(y, clip) - limit(of(q, channel), clip)) ** 2);
      return squares.reduce((total, square) => total + square, 0) / squares.length;
    });
  return { before: meanSquare((q) => q), after: meanSquare((q, c) => line.gain[c] * q + line.offset[c]) };
}

function rangeOf(values: readonly number[]): Range {
  return { low: Math.min(...values), high: Math.max(...values) };
}

function sumOfSquares(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value ** 2, 0);
}

/** Channel by channel, the second of four tokens four times. */
function repeatToken({ float, current }: Pair): Pair {
  const repeat = (values: readonly number[]) =>
    Array.from({ length: values.length / 12 }, (_, sample) => values.slice(12 * sample, 12 * (sample + 1))).flatMap(
      (own) => [0, 1, 2].flatMap((channel) => [0, 1, 1, 1, 1, 2, 3].map((token) => own[3 * token + channel])),
    );
  return { float: repeat(float), current: repeat(current) };
}

/**
 * @param together how many neighbours share a bias: the three positions of a channel, the tokens, or none
 * @param own how many biases there are
 */
function outputErrorOf(
  pairs: readonly Pair[],
  limits?: Limits,
  bias?: Float64Array,
  together = 3,
  own = (channels * 3) / together,
): OutputError {
  const found = Array.from({ length: own }, (_, channel) => {
    let [count, squared, differences, counted] = [0, 0, 0, 0];
    for (const { float, current } of pairs) {
      float.forEach((value, i) => {
        if (Math.floor(i / together) % own !== channel) return;
        const other = current[i] + (bias?.[channel] ?? 0);
        count++;
        squared += (limit(value, limits) - limit(other, limits)) ** 2;
        if (bias === undefined) [differences, counted] = [differences + value - other, counted + 1];
        else if (limit(other, limits) === other) {
          [differences, counted] = [differences + limit(value, limits) - other, counted + 1];
        }
      });
    }
    return { count, squared: squared / count, step: counted === 0 ? 0 : differences / counted };
  });
  return {
    count: found[0].count,
    squared: Float64Array.from(found, ({ squared }) => squared),
    step: Float64Array.from(found, ({ step }) => step),
    halves: [],
  };
}

/** How runs fall into halves depends on the batches. */
function withoutHalves(result: unknown): unknown {
  return { ...(result as OutputError), halves: [] };
}

function limit(value: number, limits: Limits | undefined): number {
  return limits === undefined ? value : Math.min(Math.max(value, limits.low), limits.high);
}
