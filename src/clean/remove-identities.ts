import { type Graph, type Node, readsOf, subgraphsOf, type ValueName } from "../graph/graph.js";
import { opsetOf, withGraph } from "../graph/model.js";
import { collectNames } from "../graph/names.js";
import { hasOneResult, labelOf } from "../graph/node.js";
import { applyPatch, type GraphPatch } from "../graph/patch.js";
import { type IdentityFacts, passedInput, typesNeeded } from "./identity-rules.js";
import type { CleanPass, PassResult } from "./pass.js";
import { inferStaticTypes } from "./static-types.js";

/** A node whose output always is one of its inputs. */
interface Passing {
  readonly node: Node;
  readonly from: ValueName;
  readonly to: ValueName;
}

/**
 * Takes out nodes that pass a value on unchanged: their readers read that value. A graph output keeps its name, so there
 * the producer of the value writes it instead; an output that is an input or constant of the graph keeps its node.
 */
export const removeIdentities: CleanPass = {
  name: "remove-identities",
  typesNeeded: typesNeededIn,
  async run(model, context): Promise<PassResult> {
    const needed = typesNeededIn(model.graph);
    const types = needed.length === 0 ? new Map() : await inferStaticTypes(model, context, needed);
    const changed: string[] = [];
    let { graph } = model;
    for (;;) {
      const found = findPassing({ graph, opset: opsetOf(model), types });
      const inner = found.filter(({ from }) => !graph.isOutput(from));
      const patch = inner.length > 0 ? bypass(inner) : renameProducers(graph, found);
      if (patch === undefined) break;
      const passing = new Set(found.map(({ node }) => node));
      for (const node of patch.remove ?? []) if (passing.has(node)) changed.push(describe(node));
      graph = applyPatch(graph, patch);
    }
    return { model: changed.length > 0 ? withGraph(model, graph) : model, changed, skipped: [] };
  },
};

function typesNeededIn(graph: Graph): readonly ValueName[] {
  return graph.nodes.flatMap((node) => typesNeeded(node, graph));
}

function findPassing(facts: IdentityFacts): readonly Passing[] {
  return facts.graph.nodes.flatMap((node) => {
    const to = passedInput(node, facts);
    const [from] = node.outputs;
    if (to === undefined || !hasOneResult(facts.graph, node) || hides(facts.graph, from, to)) return [];
    return [{ node, from, to }];
  });
}

/** Whether a body that reads a value has one of its own under the name that would take the value's place. */
function hides(graph: Graph, from: ValueName, to: ValueName): boolean {
  return graph.consumers(from).some((reader) =>
    subgraphsOf(reader).some((body) => {
      const names = new Set<string>();
      collectNames(body, names);
      return body.captures.has(from) && !body.captures.has(to) && names.has(to);
    }),
  );
}

/** All readers of what the nodes write read what the nodes read, through chains of them. */
function bypass(found: readonly Passing[]): GraphPatch {
  const next = new Map(found.map(({ from, to }) => [from, to] as const));
  const redirect = new Map(
    [...next].map(([from, to]) => {
      let target = to;
      for (let further = next.get(target); further !== undefined; further = next.get(target)) target = further;
      return [from, target] as const;
    }),
  );
  return { label: removeIdentities.name, remove: found.map(({ node }) => node), redirect };
}

/**
 * Nodes that write graph outputs go, and the producers of what they pass on write the outputs: as many at once as do not
 * touch each other's nodes.
 */
function renameProducers(graph: Graph, found: readonly Passing[]): GraphPatch | undefined {
  const remove = new Set<Node>();
  const add: Node[] = [];
  const redirect = new Map<ValueName, ValueName>();
  for (const { node, from, to } of found) {
    const producer = graph.producer(to);
    if (producer === undefined || graph.isOutput(to)) continue;
    const isTouched = remove.has(node) || remove.has(producer) || readsAny(producer, redirect);
    // What is redirected must be read by nodes that stay.
    if (isTouched || graph.consumers(to).some((reader) => reader !== node && remove.has(reader))) continue;
    remove.add(node).add(producer);
    add.push({ ...producer, outputs: producer.outputs.map((output) => (output === to ? from : output)) });
    redirect.set(to, from);
  }
  return add.length === 0 ? undefined : { label: removeIdentities.name, remove: [...remove], add, redirect };
}

function readsAny(node: Node, redirect: ReadonlyMap<ValueName, ValueName>): boolean {
  return [...readsOf(node)].some((value) => redirect.has(value));
}

function describe(node: Node): string {
  return `${labelOf(node)}: ${node.opType} that passes its input on was removed`;
}
