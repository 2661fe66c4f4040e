import { fixedValues } from "../graph/fixed-values.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import type { Range } from "../math/distribution.js";
import { selectedInputs } from "../operators/selecting.js";
import type { ActivationSite } from "../quantize/choose-activations.js";
import type { ActivationFormat } from "../quantize/format.js";
import type { ActivationGroup } from "../quantize/group-activations.js";
import { integerValues } from "../tensor/tensor.js";
import { gridLimits } from "./write-limits.js";

/** Values on one grid of a network that another tool quantized. */
export interface ForeignGroup extends ActivationGroup {
  /** Initializers that hold the scale, and those that hold the zero point. */
  readonly scales: readonly ValueName[];
  readonly zeroPoints: readonly ValueName[];
  /** What the nodes that round to the grid write. */
  readonly codes: readonly ValueName[];
  /** What is rounded, by the names of the values in the float network: an output has its name behind its grid. */
  readonly sources: ReadonlyMap<ValueName, ValueName>;
  /** Whether no layer follows: then its largest values are what the network says. */
  readonly isLast: boolean;
}

export interface FoundGrids {
  readonly groups: readonly ForeignGroup[];
  readonly left: readonly { readonly label: string; readonly reason: string }[];
}

/**
 * The grids of the activations of a network, as QuantizeLinear nodes write them: those that share an initializer, or codes
 * that are read with another one, are one grid.
 *
 * @param float in which values have the same names
 * @param aligned the values that both networks have
 * @param range estimator of the new range
 */
export function findGrids(graph: Graph, float: Graph, aligned: ReadonlySet<ValueName>, range: string): FoundGrids {
  const fixed = fixedValues(graph);
  const isFixed = (value: ValueName) => fixed.has(value) || graph.constant(value) !== undefined;
  const quantizers = graph.nodes.filter((node) => isOperator(node, "QuantizeLinear") && !isFixed(node.inputs[0]));
  const groups: ForeignGroup[] = [];
  const left: { label: string; reason: string }[] = [];
  for (const members of connected(graph, quantizers)) {
    const reason = obstacle(graph, members, aligned);
    if (reason === undefined) groups.push(groupOf(graph, float, members, aligned, range));
    else left.push({ label: members.nodes[0].inputs[0], reason });
  }
  return { groups, left };
}

interface Members {
  readonly nodes: Node[];
  readonly parameters: Set<ValueName>;
}

function connected(graph: Graph, quantizers: readonly Node[]): readonly Members[] {
  const byParameter = new Map<ValueName, Members>();
  for (const node of quantizers) {
    const readers = graph.consumers(node.outputs[0]).filter((reader) => isOperator(reader, "DequantizeLinear"));
    const parameters = new Set(
      [node, ...readers].flatMap(({ inputs }) => inputs.slice(1)).filter((name) => name !== ""),
    );
    const known = [...new Set([...parameters].flatMap((name) => byParameter.get(name) ?? []))];
    const merged: Members = {
      nodes: [...known.flatMap(({ nodes }) => nodes), node],
      parameters: new Set([...known.flatMap((one) => [...one.parameters]), ...parameters]),
    };
    for (const name of merged.parameters) byParameter.set(name, merged);
  }
  return [...new Set(byParameter.values())];
}

function obstacle(graph: Graph, { nodes, parameters }: Members, aligned: ReadonlySet<ValueName>): string | undefined {
  const limits = nodes.map((node) => gridLimits(graph, node));
  const [first] = limits;
  if (first === undefined || limits.some((one) => one?.scale !== first.scale || one.low !== first.low)) {
    return "its grid is not one constant scale and zero point";
  }
  if (nodes.some((node) => graph.constant(node.inputs[2])?.type.endsWith("16"))) return "its grid has 16 bits";
  const codes = new Set(nodes.map((node) => node.outputs[0]));
  for (const parameter of parameters) {
    for (const reader of graph.consumers(parameter)) {
      const isOwn = nodes.includes(reader) || (isOperator(reader, "DequantizeLinear") && codes.has(reader.inputs[0]));
      if (!isOwn) return `something else reads ${parameter}`;
    }
  }
  const unknown = nodes.find((node) => !isMoved(graph, nodes, node) && siteOf(graph, node, aligned) === undefined);
  return unknown && `${unknown.inputs[0]} was not found in the float model`;
}

/**
 * The value of the float network at which the grid of a node is looked at: what it rounds, or what follows it where the
 * float network has that only, as an output or behind a normalization that was folded.
 */
function siteOf(graph: Graph, quantize: Node, aligned: ReadonlySet<ValueName>): ValueName | undefined {
  const [value] = quantize.inputs;
  if (aligned.has(value)) return value;
  const numbers = graph.consumers(quantize.outputs[0]).flatMap((reader) => reader.outputs);
  const next = numbers.flatMap((number) => graph.consumers(number).flatMap((reader) => reader.outputs));
  return [...numbers, ...next].find((output) => aligned.has(output));
}

/** Whether a node rounds what is on the grid already: elements of other values of the group. */
function isMoved(graph: Graph, nodes: readonly Node[], quantize: Node): boolean {
  const producer = graph.producer(quantize.inputs[0]);
  const codes = new Set(nodes.map((node) => node.outputs[0]));
  const selected = (producer && selectedInputs(producer, graph)) ?? [];
  return selected.length > 0 && selected.every((value) => codes.has(graph.producer(value)?.inputs[0] ?? ""));
}

function groupOf(
  graph: Graph,
  float: Graph,
  { nodes }: Members,
  aligned: ReadonlySet<ValueName>,
  range: string,
): ForeignGroup {
  const [first] = nodes;
  const zero = graph.constant(first.inputs[2]);
  const isSigned = zero?.type === "int8";
  const isCentred = zero !== undefined && isSigned && integerValues(zero)[0] === 0;
  const format: ActivationFormat = { bits: 8, symmetric: isCentred, range, rangeFrom: "quantized" };
  const isLast = nodes.some((node) => isBehindLayers(graph, node.inputs[0]));
  const readers = nodes.flatMap((node) =>
    graph.consumers(node.outputs[0]).filter((reader) => isOperator(reader, "DequantizeLinear")),
  );
  const sources = new Map(
    nodes.flatMap((node) => {
      const site = siteOf(graph, node, aligned);
      return site === undefined ? [] : [[site, node.inputs[0]] as const];
    }),
  );
  const sites = [...sources].map(([value, source]): ActivationSite => {
    const producer = value === source ? float.producer(value) : undefined;
    const selectedFrom = (producer && selectedInputs(producer, float)) ?? [];
    return { value, format, isIntegerOutput: false, selectedFrom, spacing: "uniform" };
  });
  const parametersAt = (input: number) => [...new Set([...nodes, ...readers].map((node) => node.inputs[input]))];
  const codes = nodes.map((node) => node.outputs[0]);
  return {
    sites,
    format,
    spacing: "uniform",
    range: rangeOf(graph, first),
    scales: parametersAt(1),
    zeroPoints: parametersAt(2),
    codes,
    sources,
    isLast,
  };
}

function rangeOf(graph: Graph, quantize: Node): Range {
  const limits = gridLimits(graph, quantize);
  if (limits === undefined) throw new Error(`${quantize.inputs[0]} has no grid`);
  return { low: limits.low, high: limits.high };
}

/** Whether a value comes to the outputs without going through another layer. */
function isBehindLayers(graph: Graph, value: ValueName): boolean {
  const open = [value];
  const seen = new Set<ValueName>(open);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const reader of graph.consumers(next)) {
      if (/Conv|Gemm|MatMul|LSTM|GRU|RNN|Attention|Einsum/.test(reader.opType)) return false;
      for (const output of reader.outputs) if (!seen.has(output)) open.push(output);
      for (const output of reader.outputs) seen.add(output);
    }
  }
  return true;
}
