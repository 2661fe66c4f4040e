import { type Attribute, type Graph, type Node, subgraphsOf } from "./graph.js";

/** The nodes of a graph and of the bodies in it. */
export function* nodesIn(graph: Graph): Generator<Node> {
  for (const node of graph.nodes) {
    yield node;
    for (const body of subgraphsOf(node)) yield* nodesIn(body);
  }
}

/** The node with each of its bodies replaced; the node itself where every body stayed the same object. */
export function mapSubgraphs(node: Node, change: (body: Graph) => Graph): Node {
  const bodies = subgraphsOf(node);
  if (bodies.length === 0) return node;
  const changed = new Map(bodies.map((body) => [body, change(body)] as const));
  if (bodies.every((body) => changed.get(body) === body)) return node;
  const attributes = [...node.attributes].map(([key, attribute]) => [key, mapBodies(attribute, changed)] as const);
  return { ...node, attributes: new Map(attributes) };
}

function mapBodies(attribute: Attribute, changed: ReadonlyMap<Graph, Graph>): Attribute {
  const of = (body: Graph) => changed.get(body) ?? body;
  if (attribute.kind === "graph") return { kind: "graph", value: of(attribute.value) };
  if (attribute.kind === "graphs") return { kind: "graphs", value: attribute.value.map(of) };
  return attribute;
}
