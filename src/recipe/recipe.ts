import * as z from "zod";
import { RecoupError } from "../errors.js";
import { rangeEstimators } from "../quantize/estimators/index.js";
import { spacings } from "../quantize/spacing.js";
import { describeOption, type Option, type OptionValues } from "../step/options.js";
import { steps } from "../steps.js";

const bits = z.union(
  [z.literal(2), z.literal(3), z.literal(4), z.literal(5), z.literal(6), z.literal(7), z.literal(8)],
  { error: "must be a whole number of bits from 2 to 8" },
);

/** `channel`, `tensor`, or `group:64` with any size of group. */
const granularityMessage = 'must be "channel", "tensor" or "group:" with a number of columns, like "group:64"';
const granularity = z.string(granularityMessage).regex(/^(channel|tensor|group:[1-9]\d{0,6})$/, granularityMessage);

const dampingMessage = "must be a share of the mean of the diagonal, above 0 and at most 1";

const estimatorNames = rangeEstimators.map(({ name }) => name) as [string, ...string[]];
const range = oneOf(...estimatorNames);

const gptq = object("a rounding", {
  use: z.literal("gptq"),
  /** The input for which the layer shall give what the float weight gives; `auto` takes what serves the output best. */
  target: oneOf("auto", "same", "unquantized", "float").default("auto"),
  order: oneOf("activation", "natural").default("activation"),
  groups: oneOf("static", "dynamic").default("static"),
  damping: z.number(dampingMessage).positive(dampingMessage).max(1, dampingMessage).default(0.01),
}).refine(({ order, groups }) => order === "natural" || groups === "static", {
  // Groups that are no runs of columns cannot be stored.
  error: 'must be "natural" where groups are "dynamic"',
  path: ["order"],
});
const roundingError = { error: 'must be "rtn" or "gptq", or an object like {"use": "gptq", "target": "float"}' };
const rounding = z.union(
  [
    z.literal("rtn").transform((use) => ({ use })),
    z.literal("gptq").transform((use) => gptq.parse({ use })),
    z.discriminatedUnion("use", [object("a rounding", { use: z.literal("rtn") }), gptq], roundingError),
  ],
  roundingError,
);

const weight = object("a format", {
  bits: bits.default(8),
  granularity: granularity.default("channel"),
  /** Default: symmetric at 8 bits, which integer kernels need; below, all codes of an asymmetric grid. */
  symmetric: z.boolean("must be true or false").optional(),
  /** Default: `minmax` at 8 bits, `mse` below. */
  range: range.optional(),
  /** Default: `rtn`; nothing where it is chosen automatically. */
  rounding: rounding.optional(),
});

const activation = object("a format", {
  bits: bits.default(8),
  range: range.default("mse"),
  /** Default: `quantized` below 8 bits, `float` at 8. */
  rangeFrom: oneOf("float", "quantized").optional(),
  symmetric: z.boolean("must be true or false").default(false),
  /** How the levels for the shares of attention lie. Default: `log` below 8 bits, where `uniform` leaves none for small ones. */
  softmax: oneOf(...spacings).optional(),
});

const pattern = z.string('must be a pattern on names, like "*/mlp/*", or on operators, like "op:Conv"');
const patterns = z
  .union([pattern, z.array(pattern)], { error: "must be a pattern or a list of patterns" })
  .transform((value) => (Array.isArray(value) ? value : [value]));

const formatOrFloat = { error: 'must be "float" or a format, like {"bits": 4}' };
const format = object("a format rule", {
  /** Patterns on the names of nodes and weights, `*` for any text; a pattern `op:Conv` is on the operator. */
  match: patterns.default(["*"]),
  weight: z.union([z.literal("float"), weight], formatOrFloat).prefault({}),
  activation: z.union([z.literal("float"), activation], formatOrFloat).prefault({}),
});

const stepNames = steps.map(({ name }) => name) as [string, ...string[]];
const stepError = { error: `must be a step, by name (${stepNames.join(", ")}) or as {"use": name}` };
const stepObjects = steps.map((known) => {
  const fields = Object.entries(known.options).map(([key, option]) => [key, schemaOf(option)] as const);
  return object("a step", { use: z.literal(known.name), ...Object.fromEntries(fields) }).check(({ value, issues }) => {
    const contradiction = known.contradiction(value as OptionValues);
    if (contradiction === undefined) return;
    const { option, message } = contradiction;
    issues.push({ code: "custom", input: value, path: [option], message });
  });
}) as unknown as readonly [StepObject, ...StepObject[]];
const step = z.union(
  [
    z.enum(stepNames, stepError).transform((use) => stepObjects[stepNames.indexOf(use)].parse({ use })),
    z.discriminatedUnion("use", stepObjects, stepError),
  ],
  stepError,
);

/** A step by its name, with what is set of its options. */
export type StepRule = { readonly use: string } & OptionValues;

type StepObject = z.ZodObject<{ use: z.ZodLiteral<string> }> & z.ZodType<StepRule, StepRule>;

function schemaOf(option: Option) {
  const error = `must be ${describeOption(option)}`;
  switch (option.kind) {
    case "number": {
      const number = option.isWhole || option.isOdd ? z.int(error) : z.number(error);
      const inside = number.min(option.least, error).max(option.most, error);
      const bounded = option.isOdd ? inside.refine((value) => value % 2 === 1, error) : inside;
      const words = option.words ?? [];
      return (words.length === 0 ? bounded : z.union([bounded, z.enum(words, error)], error)).default(
        option.default as number,
      );
    }
    case "choice":
      return z.enum(option.choices, error).default(option.default);
    case "text":
      return z.string(error).default(option.default);
    case "switch":
      return z.boolean(error).default(option.default);
  }
}

/** What a user writes in a recipe file. The first format that matches a layer holds for it. */
export const recipeSchema = object("a recipe", {
  version: z.literal(1, "must be 1, the only version there is").default(1),
  formats: z
    .array(format, "must be a list of format rules")
    .min(1, "must hold at least one format rule")
    .prefault([{}]),
  steps: z.array(step, "must be a list of steps").default([]),
  /** Whether rounding, steps and ranges are chosen by trials on samples that are held back. */
  auto: z.boolean("must be true or false").default(false),
  /** Bits of weights and activations of the first and the last layer, at least; as in the other layers where nothing is given. */
  edges: bits.optional(),
  skip: patterns.default([]),
  storage: oneOf("packed", "int8", "onnx").default("packed"),
  /** Which of the model's own functions are written out as nodes: those that may hold layers, all, or none. */
  inlineFunctions: oneOf("layers", "all", "none").default("layers"),
  samples: wholeNumber(1).default(128),
  seed: wholeNumber(0).default(0),
})
  .superRefine(({ auto, steps: chosen, formats }, context) => {
    if (!auto) return;
    const refuse = (message: string, ...path: readonly (string | number)[]) =>
      context.addIssue({ code: "custom", message, path: [...path] });
    if (chosen.length > 0) refuse("must be empty where they are chosen automatically", "steps");
    const wished = formats.findIndex((rule) => rule.weight !== "float" && rule.weight.rounding !== undefined);
    if (wished >= 0) refuse("must be left out where it is chosen automatically", ...placeOfRounding(wished));
  })
  .transform((recipe) => (recipe.auto ? recipe : { ...recipe, formats: recipe.formats.map(fillRounding) }));

/** Where a recipe says how the weights of a format are rounded. */
export function placeOfRounding(format: number): readonly (string | number)[] {
  return ["formats", format, "weight", "rounding"];
}

function fillRounding(rule: z.output<typeof format>): z.output<typeof format> {
  if (rule.weight === "float") return rule;
  return { ...rule, weight: { ...rule.weight, rounding: rule.weight.rounding ?? { use: "rtn" } } };
}

function wholeNumber(smallest: number) {
  const error = `must be a whole number, ${smallest} or more`;
  return z.int(error).min(smallest, error);
}

function oneOf<const Names extends readonly [string, ...string[]]>(...names: Names) {
  const wanted = `must be ${names.map((name) => JSON.stringify(name)).join(" or ")}`;
  const error = ({ input }: { readonly input?: unknown }) =>
    typeof input === "string" ? `${wanted}, not ${JSON.stringify(input.slice(0, 40))}` : wanted;
  return z.enum(names, { error });
}

/** An object without other fields. */
function object<Shape extends z.core.$ZodShape>(what: string, shape: Shape) {
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== "unrecognized_keys") return `must be ${what}, an object`;
      const unknown = issue.keys.map((key) => JSON.stringify(key)).join(", ");
      return `holds an unknown field, ${unknown}: there are ${Object.keys(shape).join(", ")}`;
    },
  });
}

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
  throw new RecoupError("recipe/invalid", issue.message, { file, field: fieldOf(issue.path) || undefined });
}

/** A place in a recipe as errors write it: `formats[0].weight.bits`. */
export function fieldOf(path: readonly PropertyKey[]): string {
  const parts = path.map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`));
  return parts.join("").replace(/^\./, "");
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
