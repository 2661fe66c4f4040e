import type { Graph, Node } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { roundHalfEven } from "../math/round.js";
import { isFloatType } from "../tensor/element-type.js";
import { float32Values, int32Tensor, type Tensor } from "../tensor/tensor.js";
import { type OpenForm, unitOf } from "./operators-on-codes.js";

/** A node that was opened. */
export interface Opening {
  readonly original: Node;
  readonly form: OpenForm | undefined;
  /** The float operator. */
  readonly core: Node;
  readonly quantize: Node;
}

/**
 * The opposite of opening operators on codes, in a graph that was changed since.
 *
 * @param added the nodes that opening has added: those that nothing reads any more go
 */
export function closeOperators(graph: Graph, openings: readonly Opening[], added: ReadonlySet<Node>): Graph {
  const present = new Set(graph.nodes);
  const writer = new PatchWriter(createNameSource(graph));
  const removed: Node[] = [];
  for (const opening of openings) {
    if (!present.has(opening.quantize)) continue;
    const core = graph.producer(opening.quantize.inputs[0]);
    const isAlone =
      core !== undefined && graph.consumers(core.outputs[0]).length === 1 && !graph.isOutput(core.outputs[0]);
    const original = isAlone ? closedForm(graph, opening, core, added, writer) : undefined;
    if (core === undefined || original === undefined) continue;
    removed.push(core, opening.quantize);
    writer.add(original);
  }
  let closed = applyPatch(graph, writer.finish("close operators on codes", { remove: removed }));
  for (;;) {
    const dead = closed.nodes.filter((node) => added.has(node) && isUnread(closed, node));
    if (dead.length === 0) return closed;
    closed = applyPatch(closed, { label: "close operators on codes", remove: dead });
  }
}

function isUnread(graph: Graph, node: Node): boolean {
  return node.outputs.every((output) => graph.consumers(output).length === 0 && !graph.isOutput(output));
}

/** The operator as it was, with the bias that its float form has now; undefined where more has changed. */
function closedForm(
  graph: Graph,
  { original, form, core: before }: Opening,
  core: Node,
  added: ReadonlySet<Node>,
  writer: PatchWriter,
): Node | undefined {
  if (core === before) return original;
  const count = form?.operands.length ?? 0;
  const isSame = core.opType === before.opType && core.attributes === before.attributes;
  const readsSame = before.inputs.slice(0, count).every((input, i) => core.inputs[i] === input);
  // Scales may have been fitted again since.
  const biasUnit = form && unitOf(graph, original, form);
  if (form?.bias === undefined || biasUnit === undefined || !isSame || !readsSame || core.inputs.length > 3)
    return undefined;
  const bias = core.inputs[count] ?? "";
  const dequantize = graph.producer(bias);
  const inputs = [...original.inputs];
  while (inputs.length <= form.bias) inputs.push("");
  if (isOperator(dequantize, "DequantizeLinear") && (added.has(dequantize) || hasUnit(graph, dequantize, biasUnit))) {
    inputs[form.bias] = dequantize.inputs[0];
    return withInputs(original, inputs);
  }
  const tensor = graph.constant(bias);
  if (tensor === undefined || !isFloatType(tensor.type)) return undefined;
  const units = float32Values(biasUnit);
  const codes = Int32Array.from(float32Values(tensor), (value, i) =>
    roundHalfEven(value / units[units.length === 1 ? 0 : i]),
  );
  inputs[form.bias] = writer.constant(`${bias}_quantized`, int32Tensor([codes.length], codes));
  return withInputs(original, inputs);
}

function hasUnit(graph: Graph, dequantize: Node, unit: Tensor): boolean {
  const scale = graph.constant(dequantize.inputs[1]);
  if (scale === undefined || !isFloatType(scale.type)) return false;
  const [a, b] = [float32Values(scale), float32Values(unit)];
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
