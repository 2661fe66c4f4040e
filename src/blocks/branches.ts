import { fixedValues } from "../graph/fixed-values.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import type { ValueTypes } from "../graph/value-types.js";
import { valuesBehind } from "../graph/values-behind.js";
import { findSections, hasProduct, type Section } from "./sections.js";

/** A module of a transformer, which a residual connection leads around. */
export interface Branch extends Pick<Section, "label" | "entry" | "sides"> {
  /** `attention` multiplies activations with each other; `mlp` holds nothing but products with weights, two at least. */
  readonly kind: "attention" | "mlp";
  /** What is added to the residual stream. */
  readonly output: ValueName;
}

/**
 * The attentions and the multilayer perceptrons of a network, by data flow: parts that one activation enters, and that leave
 * its sum with what their layers make of it.
 */
export function findBranches(graph: Graph, types: ValueTypes, layers: readonly Node[]): readonly Branch[] {
  const fixed = fixedValues(graph);
  const known = new Set(layers);
  return findSections(graph, types, layers, "part").sections.flatMap((section): readonly Branch[] => {
    const output = addedTo(graph, section, known);
    const kind = kindOf(section, fixed, known);
    const { label, entry, sides } = section;
    return output === undefined || kind === undefined ? [] : [{ kind, label, entry, sides, output }];
  });
}

/** The summand of what leaves a part that layers of it lie above, where none lies above the other one. */
function addedTo(graph: Graph, { exit, nodes }: Section, layers: ReadonlySet<Node>): ValueName | undefined {
  const add = graph.producer(exit);
  if (!isOperator(add, "Add")) return undefined;
  const own = nodes.filter((node) => layers.has(node));
  const made = valuesBehind(
    nodes,
    own.flatMap((node) => node.outputs),
  );
  const [branch, ...others] = add.inputs.filter((input) => made.has(input));
  // The bias of a layer is no residual stream.
  const isResidual = add.inputs.every((input) => graph.constant(input) === undefined);
  return others.length === 0 && isResidual ? branch : undefined;
}

function kindOf(
  section: Section,
  fixed: ReadonlySet<ValueName>,
  layers: ReadonlySet<Node>,
): Branch["kind"] | undefined {
  if (hasProduct(section, fixed)) return "attention";
  const own = section.nodes.filter((node) => layers.has(node));
  return own.length > 1 && own.every((node) => isOperator(node, "MatMul", "Gemm")) ? "mlp" : undefined;
}
