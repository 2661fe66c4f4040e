import { fedInputs } from "../graph/fed-inputs.js";
import type { Model } from "../graph/model.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";
import { isSameShape } from "../tensor/shape.js";
import { float32Values, type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { type Engine, type Feeds, withSession } from "./engine.js";

/** What is fed at once, and what to call it in an error. */
export interface NamedFeeds {
  readonly id: string;
  readonly feeds: Feeds;
}

/** Larger batches gain nothing more on small models. */
const largestBatch = 16;

/** Feeds of one batch in bytes: activations are a few tens of times that. */
const largestBatchBytes = 4e6;

/** Outputs of a batch may differ this much, relative to their largest value, from those of its samples. */
const tolerance = 1e-3;

/**
 * How many samples may go through a model at once: more than one only where every input and output has a size that is not
 * fixed in front, and where two samples at once are seen to give what they give one by one.
 *
 * @throws RecoupError as `Engine.open`; a model that refuses batches when it runs gets 1
 */
export async function chooseBatchSize(
  engine: Engine,
  model: Model,
  types: ValueTypes,
  [first, second]: readonly NamedFeeds[],
): Promise<number> {
  const declared = [...fedInputs(model.graph), ...model.graph.outputs];
  const isOpen = declared.every(({ name }) => {
    const size = shapeOf(types, name)?.[0];
    return size !== undefined && typeof size !== "number";
  });
  if (!isOpen || second === undefined || !canStack(first.feeds, second.feeds)) return 1;
  // Samples that are mixed look the same as long as they are the same.
  if (areEqual(first.feeds, second.feeds)) return 1;
  const sizeBytes = [...first.feeds.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  const size = Math.min(largestBatch, Math.max(1, Math.floor(largestBatchBytes / sizeBytes)));
  return size > 1 && (await keepsSamplesApart(engine, model, first.feeds, second.feeds)) ? size : 1;
}

/**
 * Joins neighbours of equal shapes to batches of at most `size`. None goes across a multiple of `size`: samples from there
 * on form the same batches without those before them.
 */
export async function* inBatches(
  samples: AsyncIterable<NamedFeeds> | Iterable<NamedFeeds>,
  size: number,
): AsyncGenerator<NamedFeeds> {
  let batch: NamedFeeds[] = [];
  let count = 0;
  for await (const sample of samples) {
    if (batch.length > 0 && (count % size === 0 || !canStack(batch[0].feeds, sample.feeds))) {
      yield stack(batch);
      batch = [];
    }
    batch.push(sample);
    count++;
  }
  if (batch.length > 0) yield stack(batch);
}

function stack(batch: readonly NamedFeeds[]): NamedFeeds {
  if (batch.length === 1) return batch[0];
  const names = [...batch[0].feeds.keys()];
  const feeds = names.map((name) => [name, stackTensors(batch.map(({ feeds }) => feeds.get(name) as Tensor))] as const);
  return { id: `${batch[0].id} … ${batch[batch.length - 1].id}`, feeds: new Map(feeds) };
}

function stackTensors(tensors: readonly Tensor[]): Tensor {
  const [{ type, shape }] = tensors;
  const joined = new Uint8Array(tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0));
  let position = 0;
  for (const tensor of tensors) {
    joined.set(tensor.bytes(), position);
    position += tensor.sizeBytes;
  }
  return tensorFromBytes(type, [shape[0] * tensors.length, ...shape.slice(1)], joined);
}

function canStack(a: Feeds, b: Feeds): boolean {
  return [...a].every(([name, tensor]) => {
    const other = b.get(name);
    return tensor.shape.length > 0 && other !== undefined && isSameShape(tensor.shape, other.shape);
  });
}

function areEqual(a: Feeds, b: Feeds): boolean {
  return [...a].every(([name, tensor]) => isSameBytes(tensor, b.get(name)));
}

function isSameBytes(a: Tensor, b: Tensor | undefined): boolean {
  const [left, right] = [a.bytes(), b?.bytes()];
  return left.length === right?.length && left.every((byte, i) => byte === right[i]);
}

async function keepsSamplesApart(engine: Engine, model: Model, first: Feeds, second: Feeds): Promise<boolean> {
  return withSession(engine, model, { mode: "plain" }, async (session) => {
    const alone = [await session.run(first), await session.run(second)];
    const both = stack([first, second].map((feeds) => ({ id: "", feeds })));
    const together = await session.run(both.feeds).catch(() => undefined);
    if (together === undefined) return false;
    return [...together.outputs].every(([name, tensor]) => {
      const parts = alone.flatMap(({ outputs }) => outputs.get(name) ?? []);
      return isStackOf(tensor, parts);
    });
  });
}

function isStackOf(together: Tensor, parts: readonly Tensor[]): boolean {
  if (parts.some((part) => part.shape.length === 0 || !isSameShape(part.shape, parts[0].shape))) return false;
  const expected = stackTensors(parts);
  if (!isSameShape(together.shape, expected.shape)) return false;
  if (!isFloatType(together.type)) return isSameBytes(together, expected);
  const [values, others] = [float32Values(together), float32Values(expected)];
  const scale = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-30);
  return values.every((value, i) => value === others[i] || Math.abs(value - others[i]) <= tolerance * scale);
}
