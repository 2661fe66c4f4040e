import { z } from "zod";
import { fingerprintOf } from "../data/fingerprint.js";
import type { Samples } from "../data/samples.js";
import type { Model } from "../graph/model.js";
import { encodeModel } from "../onnx/model.js";
import { bytesOfChunk } from "../onnx/wire.js";
import { version } from "../version.js";
import { type Shard, samplesOfShard } from "./shard.js";

const count = z.int().min(0);
const atLeastOne = z.int().min(1);
const fingerprint = z.string().regex(/^[0-9a-f]{64}$/);

/** What statistics of a shard say of where they come from: shards of equal runs can be merged. */
export const shardHeaderSchema = z
  .strictObject({
    /** Of Recoup. */
    version: z.string(),
    /** Fingerprint of the model as it was given. */
    model: fingerprint,
    /** Operator set of the cleaned network: recipes that need a newer one raise it. */
    opset: atLeastOne,
    /** Fingerprint of the network whose values were looked at, where steps of the recipe changed it; else null. */
    prepared: fingerprint.nullable(),
    /** Chose the samples. */
    seed: count,
    /** In all shards together. */
    samples: atLeastOne,
    /** What they were chosen from. */
    available: atLeastOne,
    batchSize: atLeastOne,
    shard: z
      .strictObject({ index: atLeastOne, count: atLeastOne })
      .refine(({ index, count }) => index <= count, "is a shard that there is not")
      .readonly(),
    /** The samples of this shard. */
    data: z.strictObject({ samples: atLeastOne, fingerprint }).readonly(),
  })
  .readonly();

export type ShardHeader = z.output<typeof shardHeaderSchema>;

/** What a run over calibration samples is given. */
export interface RunSource {
  /** As it was given. */
  readonly model: Model;
  readonly samples: Samples;
  readonly seed: number;
  /** Of the samples that were chosen. */
  readonly indices: readonly number[];
}

/** How a run runs: what is known of it once its network is clean. */
export interface RunForm {
  /** Operator set of the cleaned network. */
  readonly opset: number;
  /** The network that is run, where steps of the recipe have changed it. */
  readonly prepared: Model | undefined;
  readonly batchSize: number;
}

/** A run over calibration samples of which a shard may be a part. */
export interface CalibrationRun extends RunSource, RunForm {}

/** @throws RecoupError what reading the model's tensors throws */
export async function describeSource({ model, samples, seed, indices }: RunSource) {
  const fingerprint = await fingerprintOfModel(model);
  return { version, model: fingerprint, seed, samples: indices.length, available: samples.length };
}

/** @throws RecoupError what reading the network's tensors throws */
export async function describeForm({ opset, prepared, batchSize }: RunForm) {
  return { opset, prepared: prepared ? await fingerprintOfModel(prepared) : null, batchSize };
}

/** @throws RecoupError as `samplesOfShard` and `Samples.fingerprint` */
export async function describeData(
  { samples, indices: all }: RunSource,
  batchSize: number,
  shard: Shard,
): Promise<ShardHeader["data"]> {
  const indices = samplesOfShard(all, batchSize, shard);
  return { samples: indices.length, fingerprint: await samples.fingerprint(indices) };
}

/** SHA-256, hexadecimal, of what `fingerprintOf` makes of the model's parts; tensors are read one at a time. */
export async function fingerprintOfModel(model: Model): Promise<string> {
  const { chunks, externalChunks } = encodeModel(model, { externalLocation: "tensors" });
  function* parts() {
    for (const chunk of [...chunks, ...externalChunks]) yield bytesOfChunk(chunk);
  }
  return fingerprintOf(parts());
}
