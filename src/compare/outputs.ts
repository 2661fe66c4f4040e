import type { Sample } from "../data/samples.js";
import type { RunResult, Session } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import { quantile } from "../evaluate/latency.js";
import { argMax, divergence, isAsFinite, type SignalNoise, signalNoise, sqnrDb } from "../evaluate/outputs.js";
import type { ValueName } from "../graph/graph.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";

/** How far a model's outputs are from a reference's on the same samples. */
export interface OutputComparison {
  readonly samples: number;
  /** Over all float outputs together, in decibels. */
  readonly sqnrDb: number;
  /** Share of rows of the first float output with the same largest value, in percent. */
  readonly agreement: number;
  /** Mean divergence of the softmax of the rows of the first float output, in nats. */
  readonly kl: number;
  /** Samples on which the model returns NaN or an infinity where the reference returns a number. */
  readonly brokenSamples: number;
  /** Outputs that the runtime does not hand over, so that nobody looked at them: texts, sequences, maps. */
  readonly unread: readonly ValueName[];
}

/** How far the outputs of one sample are from a reference's. */
export interface SampleComparison {
  /** Mean divergence of the softmax of the rows of the first float output, in nats. */
  readonly kl: number;
  /** Of each float output that holds something, in the reference's order. */
  readonly outputs: ReadonlyMap<ValueName, SignalNoise>;
}

export interface LatencyComparison {
  /** Median in milliseconds. */
  readonly referenceMs: number;
  readonly modelMs: number;
  /** Model by reference: below 1 is faster. */
  readonly ratio: number;
  /** Time to create a session, in milliseconds. */
  readonly referenceLoadMs: number;
  readonly modelLoadMs: number;
}

/**
 * Runs both models on each sample. A row is what lies along the last axis that is not of size 1.
 *
 * @throws RecoupError `data/empty`, and as `Session.run`
 */
export async function compareOutputs(
  reference: Session,
  model: Session,
  samples: AsyncIterable<Sample>,
  onSample: (sample: SampleComparison) => void = () => {},
): Promise<OutputComparison> {
  let total: SignalNoise = { signal: 0, noise: 0 };
  let count = 0;
  let rows = 0;
  let agreements = 0;
  let kl = 0;
  let brokenSamples = 0;
  const unread = new Set<ValueName>();
  for await (const { feeds } of samples) {
    const truth = await reference.run(feeds);
    const other = await model.run(feeds);
    for (const { name } of reference.outputs) if (!truth.outputs.has(name)) unread.add(name);
    const compared = pairs(reference, model, truth, other);
    const outputs = new Map<ValueName, SignalNoise>();
    let isBroken = false;
    for (const [name, left, right] of compared) {
      const [expected, found] = [float32Values(left), float32Values(right)];
      const own = signalNoise(expected, found);
      outputs.set(name, own);
      total = { signal: total.signal + own.signal, noise: total.noise + own.noise };
      isBroken ||= !isAsFinite(expected, found);
    }
    if (isBroken) brokenSamples++;
    const [first] = compared;
    const ownRows = first ? [...pairRows(first[1], first[2])] : [];
    let ownKl = 0;
    for (const [left, right] of ownRows) {
      if (argMax(left) === argMax(right)) agreements++;
      ownKl += divergence(left, right);
    }
    rows += ownRows.length;
    kl += ownKl;
    count++;
    onSample({ kl: ownKl / Math.max(ownRows.length, 1), outputs });
  }
  if (count === 0) throw new RecoupError("data/empty", "holds no samples");
  const perRow = Math.max(rows, 1);
  const agreement = (100 * agreements) / perRow;
  const result = { samples: count, sqnrDb: sqnrDb(total), agreement, kl: kl / perRow, brokenSamples };
  return { ...result, unread: [...unread] };
}

/** What the user must be told about a comparison besides its figures. */
export function warnOfOutputs({ brokenSamples, samples, unread }: OutputComparison): readonly string[] {
  const where = `on ${brokenSamples} of ${samples} samples`;
  const broken = `the quantized model returns NaN or infinity where the original returns numbers, ${where}`;
  const unlooked = `outputs that are no tensors of numbers were not compared: ${unread.join(", ")}`;
  return [...(brokenSamples > 0 ? [broken] : []), ...(unread.length > 0 ? [unlooked] : [])];
}

/** How often two models take turns. */
export const latencyTurns = 12;

export interface LatencyOptions {
  /** Default: `latencyTurns`. */
  readonly turns?: number;
  /** Called before the first turn and after each, with how many there were. */
  readonly onTurn?: (count: number) => void;
}

/** A turn lasts about this long, in milliseconds, so that what a turn starts with does not count for much. */
const turnMs = 30;

const fewestRuns = 4;
const mostRuns = 400;

/**
 * Times two models in turns, so that what the machine does besides hits both. The first runs of a turn do not count: the
 * caches are the other model's, and where it is in the same process, its threads are still waiting for work on the same
 * cores. Taking turns run by run would make the model that uses more threads look far slower than it is.
 *
 * @throws RecoupError `data/empty`, and as `Session.run`
 */
export async function compareLatency(
  reference: Session,
  model: Session,
  samples: readonly Sample[],
  { turns = latencyTurns, onTurn = () => {} }: LatencyOptions = {},
): Promise<LatencyComparison> {
  if (samples.length === 0) throw new RecoupError("data/empty", "holds no samples");
  const referenceTimes: number[] = [];
  const modelTimes: number[] = [];
  onTurn(0);
  for (let turn = 0; turn < turns; turn++) {
    const { feeds } = samples[turn % samples.length];
    for (const [session, times] of [
      [reference, referenceTimes],
      [model, modelTimes],
    ] as const) {
      const first = (await session.run(feeds)).elapsedMs;
      const runs = Math.min(Math.max(Math.round(turnMs / first), fewestRuns), mostRuns);
      for (let run = 0; run < runs; run++) {
        const { elapsedMs } = await session.run(feeds);
        if (run >= runs / 4) times.push(elapsedMs);
      }
    }
    onTurn(turn + 1);
  }
  const median = (times: readonly number[]) =>
    quantile(
      [...times].sort((a, b) => a - b),
      0.5,
    );
  const referenceMs = median(referenceTimes);
  const modelMs = median(modelTimes);
  const loads = { referenceLoadMs: reference.loadMs, modelLoadMs: model.loadMs };
  return { referenceMs, modelMs, ratio: modelMs / referenceMs, ...loads };
}

/** The float outputs of both models, in the reference's order: those of the same name, else of the same place. */
function pairs(
  reference: Session,
  model: Session,
  truth: RunResult,
  other: RunResult,
): readonly (readonly [ValueName, Tensor, Tensor])[] {
  return reference.outputs.flatMap(({ name }, i) => {
    const left = truth.outputs.get(name);
    const right = other.outputs.get(name) ?? other.outputs.get(model.outputs[i]?.name);
    if (!left || !right || !isFloatType(left.type) || !isFloatType(right.type)) return [];
    const size = elementCount(left.shape);
    return size > 0 && size === elementCount(right.shape) ? [[name, left, right] as const] : [];
  });
}

function* pairRows(left: Tensor, right: Tensor): Iterable<readonly [Float32Array, Float32Array]> {
  const size = left.shape.findLast((length) => length !== 1) ?? 1;
  const a = float32Values(left);
  const b = float32Values(right);
  for (let start = 0; start < a.length; start += size) {
    yield [a.subarray(start, start + size), b.subarray(start, start + size)];
  }
}
