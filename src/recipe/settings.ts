import { RecoupError } from "../errors.js";
import { steps } from "../steps.js";
import { fieldOf, parseRecipe, placeOfRounding, type Recipe, type RecipeInput, type StepRule } from "./recipe.js";

/** The settings that flags and the API give by name: edits of a recipe. What is undefined leaves the recipe as it is. */
export interface Settings {
  /** Bits of all weights that are not left in float. */
  readonly weights?: number;
  /** Bits of all activations, or "none". */
  readonly activations?: number | "none";
  readonly granularity?: string;
  readonly symmetric?: boolean;
  /** Range estimator of all activations. */
  readonly range?: string;
  /** How the levels for the shares of attention lie. */
  readonly softmax?: string;
  /** Range estimator of all weights. */
  readonly weightRange?: string;
  /** How all weights are rounded: "rtn" or "gptq". */
  readonly rounding?: string;
  /** The target of GPTQ. */
  readonly target?: string;
  readonly storage?: string;
  /** Which of the model's own functions are written out: "layers", "all" or "none". */
  readonly inlineFunctions?: string;
  /** By name; options behind it as in `nbc:alpha=0.3:rho=1`. */
  readonly steps?: readonly string[];
  /** Bits of the first and the last layer, at least. */
  readonly edges?: number;
  /** In addition to what the recipe skips. */
  readonly skip?: readonly string[];
  readonly samples?: number;
  readonly seed?: number;
}

/**
 * A recipe with settings put over it, every default filled in.
 *
 * @param recipe what a recipe file holds, or nothing
 * @param file what to call the recipe in errors
 * @throws RecoupError `recipe/invalid` for the recipe, `usage/argument` for a setting, naming the field
 */
export function resolveRecipe(recipe: RecipeInput | undefined, settings: Settings, file?: string): Recipe {
  const base = parseRecipe(recipe === undefined ? {} : recipe, file);
  refuseChosen(recipe, base, settings, file);
  const edited = {
    ...base,
    formats: base.formats.map((rule) => ({
      ...rule,
      weight: rule.weight === "float" ? "float" : editWeight(rule.weight, settings),
      activation: editActivation(rule.activation, settings),
    })),
    ...stepsOf(base, settings),
    edges: settings.edges ?? base.edges,
    skip: [...base.skip, ...(settings.skip ?? [])],
    storage: settings.storage ?? base.storage,
    inlineFunctions: settings.inlineFunctions ?? base.inlineFunctions,
    samples: settings.samples ?? base.samples,
    seed: settings.seed ?? base.seed,
  };
  try {
    return refuseUnusedTarget(parseRecipe(edited), settings);
  } catch (error) {
    throw blameFlag(error, settings);
  }
}

/** What is wrong with a field of a recipe, said of the flag that it came from. */
export function blameFlag(error: unknown, settings: Settings): unknown {
  if (!(error instanceof RecoupError)) return error;
  const field = flagOf(error.place.field ?? "", settings);
  return new RecoupError("usage/argument", error.message, { field }, { cause: error });
}

/** `auto` alone leaves the choice to trials. */
function stepsOf(
  { steps: own, auto }: Recipe,
  { steps: given }: Settings,
): Pick<Recipe, "auto"> & { readonly steps: unknown } {
  if (given === undefined) return { steps: own, auto };
  if (isAuto(given)) return { steps: [], auto: true };
  if (given.includes("auto")) throw refuse('"auto" chooses the steps itself: it stands alone');
  if (given.includes("none") && given.length > 1) throw refuse('"none" means no steps: it stands alone');
  return { steps: namedSteps(given).map(stepOf), auto: false };
}

function isAuto(given: readonly string[] | undefined): boolean {
  return given?.length === 1 && given[0] === "auto";
}

/**
 * What somebody wishes is not put aside by trials without a word.
 *
 * @throws RecoupError `usage/argument` for a setting, `recipe/invalid` for a field of the recipe
 */
function refuseChosen(recipe: RecipeInput | undefined, base: Recipe, settings: Settings, file?: string): void {
  const chooser = isAuto(settings.steps) ? "--steps auto" : "the recipe's auto";
  if (!isAuto(settings.steps) && (settings.steps !== undefined || !base.auto)) return;
  const messageFor = (what: string) => `${chooser} chooses ${what}: leave one of them out`;
  for (const [name, what] of [
    ["rounding", "the rounding"],
    ["target", "the target of the rounding"],
  ] as const) {
    if (settings[name] === undefined) continue;
    throw new RecoupError("usage/argument", messageFor(what), { field: `--${name}` });
  }
  const wished = recipe?.formats?.findIndex(hasRounding) ?? -1;
  if (wished < 0) return;
  throw new RecoupError("recipe/invalid", messageFor("the rounding"), {
    file,
    field: fieldOf(placeOfRounding(wished)),
  });
}

function hasRounding({ weight }: NonNullable<RecipeInput["formats"]>[number]): boolean {
  return typeof weight === "object" && weight.rounding !== undefined;
}

/**
 * A recipe of somebody else's, of which what trials are asked to choose is no wish of whoever takes it over: presets say it for
 * the case that nothing is tried, models that were made hold what was found.
 *
 * @throws RecoupError `recipe/invalid`
 */
export function leaveToTrials(recipe: RecipeInput, { steps: given }: Settings, file?: string): RecipeInput {
  if (!isAuto(given)) return recipe;
  const parsed = parseRecipe(recipe, file);
  const formats = parsed.formats.map((rule) =>
    rule.weight === "float" ? rule : { ...rule, weight: { ...rule.weight, rounding: undefined } },
  );
  return { ...parsed, formats };
}

function namedSteps(given: readonly string[]): readonly string[] {
  return given.filter((step) => step !== "none");
}

/**
 * The step that a text like `nbc:alpha=0.3:rho=1` means, with every option filled in.
 *
 * @throws RecoupError `usage/argument`
 */
export function resolveStep(text: string): StepRule {
  return resolveRecipe(undefined, { steps: [text] }).steps[0];
}

/** The text that means a step: its name, and the options that are not at their defaults. */
export function textOfStep({ use, ...options }: StepRule): string {
  const known = steps.find(({ name }) => name === use)?.options ?? {};
  const set = Object.entries(options).filter(([name, value]) => value !== known[name]?.default);
  return [use, ...set.map(([name, value]) => `${name}=${value}`)].join(":");
}

/** `nbc:alpha=0.3:rho=1` is the step `nbc` with two options set. */
function stepOf(text: string): unknown {
  const [use, ...options] = text.split(":");
  const known = steps.find(({ name }) => name === use);
  const names = options.map((option) => option.split("=", 1)[0]);
  const entries = options.map((option, i) => {
    const name = names[i];
    const at = option.indexOf("=");
    if (known !== undefined && !Object.hasOwn(known.options, name)) {
      const all = Object.keys(known.options);
      const there = all.length === 0 ? "it has none" : `there are ${all.join(", ")}`;
      throw refuse(`has no option ${JSON.stringify(name)}: ${there}`, use);
    }
    if (names.indexOf(name) < i) throw refuse("is given twice", `${use}:${name}`);
    if (at < 0) throw refuse(`takes a value for ${name}: ${use}:${name}=VALUE`, use);
    return [name, settingOf(option.slice(at + 1))];
  });
  return { use, ...Object.fromEntries(entries) };
}

function refuse(message: string, step?: string): RecoupError {
  return new RecoupError("usage/argument", message, { field: step === undefined ? "--steps" : `--steps ${step}` });
}

function settingOf(text: string): number | string | boolean {
  if (text === "true" || text === "false") return text === "true";
  return /^-?(\d+\.?\d*|\.\d+)(e-?\d+)?$/i.test(text) ? Number(text) : text;
}

type WeightRule = Exclude<Recipe["formats"][number]["weight"], "float">;
type ActivationRule = Recipe["formats"][number]["activation"];

function editWeight(weight: WeightRule, settings: Settings): unknown {
  const bits = settings.weights ?? weight.bits;
  const symmetric = settings.symmetric ?? weight.symmetric;
  const granularity = settings.granularity ?? weight.granularity;
  const range = settings.weightRange ?? weight.range;
  return { ...weight, bits, granularity, symmetric, range, rounding: editRounding(weight.rounding, settings) };
}

function editRounding(rounding: WeightRule["rounding"], { rounding: use, target, steps: given }: Settings): unknown {
  if (isAuto(given)) return undefined;
  const chosen = use === undefined || use === rounding?.use ? rounding : { use };
  return target === undefined || chosen?.use !== "gptq" ? chosen : { ...chosen, target };
}

/** A target that changes nothing was meant to. */
function refuseUnusedTarget(recipe: Recipe, { target }: Settings): Recipe {
  const isUsed = recipe.formats.some(({ weight }) => weight !== "float" && weight.rounding?.use === "gptq");
  if (target === undefined || isUsed) return recipe;
  throw new RecoupError("recipe/invalid", 'is for weights that "gptq" rounds, and there are none: --rounding gptq', {
    field: "rounding.target",
  });
}

function editActivation(activation: ActivationRule, settings: Settings): unknown {
  const { activations, range, softmax } = settings;
  if (activations === "none" || (activation === "float" && activations === undefined)) return "float";
  const format = activation === "float" ? {} : activation;
  return {
    ...format,
    ...(activations !== undefined && { bits: activations }),
    ...(range !== undefined && { range }),
    ...(softmax !== undefined && { softmax }),
  };
}

/** Which flag a field of the recipe came from; of steps, which of them and which of its options. */
function flagOf(field: string, { steps }: Settings): string {
  const [, index, option] = /^steps\[(\d+)\]\.?(.*)$/.exec(field) ?? [];
  const step = steps && index && namedSteps(steps)[Number(index)].split(":")[0];
  if (step) return `--steps ${step}${option && option !== "use" ? `:${option}` : ""}`;
  const flags: readonly (readonly [RegExp, string])[] = [
    [/weight\.bits/, "--weights"],
    [/weight\.granularity/, "--granularity"],
    [/weight\.symmetric/, "--symmetric"],
    [/weight\.range/, "--weight-range"],
    [/rounding\.target/, "--target"],
    [/weight\.rounding/, "--rounding"],
    [/activation\.range/, "--range"],
    [/activation\.softmax/, "--softmax"],
    [/activation/, "--activations"],
    [/^steps/, "--steps"],
    [/^edges/, "--edges"],
    [/^storage/, "--storage"],
    [/^inlineFunctions/, "--inline-functions"],
    [/^samples/, "--samples"],
    [/^seed/, "--seed"],
  ];
  return flags.find(([pattern]) => pattern.test(field))?.[1] ?? field;
}
