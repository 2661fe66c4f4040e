import { type Attribute, buildGraph, type Graph, type Node, type Value, type ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { mapSubgraphs } from "../graph/subgraphs.js";

/** What the names inside a function are outside of it. */
export interface Scope {
  /** Of all values that can be read at this place. */
  readonly values: ReadonlyMap<ValueName, ValueName>;
  /** Before names that only exist inside. */
  readonly prefix: string;
  readonly names: NameSource;
}

/**
 * A node of a function with the attributes that a call gives, else the function's defaults, in the place of references to
 * them. A reference to what neither gives takes its attribute along: the operator's own default holds.
 */
export function giveAttributes(
  node: Node,
  given: Node["attributes"],
  defaults: ReadonlyMap<string, Attribute | undefined>,
): Node {
  const inner = mapSubgraphs(node, (body) => {
    const nodes = body.nodes.map((each) => giveAttributes(each, given, defaults));
    return nodes.every((each, i) => each === body.nodes[i]) ? body : buildGraph({ ...body, nodes }, true);
  });
  if (![...inner.attributes.values()].some(isReference)) return inner;
  const attributes = [...inner.attributes].flatMap(([key, attribute]): [string, Attribute][] => {
    if (!isReference(attribute)) return [[key, attribute]];
    const value = given.get(attribute.reference) ?? defaults.get(attribute.reference);
    return value === undefined ? [] : [[key, value]];
  });
  return { ...inner, attributes: new Map(attributes) };
}

function isReference(attribute: Attribute): attribute is Attribute & { readonly reference: string } {
  return attribute.kind === "opaque" && attribute.reference !== undefined;
}

/** A node of a function as it stands outside. All names change at once: an outer name may be an inner one too. */
export function renameNode(node: Node, scope: Scope): Node {
  const renamed = (value: ValueName) => scope.values.get(value) ?? value;
  const inner = mapSubgraphs(node, (body) => renameBody(body, scope));
  return {
    ...inner,
    name: node.name === "" ? "" : scope.names.fresh(scope.prefix + node.name),
    inputs: node.inputs.map(renamed),
    outputs: node.outputs.map(renamed),
  };
}

/** A body's own values get names that are free in the whole model: they must not hide what is read around it. */
function renameBody(body: Graph, scope: Scope): Graph {
  const values = new Map(scope.values);
  const own = [
    ...body.inputs.map((input) => input.name),
    ...body.initializers.keys(),
    ...body.nodes.flatMap((node) => node.outputs.filter((output) => output !== "")),
  ];
  // An initializer may be an input too.
  for (const name of new Set(own)) values.set(name, scope.names.fresh(scope.prefix + name));
  const renamed = (name: ValueName) => values.get(name) ?? name;
  const rename = (value: Value): Value => ({ ...value, name: renamed(value.name) });
  return buildGraph(
    {
      ...body,
      inputs: body.inputs.map(rename),
      outputs: body.outputs.map(rename),
      nodes: body.nodes.map((node) => renameNode(node, { ...scope, values })),
      initializers: new Map([...body.initializers].map(([name, tensor]) => [renamed(name), tensor])),
      valueInfo: new Map([...body.valueInfo.values()].map((value) => [renamed(value.name), rename(value)])),
    },
    true,
  );
}
