import { RecoupError } from "../../errors.js";
import { buildGraph, type Graph, type Node, readsOf, type ValueName } from "../../graph/graph.js";
import { type Model, opsetOf } from "../../graph/model.js";
import { createNameSource, type NameSource } from "../../graph/names.js";
import { isStandard } from "../../graph/node.js";
import { mapSubgraphs } from "../../graph/subgraphs.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../../graph/value-types.js";
import type { Tensor } from "../../tensor/tensor.js";
import { constantTensor } from "../constant-tensor.js";
import { dropListedInitializers } from "../listed-initializers.js";
import type { ConversionScope } from "./converter.js";
import { findConverter } from "./converters.js";
import { collectKnownTypes } from "./known-types.js";
import { irVersionFor, newestOpset, oldestOpset, oldestTarget } from "./versions.js";

/**
 * The model in a newer version of the standard's operator set: the same values under the same names. Model-local
 * functions have operator sets of their own and stay as they are.
 *
 * @param target 13 for quantization per channel, 21 for 4-bit and 25 for 2-bit types; a model at or above it comes back as
 * it is
 * @param types of the model's values, where somebody has asked a runtime: spares nodes where a rank decides
 * @throws RecoupError `onnx/unsupported` for a node whose meaning the newer set cannot express, for a model older than
 * operator set 7, for a target that is not known
 */
export function raiseOpset(model: Model, target: number, types: ValueTypes = new Map()): Model {
  const source = opsetOf(model);
  if (model.opsets.has("") && source >= target) return model;
  if (target < oldestTarget || target > newestOpset) {
    throw unsupported(`operator set ${target} is no target; ${oldestTarget} to ${newestOpset} are`);
  }
  const opsets = new Map([...model.opsets, ["", target] as const]);
  const listed = dropListedInitializers(model).model;
  const raised = { ...listed, opsets, irVersion: Math.max(listed.irVersion, irVersionFor(target)) };
  // A model that does not import the standard's operators has no node of them.
  if (!model.opsets.has("")) return raised;
  if (source < oldestOpset) {
    throw unsupported(`is of operator set ${source}; ${oldestOpset} is the oldest that can be raised`);
  }
  const names = createNameSource(listed.graph);
  return { ...raised, graph: convertGraph(listed.graph, { source, target, names, types }) };
}

interface Conversion {
  readonly source: number;
  readonly target: number;
  readonly names: NameSource;
  readonly types: ValueTypes;
}

function convertGraph(graph: Graph, conversion: Conversion, outer?: ConversionScope): Graph {
  const added = new Map<ValueName, Tensor>();
  const scope = createScope(graph, conversion, added, outer);
  const nodes = graph.nodes.flatMap((node) => {
    const inner = mapSubgraphs(node, (body) => convertGraph(body, conversion, scope));
    return convertNode(inner, conversion.source, conversion.target, scope);
  });
  if (nodes.every((node, i) => node === graph.nodes[i])) return graph;
  const read = new Set(nodes.flatMap((node) => [...readsOf(node)]));
  const needed = [...added].filter(([name]) => read.has(name));
  const initializers = new Map([...graph.initializers, ...needed]);
  const written = new Set(nodes.flatMap((node) => node.outputs));
  const valueInfo = new Map([...graph.valueInfo].filter(([name]) => written.has(name) || graph.isInput(name)));
  return buildGraph({ ...graph, nodes, initializers, valueInfo }, outer !== undefined);
}

/** Applies the changes in the order of their versions: each speaks the operator set the one before it led to. */
function convertNode(node: Node, from: number, target: number, scope: ConversionScope): readonly Node[] {
  if (!isStandard(node)) return [node];
  const converter = findConverter(node.opType, from);
  if (converter === undefined || converter.version > target) return [node];
  return converter.convert(node, scope).flatMap((next) => convertNode(next, converter.version, target, scope));
}

function createScope(
  graph: Graph,
  conversion: Conversion,
  added: Map<ValueName, Tensor>,
  outer: ConversionScope | undefined,
): ConversionScope {
  const known = collectKnownTypes(
    graph,
    outer && ((value) => ({ elementType: outer.elementType(value), rank: outer.rank(value) })),
  );
  const isOwn = (value: ValueName) => graph.isInput(value) || graph.producer(value) !== undefined;
  return {
    graph,
    constant: (value) =>
      added.get(value) ??
      graph.constant(value) ??
      constantTensor(graph.producer(value)) ??
      (isOwn(value) ? undefined : outer?.constant(value)),
    elementType: (value) => (outer ? undefined : elementTypeOf(conversion.types, value)) ?? known(value).elementType,
    rank: (value) => (outer ? undefined : shapeOf(conversion.types, value)?.length) ?? known(value).rank,
    fresh: (base) => conversion.names.fresh(base),
    add(base, tensor) {
      const name = conversion.names.fresh(base);
      added.set(name, tensor);
      return name;
    },
  };
}

function unsupported(message: string): RecoupError {
  return new RecoupError("onnx/unsupported", message, { field: "opset_import ai.onnx" });
}
