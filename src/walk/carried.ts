import type { Block } from "../blocks/blocks.js";
import type { Tap } from "../calibrate/statistic.js";
import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import type { OpenStep } from "../step/open-step.js";
import { tappedBy, type Values } from "./streams.js";

/**
 * For each block, what of the blocks before it sites in it or behind it look at: such values live longer than their
 * readers in the network need them.
 *
 * @param current the network that the steps change, before the walk: values that only it has lie where what they are
 * computed from does
 */
export function findCarried(blocks: readonly Block[], current: Graph, steps: readonly OpenStep[]): readonly Values[] {
  const homes = findHomes(blocks, current);
  const spans = steps.flatMap(({ sites }) =>
    sites.flatMap((site) => {
      const last = homes.get(site.value) ?? 0;
      return site.taps.map((tap) => ({ tap, first: homes.get(tap.value) ?? last, last }));
    }),
  );
  return blocks.map((_, index) => {
    const taps = spans.filter(({ first, last }) => first < index && last >= index).map(({ tap }): Tap => tap);
    return tappedBy(taps);
  });
}

/** The block in which each value is known, -1 for what is fed; none for constants. */
function findHomes(blocks: readonly Block[], current: Graph): ReadonlyMap<ValueName, number> {
  const homes = new Map<ValueName, number>(current.inputs.map(({ name }) => [name, -1]));
  for (const [index, { nodes }] of blocks.entries()) {
    for (const output of nodes.flatMap((node: Node) => node.outputs)) homes.set(output, index);
  }
  for (const node of current.nodes) {
    const read = [...readsOf(node)].flatMap((value) => homes.get(value) ?? []);
    if (read.length === 0) continue;
    for (const output of node.outputs) if (!homes.has(output)) homes.set(output, Math.max(...read));
  }
  return homes;
}
