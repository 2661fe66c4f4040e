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

/** A run over calibration samples of which a shard may be a part. */
export interface CalibrationRun {
  /** As it was given. */
  readonly model: Model;
  /** Operator set of the cleaned network. */
  readonly opset: number;
  /** The network that is run, where steps of the recipe have changed it. */
  readonly prepared: Model | undefined;
  readonly samples: Samples;
  readonly seed: number;
  /** Of the samples that were chosen. */
  readonly indices: readonly number[];
  readonly batchSize: number;
}

export type RunHeader = Omit<ShardHeader, "shard" | "data">;

/** @throws RecoupError what reading the model's tensors throws */
export async function describeRun({
  model,
  opset,
  prepared,
  samples,
  seed,
  indices,
  batchSize,
}: CalibrationRun): Promise<RunHeader> {
  return {
    version,
    model: await fingerprintOfModel(model),
    opset,
    prepared: prepared ? await fingerprintOfModel(prepared) : null,
    seed,
    samples: indices.length,
    available: samples.length,
    batchSize,
  };
}

/** @throws RecoupError as `samplesOfShard` and `Samples.fingerprint` */
export async function describeData(run: CalibrationRun, shard: Shard): Promise<ShardHeader["data"]> {
  const indices = samplesOfShard(run.indices, run.batchSize, shard);
  return { samples: indices.length, fingerprint: await run.samples.fingerprint(indices) };
}

/** SHA-256, hexadecimal, of what `fingerprintOf` makes of the model's parts; tensors are read one at a time. */
async function fingerprintOfModel(model: Model): Promise<string> {
  const { chunks, externalChunks } = encodeModel(model, { externalLocation: "tensors" });
  function* parts() {
    for (const chunk of [...chunks, ...externalChunks]) yield bytesOfChunk(chunk);
  }
  return fingerprintOf(parts());
}
