import { collect } from "../calibrate/collect.js";
import { SignalNoiseStatistic } from "../calibrate/signal-noise.js";
import type { Tap } from "../calibrate/statistic.js";
import { raiseOpset } from "../clean/opset/raise-opset.js";
import { oldestTarget } from "../clean/opset/versions.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import { sqnrDb } from "../evaluate/outputs.js";
import { fedInputs } from "../graph/fed-inputs.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, opsetOf, withGraph } from "../graph/model.js";
import { freePrefix } from "../graph/names.js";
import { isOperator, labelOf } from "../graph/node.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";

/** How far the output of a layer is from the reference's, errors of earlier layers included. */
export interface LayerComparison {
  /** Name of the node that computes the value in the reference. */
  readonly name: string;
  readonly value: ValueName;
  readonly sqnrDb: number;
}

const layerOperators = ["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"] as const;

/**
 * Compares the layers of two models by the names of their values, worst first. Values that a tool renamed cannot be
 * compared; where it renamed all of them, the result is empty.
 */
export async function compareLayers(
  engine: Engine,
  reference: Model,
  model: Model,
  types: ValueTypes,
  samples: AsyncIterable<NamedFeeds>,
  onSample: () => void = () => {},
): Promise<readonly LayerComparison[]> {
  const shared = sharedLayerOutputs(reference.graph, model.graph, types);
  if (shared.length === 0) return [];
  const statistics = shared.map(({ value }) => new SignalNoiseStatistic(value));
  const fed = fedInputs(reference.graph).map((input) => input.name);
  // One graph has one version of the standard's operators.
  const [older, newer] = [opsetOf(reference), opsetOf(model)].sort((a, b) => a - b);
  const opset = older === newer ? newer : Math.max(newer, oldestTarget);
  const [left, right] = [raiseOpset(reference, opset, types), raiseOpset(model, opset)];
  // Values of the reference get a prefix where both models run as one graph.
  const prefix = freePrefix([left.graph, right.graph], "reference/");
  const joined = joinGraphs(left.graph, prefix, right.graph, new Set(fed));
  const opsets = new Map([...left.opsets, ...right.opsets]);
  // Calls of functions stay calls.
  const functions = new Map([...left.functions, ...right.functions]);
  const both = { ...withGraph(right, joined), opsets, functions, irVersion: Math.max(left.irVersion, right.irVersion) };
  const nameOf = ({ from, value }: Tap) => (from === "float" ? prefix + value : value);
  await collect(engine, both, statistics, nameOf, samples, onSample);
  return shared
    .map(({ node, value }, i) => ({ name: labelOf(node), value, sqnrDb: sqnrDb(statistics[i].result()) }))
    .sort((a, b) => a.sqnrDb - b.sqnrDb);
}

function sharedLayerOutputs(
  reference: Graph,
  model: Graph,
  types: ValueTypes,
): readonly { readonly node: Node; readonly value: ValueName }[] {
  return reference.nodes.flatMap((node) => {
    const [value] = node.outputs;
    const twin = model.producer(value);
    const type = elementTypeOf(types, value);
    if (twin === undefined || type === undefined || !isFloatType(type)) return [];
    return isLayerNode(node) || isLayerNode(twin) ? [{ node, value }] : [];
  });
}

function isLayerNode(node: Node): boolean {
  return isOperator(node, ...layerOperators);
}
