import * as z from "zod";
import { compensations } from "../compensate/index.js";
import { RecoupError } from "../errors.js";

const bits = z.union(
  [z.literal(2), z.literal(3), z.literal(4), z.literal(5), z.literal(6), z.literal(7), z.literal(8)],
  {
    error: "is a whole number of bits from 2 to 8",
  },
);

/** `channel`, `tensor`, or `group:64` with any size of group. */
const granularity = z.string().regex(/^(channel|tensor|group:[1-9]\d{0,6})$/, {
  error: 'is "channel", "tensor" or "group:" with a number of columns, like "group:64"',
});

const weight = z.strictObject({
  bits: bits.default(8),
  granularity: granularity.default("channel"),
  /** Default: symmetric at 8 bits, which integer kernels need; below, all codes of an asymmetric grid. */
  symmetric: z.boolean().optional(),
  range: z.enum(["minmax"]).default("minmax"),
  rounding: z.enum(["rtn"]).default("rtn"),
});

const activation = z.strictObject({
  bits: bits.default(8),
  range: z.enum(["minmax"]).default("minmax"),
  symmetric: z.boolean().default(false),
});

const patterns = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => (Array.isArray(value) ? value : [value]));

const format = z.strictObject({
  /** Patterns on the names of nodes and weights, `*` for any text; a pattern `op:Conv` is on the operator. */
  match: patterns.default(["*"]),
  weight: z.union([z.literal("float"), weight], { error: 'is "float" or a format' }).prefault({}),
  activation: z.union([z.literal("float"), activation], { error: 'is "float" or a format' }).prefault({}),
});

const stepNames = compensations.map((step) => step.name) as [string, ...string[]];
const step = z.union([z.enum(stepNames).transform((use) => ({ use })), z.strictObject({ use: z.enum(stepNames) })], {
  error: `is the name of a step: ${stepNames.join(", ")}`,
});

/** What a user writes in a recipe file. The first format that matches a layer holds for it. */
export const recipeSchema = z.strictObject({
  version: z.literal(1).default(1),
  formats: z.array(format).min(1).prefault([{}]),
  steps: z.array(step).default([]),
  skip: patterns.default([]),
  storage: z.enum(["packed", "int8", "onnx"]).default("packed"),
  samples: z.int().positive().default(128),
  seed: z.int().nonnegative().default(0),
});

/** A recipe as a user may write it: everything may be left out. */
export type RecipeInput = z.input<typeof recipeSchema>;

/** A recipe with every default filled in. The same recipe gives the same bytes. */
export type Recipe = z.output<typeof recipeSchema>;

export type FormatRule = Recipe["formats"][number];

/**
 * Fills in the defaults of a recipe.
 *
 * @param file what to call the recipe in errors
 * @throws RecoupError `recipe/invalid`, naming the field
 */
export function parseRecipe(value: unknown, file?: string): Recipe {
  const result = recipeSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = mostSpecific(result.error.issues[0]);
  const field = issue.path.map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`)).join("");
  throw new RecoupError("recipe/invalid", issue.message, { file, field: field.replace(/^\./, "") || undefined });
}

/** Of the ways in which a choice of forms was missed, the one that got furthest into the value. */
function mostSpecific(issue: z.core.$ZodIssue): { readonly path: readonly PropertyKey[]; readonly message: string } {
  if (issue.code !== "invalid_union") return issue;
  const inner = issue.errors.flatMap(([first]) => (first === undefined ? [] : [mostSpecific(first)]));
  const [deepest] = inner.filter(({ path }) => path.length > 0).sort((a, b) => b.path.length - a.path.length);
  return deepest === undefined ? issue : { path: [...issue.path, ...deepest.path], message: deepest.message };
}

/** The version of the standard's operators that what a recipe writes needs. */
export function neededOpset(recipe: Recipe): number {
  if (recipe.storage !== "onnx") return 13;
  const weights = recipe.formats.flatMap((rule) => (rule.weight === "float" ? [] : [rule.weight]));
  if (weights.some((format) => format.bits === 2)) return 25;
  return weights.some((format) => format.bits <= 4 || format.granularity.startsWith("group")) ? 21 : 13;
}
