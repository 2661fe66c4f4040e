import { RecoupError } from "../errors.js";
import { buildGraph, type Graph, type Node, type ValueName } from "../graph/graph.js";
import { functionKey, functionOf, type LocalFunction, type Model, makeModel, opsetOf } from "../graph/model.js";
import { createNameSource, type NameSource } from "../graph/names.js";
import { labelOf, makeNode } from "../graph/node.js";
import { mapSubgraphs, nodesIn } from "../graph/subgraphs.js";
import { deepestBody, mostNodes } from "../onnx/limits.js";
import type { Tensor } from "../tensor/tensor.js";
import { constantTensor } from "./constant-tensor.js";
import { giveAttributes, renameNode, type Scope } from "./function-scope.js";
import type { CleanStep } from "./index.js";
import { raiseOpset } from "./opset/raise-opset.js";

export interface Inlined {
  /** The same object where nothing was written out. */
  readonly model: Model;
  readonly step: CleanStep;
}

/** As the report writes it. */
const name = "inline-functions";

/**
 * Writes calls of a model's own functions out as the nodes that they stand for, those inside bodies and inside other
 * functions included. Values that calls give keep their names; what is inside a call is named after it, `call/value`.
 * Constants of a function are kept once, however often it is called. Functions that nobody calls any more go.
 *
 * @param isWanted which functions to write out
 * @returns the steps' `skipped` names functions whose operators cannot be said in the model's operator set: they stay calls
 * @throws RecoupError `onnx/limit` where the nodes would be more than `mostNodes` or bodies deeper than `deepestBody`
 */
export function inlineFunctions(model: Model, isWanted: (called: LocalFunction) => boolean): Inlined {
  const wanted: ReadonlySet<LocalFunction> = new Set([...model.functions.values()].filter(isWanted));
  if (wanted.size === 0) return { model, step: { name, changed: [], skipped: [] } };
  const skipped = new Map<LocalFunction, string>();
  const raised = raiseForFunctions(model, wanted, skipped);
  const inliner = new Inliner(raised, new Set([...wanted].filter((called) => !skipped.has(called))), skipped);
  const graph = inliner.writeOut(raised.graph);
  const step = {
    name,
    changed: inliner.changed,
    skipped: [...skipped].map(([called, reason]) => ({ node: functionKey(called), reason })),
  };
  if (inliner.changed.length === 0) return { model, step };
  const whole = buildGraph({ ...graph, initializers: new Map([...graph.initializers, ...inliner.initializers]) });
  const functions = withoutUncalled(whole, raised.functions, wanted);
  return { model: { ...raised, graph: whole, functions, opsets: inliner.opsets }, step };
}

/** A function may be written in a newer operator set than the model. */
function raiseForFunctions(
  model: Model,
  wanted: ReadonlySet<LocalFunction>,
  skipped: Map<LocalFunction, string>,
): Model {
  const versionOf = ({ opsets }: LocalFunction) => opsets.get("") ?? 0;
  let newest = 0;
  for (const called of wanted) newest = Math.max(newest, versionOf(called));
  if (newest === 0 || (model.opsets.has("") && newest <= opsetOf(model))) return model;
  try {
    return raiseOpset(model, newest);
  } catch (error) {
    const reason = reasonOf(error);
    for (const called of wanted) if (versionOf(called) > opsetOf(model)) skipped.set(called, reason);
    return model;
  }
}

class Inliner {
  readonly changed: string[] = [];
  /** Constants of functions, for the whole model's graph. */
  readonly initializers = new Map<ValueName, Tensor>();
  readonly opsets: Map<string, number>;
  readonly #model: Model;
  readonly #wanted: Set<LocalFunction>;
  readonly #skipped: Map<LocalFunction, string>;
  readonly #names: NameSource;
  /** The domains of the model's own functions. */
  readonly #domains: ReadonlySet<string>;
  /** The names of constants that a function's calls share. */
  readonly #shared = new Map<Tensor, ValueName>();
  #nodes = 0;

  constructor(model: Model, wanted: Set<LocalFunction>, skipped: Map<LocalFunction, string>) {
    this.#model = model;
    this.#wanted = wanted;
    this.#skipped = skipped;
    this.#names = createNameSource(model.graph);
    this.#domains = new Set([...model.functions.values()].map(({ domain }) => domain));
    this.opsets = new Map(model.opsets);
  }

  /** @param depth 0 for the model's own graph, 1 for bodies of its nodes, and so on */
  writeOut(graph: Graph, depth = 0): Graph {
    if (depth > deepestBody) throw limit(`bodies would stand more than ${deepestBody} deep`, graph.name);
    const nodes: Node[] = [];
    const open = [...graph.nodes].reverse();
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const node = mapSubgraphs(next, (body) => this.writeOut(body, depth + 1));
      const written = this.#expand(node);
      if (written === undefined) nodes.push(node);
      else for (const inner of [...written].reverse()) open.push(inner);
    }
    const isSame = nodes.length === graph.nodes.length && nodes.every((node, i) => node === graph.nodes[i]);
    if (isSame) return graph;
    // Its constants are still to come where it is the model's own graph.
    return depth > 0 ? buildGraph({ ...graph, nodes }, true) : { ...graph, nodes };
  }

  /** The nodes that a call stands for; undefined for any other node. */
  #expand(call: Node): readonly Node[] | undefined {
    const called = functionOf(this.#model.functions, call);
    if (called === undefined || !this.#wanted.has(called)) return undefined;
    const body = this.#bodyOf(called, call);
    if (body === undefined) return undefined;
    this.#nodes += body.nodes.length + 1;
    if (this.#nodes > mostNodes) throw limit(`would be more than ${mostNodes} nodes`, labelOf(call));
    this.changed.push(`${labelOf(call)}: call of ${functionKey(called)} became ${body.nodes.length} nodes`);
    const prefix = `${labelOf(call)}/`;
    const scope = new Map<ValueName, ValueName>([["", ""]]);
    for (const [i, { name: parameter }] of body.inputs.entries()) scope.set(parameter, call.inputs[i] ?? "");
    for (const [constant, tensor] of body.initializers) scope.set(constant, this.#share(prefix + constant, tensor));
    const nodes = body.nodes.filter((node) => !this.#shareConstant(node, body, prefix, scope));
    const passed: Node[] = [];
    for (const [i, { name: result }] of body.outputs.entries()) {
      const output = call.outputs[i] ?? "";
      if (output === "") continue;
      if (scope.has(result)) passed.push(makeNode("Identity", [scope.get(result) as string], [output], {}, ""));
      else scope.set(result, output);
    }
    for (const value of nodes.flatMap((node) => node.outputs)) {
      if (!scope.has(value)) scope.set(value, this.#names.fresh(prefix + value));
    }
    const inside: Scope = { values: scope, prefix, names: this.#names };
    return [...nodes.map((node) => renameNode(node, inside)), ...passed];
  }

  /** What a call computes, with its attributes put in, in the model's operator set. */
  #bodyOf(called: LocalFunction, call: Node): Graph | undefined {
    try {
      for (const [domain, version] of called.opsets) this.#importOpset(domain, version);
      const nodes = called.body.nodes.map((node) => giveAttributes(node, call.attributes, called.attributes));
      const graph = buildGraph({ ...called.body, nodes });
      const target = opsetOf(this.#model);
      if ((called.opsets.get("") ?? target) === target) return graph;
      return raiseOpset(makeModel(graph, { irVersion: this.#model.irVersion, opsets: called.opsets }), target).graph;
    } catch (error) {
      this.#skipped.set(called, reasonOf(error));
      this.#wanted.delete(called);
      return undefined;
    }
  }

  #importOpset(domain: string, version: number): void {
    if (domain === "") return;
    const known = this.opsets.get(domain);
    if (known === undefined) this.opsets.set(domain, version);
    else if (known !== version && !this.#domains.has(domain)) {
      throw new RecoupError("onnx/unsupported", `imports ${domain} ${version}, and the model ${known}`);
    }
  }

  /** Whether a node is a constant, which then is named for the function. What leaves the function stays a node. */
  #shareConstant(node: Node, body: Graph, prefix: string, scope: Map<ValueName, ValueName>): boolean {
    const tensor = body.isOutput(node.outputs[0]) ? undefined : constantTensor(node);
    if (tensor === undefined) return false;
    scope.set(node.outputs[0], this.#share(prefix + node.outputs[0], tensor));
    return true;
  }

  #share(wished: ValueName, tensor: Tensor): ValueName {
    const known = this.#shared.get(tensor);
    if (known !== undefined) return known;
    const fresh = this.#names.fresh(wished);
    this.#shared.set(tensor, fresh);
    this.initializers.set(fresh, tensor);
    return fresh;
  }
}

/** Of the functions that were written out those that some other function still calls. */
function withoutUncalled(
  graph: Graph,
  functions: Model["functions"],
  wanted: ReadonlySet<LocalFunction>,
): Model["functions"] {
  const called = new Set<LocalFunction>();
  const open = [graph, ...[...functions.values()].filter((kept) => !wanted.has(kept)).map(({ body }) => body)];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const node of nodesIn(next)) {
      const found = functionOf(functions, node);
      if (found && !called.has(found)) {
        called.add(found);
        open.push(found.body);
      }
    }
  }
  return new Map([...functions].filter(([, kept]) => called.has(kept) || !wanted.has(kept)));
}

function reasonOf(error: unknown): string {
  if (error instanceof RecoupError && error.code === "onnx/unsupported") return error.message;
  throw error;
}

function limit(message: string, field: string): RecoupError {
  return new RecoupError("onnx/limit", `with its functions written out, ${message}`, { field });
}
