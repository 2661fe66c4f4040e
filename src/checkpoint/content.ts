import { z } from "zod";

/** Infinity and NaN are numbers here. */
const anyNumber = z.custom<number>((value) => typeof value === "number", "must be a number");

/** The ranges of activations: value, low, high. */
export const rangesSchema = z.array(z.tuple([z.string(), anyNumber, anyNumber]));

/** What a recipe led to. */
export const trialSchema = z.strictObject({
  name: z.string(),
  kl: anyNumber,
  sqnrDb: anyNumber,
  samples: z
    .array(z.strictObject({ kl: anyNumber, error: anyNumber, others: z.array(anyNumber).readonly() }))
    .readonly(),
  forms: z.record(z.string(), z.array(z.string()).readonly()).readonly(),
});

const recordSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("solved"),
    label: z.string(),
    errorBefore: anyNumber,
    errorAfter: anyNumber,
    form: z.string().optional(),
    remark: z.string().optional(),
  }),
  z.object({ kind: z.literal("skipped"), label: z.string(), reason: z.string() }),
]);

/** The sites of a block. Whether a solution is one its step knows: the same version wrote it, for the same run. */
export const blockSchema = z.array(
  z.strictObject({
    step: z.int().min(0),
    value: z.string(),
    record: recordSchema,
    solution: z.unknown(),
  }),
);
