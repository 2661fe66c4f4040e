import { DecidedValues, type DecisionRule } from "../graph/decided-values.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import { float32Values } from "../tensor/tensor.js";
import { selectedInputs } from "./selecting.js";

/**
 * Whether a value holds the shares that a Softmax gives out, moved or picked at most: many near zero, few near one. Softmax
 * as exponentials over their sum counts too, and shares of rows without any that are set to zero.
 */
export function holdsShares(graph: Graph, value: ValueName): boolean {
  const decided = sharesIn.get(graph) ?? new DecidedValues((next, known) => decideShares(graph, next, known));
  sharesIn.set(graph, decided);
  return decided.of(value);
}

/** Graphs never change, and it is asked of each value on the way. */
const sharesIn = new WeakMap<Graph, DecidedValues>();

function decideShares(graph: Graph, ...[value, known]: Parameters<DecisionRule>): ReturnType<DecisionRule> {
  const producer = graph.producer(value);
  if (producer === undefined) return false;
  if (isOperator(producer, "Softmax") || isShareOfSum(graph, producer)) return true;
  const [, ...chosen] = isOperator(producer, "Where") ? producer.inputs : [];
  const sources = selectedInputs(producer, graph) ?? chosen.filter((input) => !isZero(graph, input));
  const open = sources.filter((source) => known(source) === undefined);
  return open.length > 0 ? open : sources.length > 0 && sources.every(known);
}

function isShareOfSum(graph: Graph, node: Node): boolean {
  if (!isOperator(node, "Div") || !isOperator(graph.producer(node.inputs[0]), "Exp")) return false;
  const sum = graph.producer(node.inputs[1]);
  return isOperator(sum, "ReduceSum") && sum.inputs[0] === node.inputs[0];
}

function isZero(graph: Graph, value: ValueName): boolean {
  const tensor = graph.constant(value);
  return tensor?.type === "float32" && float32Values(tensor).every((element) => element === 0);
}
