import { findLayerBlocks } from "./blocks/layer-blocks.js";
import type { Engine } from "./engine/engine.js";
import { fedInputs } from "./graph/fed-inputs.js";
import type { Value } from "./graph/graph.js";
import { type Model, opsetOf } from "./graph/model.js";
import { labelOf, operatorName } from "./graph/node.js";
import { planModel } from "./planning.js";
import type { Recipe } from "./recipe/recipe.js";
import { recordSkipped, type SkippedRecord } from "./report/run-report.js";
import { isFloatType } from "./tensor/element-type.js";
import { elementCount } from "./tensor/shape.js";

/** What a model is and what a recipe would do with it. */
export interface Inspection {
  readonly opset: number;
  readonly irVersion: number;
  readonly producer: string;
  readonly inputs: readonly ValueSummary[];
  readonly outputs: readonly ValueSummary[];
  readonly nodes: number;
  /** How often each operator occurs, most frequent first. */
  readonly operators: readonly { readonly name: string; readonly count: number }[];
  /** Elements of all float constants. */
  readonly parameters: number;
  readonly blocks: readonly BlockSummary[];
  readonly quantized: readonly PlannedLayer[];
  readonly skipped: readonly SkippedRecord[];
  /** What a user should know of the recipe. */
  readonly warnings: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ValueSummary {
  readonly name: string;
  readonly type: string;
}

export interface BlockSummary {
  /** Where the block ends: the values that the next one reads. */
  readonly outputs: readonly string[];
  readonly layers: number;
}

export interface PlannedLayer {
  readonly name: string;
  readonly opType: string;
  readonly weight: string;
  readonly shape: readonly number[];
  readonly weightBits: number;
  readonly activationBits: number | "float";
  readonly remarks: readonly string[];
}

/** @throws RecoupError what the engine throws for a model that does not load */
export async function inspectModel(model: Model, recipe: Recipe, engine: Engine): Promise<Inspection> {
  const { float, types, choice, warnings } = await planModel(model, recipe, engine);
  const layers = new Set(choice.layers.map(({ layer }) => layer.node));
  const blocks = findLayerBlocks(float.graph, types, [...layers]);
  const { graph } = model;
  return {
    opset: opsetOf(model),
    irVersion: model.irVersion,
    producer: [model.producerName, model.producerVersion].filter((part) => part !== "").join(" "),
    inputs: fedInputs(graph).map(summarize),
    outputs: graph.outputs.map(summarize),
    nodes: graph.nodes.length,
    operators: countOperators(model),
    parameters: countParameters(model),
    blocks: blocks.map((block) => ({
      outputs: block.outputs,
      layers: block.nodes.filter((node) => layers.has(node)).length,
    })),
    quantized: choice.layers.map(({ layer, weight, activation, remarks }) => ({
      name: labelOf(layer.node),
      opType: layer.node.opType,
      weight: layer.weight,
      shape: float.graph.initializers.get(layer.weight)?.shape ?? [],
      weightBits: weight.bits,
      activationBits: activation === "float" ? "float" : activation.bits,
      remarks,
    })),
    skipped: recordSkipped(choice),
    warnings,
    metadata: Object.fromEntries(model.metadata),
  };
}

function summarize(value: Value): ValueSummary {
  if (value.type.kind !== "tensor") return { name: value.name, type: "not a tensor" };
  const shape = value.type.shape?.map((size) => size ?? "?").join(", ") ?? "…";
  return { name: value.name, type: `${value.type.elementType}[${shape}]` };
}

function countOperators(model: Model): Inspection["operators"] {
  const counts = new Map<string, number>();
  for (const node of model.graph.nodes) {
    const name = operatorName(node);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count);
}

/** Constants stand in initializers, and with some exporters in Constant nodes. */
function countParameters(model: Model): number {
  const constants = model.graph.nodes.flatMap((node) => {
    const value = node.opType === "Constant" ? node.attributes.get("value") : undefined;
    return value?.kind === "tensor" ? [value.value] : [];
  });
  return [...model.graph.initializers.values(), ...constants]
    .filter((tensor) => isFloatType(tensor.type))
    .reduce((sum, tensor) => sum + elementCount(tensor.shape), 0);
}
