import { cleanModel } from "./clean/index.js";
import { type Inlined, inlineFunctions } from "./clean/inline-functions.js";
import { raiseOpset } from "./clean/opset/raise-opset.js";
import type { Samples } from "./data/samples.js";
import { inBatches } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import type { Graph, ValueName, ValueType } from "./graph/graph.js";
import { type Model, opsetOf } from "./graph/model.js";
import { intAttribute, isOperator } from "./graph/node.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import type { ValueTypes } from "./graph/value-types.js";
import { findLayers, functionsWithLayers } from "./operators/index.js";
import { isQuantized } from "./operators/quantized.js";
import { preparationsOf, prepareNetwork } from "./preparation.js";
import { prepareForIntegers } from "./prepare/for-integers.js";
import { chooseLayers, type LayerChoice, type PlannedNetwork } from "./quantize/choose-layers.js";
import { refuseUnknownOutputs } from "./recipe/named-outputs.js";
import { neededOpset, type Recipe } from "./recipe/recipe.js";
import { unmatchedPatterns, wishesOf } from "./recipe/wish.js";
import type { RunReport } from "./report/run-report.js";
import { elementCodeOf } from "./tensor/element-code.js";
import type { StepResult } from "./walk/solve-sites.js";

/** A float network with everything that is decided on it before its ranges are looked for. */
export interface Plan extends PlannedNetwork {
  /** What the steps did that change the float network. */
  readonly prepared: readonly StepResult[];
  readonly clean: RunReport["clean"];
  /** What a user should know of the recipe. */
  readonly warnings: readonly string[];
}

/** What a plan is made of. */
export interface PlanningTask {
  readonly model: Model;
  readonly recipe: Recipe;
  readonly engine: Engine;
  /** Called with the share of the cleaning that is done, from 0 to 1. */
  readonly onCleaned?: (done: number) => void;
}

/**
 * As `planModel`, for a model that shall be quantized.
 *
 * @throws RecoupError `quantize/nothing-to-do`, `model/not-finite`, and as `planModel`
 */
export async function planQuantization({ model, recipe, engine, onCleaned }: PlanningTask): Promise<Plan> {
  refuseNotANumber(model.graph);
  onCleaned?.(0);
  const plan = await planModel(model, recipe, engine);
  if (plan.choice.layers.length === 0) throw nothingToDo(plan.choice, model, recipe);
  onCleaned?.(1);
  return plan;
}

/**
 * Cleans a model and decides on its layers, in the form that the runtime's kernels want.
 *
 * @throws RecoupError as `Engine.open`, for a network in bfloat16 with what to do, and as `refuseUnknownOutputs`
 */
export async function planModel(model: Model, recipe: Recipe, engine: Engine): Promise<Plan> {
  return planNetwork(model, recipe, engine).catch((error) => {
    const isRefused = error instanceof RecoupError && error.code === "engine/refused";
    throw isRefused && computesInBfloat16(model.graph) ? withoutKernels(error) : error;
  });
}

function withoutKernels(cause: RecoupError): RecoupError {
  const message =
    "computes in bfloat16, for which the runtime has no kernels on this processor: export it in float16 or float32";
  return new RecoupError(cause.code, `${message} (${cause.message})`, cause.place, { cause });
}

/** Weights that are stored in bfloat16 and cast when they are read are no arithmetic. */
function computesInBfloat16(graph: Graph): boolean {
  const isCast = (value: ValueName) => graph.consumers(value).every((node) => isOperator(node, "Cast"));
  const isHalf = (type: ValueType) => type.kind === "tensor" && type.elementType === "bfloat16";
  const given = graph.inputs.filter(({ type }) => isHalf(type)).map(({ name }) => name);
  const constants = [...graph.initializers].filter(([, { type }]) => type === "bfloat16").map(([name]) => name);
  const cast = graph.nodes.filter(
    (node) => isOperator(node, "Cast") && intAttribute(node, "to", 0) === elementCodeOf("bfloat16"),
  );
  return ![...given, ...constants, ...cast.map((node) => node.outputs[0])].every(isCast);
}

async function planNetwork(given: Model, recipe: Recipe, engine: Engine): Promise<Plan> {
  refuseUnknownOutputs(recipe.steps, given.graph);
  const { model, step } = writeOut(given, recipe);
  const cleaned = await cleanModel(model, { engine });
  const raised = await raiseCleaned(cleaned.model, neededOpset(recipe), engine);
  const wantsIntegers = recipe.formats.some((format) => format.activation !== "float");
  const before = await inferValueTypes(engine, raised);
  const float = wantsIntegers ? prepareForIntegers(raised, before) : raised;
  const types = float === raised ? before : await inferValueTypes(engine, float);
  const choice = choicesOf(float, types, recipe);
  return {
    float,
    types,
    choice,
    prepared: [],
    clean: given.functions.size > 0 ? [step, ...cleaned.steps] : cleaned.steps,
    warnings: [...warnOfQuantized(model), ...warnOfFunctions(model, recipe), ...warnOfPatterns(recipe, model, float)],
  };
}

/** Layers inside functions are out of reach until their calls are written out. */
function writeOut(model: Model, { inlineFunctions: which }: Recipe): Inlined {
  const withLayers = which === "layers" ? functionsWithLayers(model.functions) : undefined;
  return inlineFunctions(model, (called) => which === "all" || withLayers?.has(called) === true);
}

function choicesOf({ graph }: Model, types: ValueTypes, recipe: Recipe): LayerChoice {
  const found = findLayers(graph, types);
  return chooseLayers(graph, types, found, wishesOf(recipe, found.layers));
}

/** A plan with the formats that another recipe gives its layers: of the same bits, so the network itself stays. */
export function planLayers(plan: Plan, recipe: Recipe): Plan {
  const { float, types } = plan;
  return { ...plan, choice: choicesOf(float, types, recipe) };
}

/**
 * Takes the float network of a plan through the steps of its recipe that change it.
 *
 * @param indices of the samples that such steps may look at
 * @returns the same plan where there are none
 * @throws RecoupError as `prepareNetwork`
 */
export async function preparePlan(
  { recipe, engine, samples }: { readonly recipe: Recipe; readonly engine: Engine; readonly samples: Samples },
  plan: Plan,
  indices: readonly number[],
  batchSize: number,
): Promise<Plan> {
  if (preparationsOf(recipe).length === 0) return plan;
  const { float, types, choice } = plan;
  const batches = () => inBatches(samples.read(indices), batchSize);
  const batchCount = Math.ceil(indices.length / batchSize);
  const { steps, ...prepared } = await prepareNetwork({ engine, recipe, float, types, choice, batches, batchCount });
  return { ...plan, ...prepared, prepared: steps };
}

function warnOfFunctions({ functions }: Model, { inlineFunctions: which }: Recipe): readonly string[] {
  const count = which === "none" ? functionsWithLayers(functions).size : 0;
  return count === 0 ? [] : [`${count} functions that may hold layers stay as they are: nothing in them is quantized`];
}

/** Layers are chosen by the names that they have in the cleaned network. */
function warnOfPatterns(recipe: Recipe, given: Model, cleaned: Model): readonly string[] {
  const unknown = new Set(unmatchedPatterns(recipe, given.graph));
  return unmatchedPatterns(recipe, cleaned.graph).map((pattern) => {
    const nothing = unknown.has(pattern) ? "no node" : "only nodes that cleaning takes away or renames";
    return `the pattern ${pattern} matches ${nothing}`;
  });
}

/** Known ranks spare nodes where the meaning of an operator changed with its version. */
async function raiseCleaned(model: Model, opset: number, engine: Engine): Promise<Model> {
  return opsetOf(model) >= opset ? model : raiseOpset(model, opset, await inferValueTypes(engine, model));
}

function warnOfQuantized(model: Model): readonly string[] {
  return isQuantized(model.graph) ? ["the model is quantized already: give the original where there is one"] : [];
}

function nothingToDo(choice: LayerChoice, model: Model, recipe: Recipe): RecoupError {
  const reasons = new Set([...warnOfFunctions(model, recipe), ...choice.skipped.map(({ reason }) => reason)]);
  const given = [...reasons].slice(0, 3).join("; ");
  const why = isQuantized(model.graph) ? "it is quantized already" : given || "it has no node with a constant weight";
  return new RecoupError("quantize/nothing-to-do", `has no layer to quantize: ${why}`);
}
