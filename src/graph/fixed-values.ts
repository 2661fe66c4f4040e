import { type Graph, type Node, subgraphsOf, type ValueName } from "./graph.js";
import { isOperator, isStandard } from "./node.js";

/** Operators whose result is not decided by their inputs. */
export const randomOperators: readonly string[] = [
  "Bernoulli",
  "Dropout",
  "Multinomial",
  "RandomNormal",
  "RandomNormalLike",
  "RandomUniform",
  "RandomUniformLike",
];

/**
 * The values that nodes compute from constants alone: the same in every run and wherever they are computed again. What is
 * drawn by chance is not among them, nor what other domains' operators and bodies compute, which may draw too.
 */
export function fixedValues(graph: Graph): ReadonlySet<ValueName> {
  const fixed = new Set<ValueName>();
  const isFixed = (value: ValueName) => value === "" || fixed.has(value) || graph.constant(value) !== undefined;
  for (const node of graph.nodes) {
    if (!isPlain(node) || !node.inputs.every(isFixed)) continue;
    for (const output of node.outputs) if (output !== "") fixed.add(output);
  }
  return fixed;
}

function isPlain(node: Node): boolean {
  return isStandard(node) && !isOperator(node, ...randomOperators) && subgraphsOf(node).length === 0;
}
