import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { floatAttribute, intAttribute, isOperator, isStandard, labelOf, withInputs } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { roundHalfEven } from "../math/round.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount, isSameShape } from "../tensor/shape.js";
import { float32Tensor, float32Values, int32Tensor, type Tensor } from "../tensor/tensor.js";

/** Where codes, their scale and their zero point stand among the inputs of an operator. */
type Place = readonly [codes: number, scale: number, zeroPoint: number];

/** An operator on codes as the float operator between DequantizeLinear and QuantizeLinear. */
interface OpenForm {
  readonly opType: string;
  readonly operands: readonly Place[];
  /** Scale and zero point of the result. */
  readonly result: readonly [scale: number, zeroPoint: number];
  /** An int32 input in units of the product of the first two operands' scales. */
  readonly bias?: number;
  /** Axis of a weight along which its scales lie, where it has several. */
  readonly channelAxis?: (rank: number) => number;
  /** The float operator's attributes, where they differ. */
  readonly attributes?: Node["attributes"];
}

/** A node that was opened. */
interface Opening {
  readonly original: Node;
  readonly form: OpenForm | undefined;
  /** The float operator. */
  readonly core: Node;
  readonly quantize: Node;
}

/** An operator on codes that stays closed: what it computes cannot be looked at in numbers. */
export interface ClosedOperator {
  readonly label: string;
  readonly reason: string;
}

export interface OpenedGraph {
  readonly graph: Graph;
  readonly closed: readonly ClosedOperator[];
  /**
   * The opposite, for a graph that was changed since: operators whose surroundings stayed as they were become what they
   * were, with their biases changed; others stay open, which runtimes join again when they load the model.
   */
  close(graph: Graph): Graph;
}

/** Operators whose outputs are elements of their first input: on codes they have the grid of the input. */
const movingOperators: readonly string[] = [
  ...[
    "MaxPool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Split",
    "Expand",
    "Tile",
  ],
  ...["DepthToSpace", "SpaceToDepth", "Resize"],
];

/**
 * Writes operators on codes (`QLinearConv`, onnxruntime's `QLinearAdd` and the like, `MaxPool` on uint8) as the float
 * operators that they stand for, each between DequantizeLinear and QuantizeLinear: the same numbers but for the rounding
 * of integer kernels, and every value in between can be looked at and corrected.
 */
export function openOperators(graph: Graph): OpenedGraph {
  return new Opener(graph).open();
}

class Opener {
  readonly #graph: Graph;
  readonly #writer: PatchWriter;
  readonly #openings: Opening[] = [];
  readonly #closed: ClosedOperator[] = [];
  /** Scale and zero point of codes. */
  readonly #grids = new Map<ValueName, readonly [ValueName, ValueName]>();
  readonly #dequantized = new Map<string, ValueName>();

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#writer = new PatchWriter(createNameSource(graph));
  }

  open(): OpenedGraph {
    for (const node of this.#graph.nodes) {
      if (isOperator(node, "QuantizeLinear")) {
        this.#grids.set(node.outputs[0], [node.inputs[1], node.inputs[2] ?? ""]);
        continue;
      }
      const form = openForm(node);
      if (form !== undefined) this.#openProduct(node, form);
      else this.#openMove(node);
    }
    const remove = this.#openings.map(({ original }) => original);
    const graph = applyPatch(this.#graph, this.#writer.finish("open operators on codes", { remove }));
    const added = new Set(this.#writer.nodes);
    const openings = this.#openings;
    return { graph, closed: this.#closed, close: (changed) => closeOperators(changed, openings, added) };
  }

  #openProduct(node: Node, form: OpenForm): void {
    const reason = this.#obstacle(node, form);
    const [scale, zeroPoint = ""] = form.result.map((input) => node.inputs[input] ?? "");
    this.#grids.set(node.outputs[0], [scale, zeroPoint]);
    if (reason !== undefined) {
      this.#closed.push({ label: labelOf(node), reason });
      return;
    }
    const operands = form.operands.map((place, i) => this.#operand(node, place, form, i));
    const biasName = form.bias === undefined ? "" : (node.inputs[form.bias] ?? "");
    const biasUnit = form.bias === undefined ? undefined : unitOf(this.#graph, node, form);
    if (biasName !== "" && biasUnit !== undefined) operands.push(this.#bias(biasName, biasUnit));
    const attributes = form.attributes ?? node.attributes;
    this.#write(node, form, form.opType, operands, attributes, [scale, zeroPoint]);
  }

  /** What only moves codes moves numbers, and leaves them on their grid. */
  #openMove(node: Node): void {
    const isMoving = isOperator(node, ...movingOperators);
    if (!isMoving && !isOperator(node, "Concat")) return;
    const moved = isMoving ? node.inputs.slice(0, 1) : node.inputs;
    const grids = moved.map((value) => this.#grids.get(value));
    const [grid] = grids;
    if (grid === undefined || !grids.every((other) => other !== undefined && this.#isSameGrid(grid, other))) return;
    for (const output of node.outputs) this.#grids.set(output, grid);
    // The indices of the largest elements are no numbers, and several results have no common grid node.
    if (node.outputs.filter((output) => output !== "").length !== 1) {
      this.#closed.push({ label: labelOf(node), reason: "it has several results" });
      return;
    }
    if (this.#graph.constant(grid[0]) === undefined) return;
    const values = moved.map((value) => this.#dequantize(value, grid, undefined));
    this.#write(node, undefined, node.opType, [...values, ...node.inputs.slice(values.length)], node.attributes, grid);
  }

  #write(
    original: Node,
    form: OpenForm | undefined,
    opType: string,
    inputs: readonly ValueName[],
    attributes: Node["attributes"],
    grid: readonly [ValueName, ValueName],
  ): void {
    const [codes] = original.outputs;
    const value = this.#writer.names.fresh(`${codes}_value`);
    const core: Node = { name: original.name, opType, domain: "", inputs, outputs: [value], attributes };
    this.#writer.add(core);
    const parameters = grid[1] === "" ? [grid[0]] : grid;
    this.#writer.nodeTo(codes, "QuantizeLinear", [value, ...parameters]);
    const quantize = this.#writer.nodes[this.#writer.nodes.length - 1];
    this.#openings.push({ original, form, core, quantize });
  }

  #operand(node: Node, [codes, scale, zeroPoint]: Place, form: OpenForm, index: number): ValueName {
    const grid = [node.inputs[scale], node.inputs[zeroPoint] ?? ""] as const;
    const tensor = this.#graph.constant(node.inputs[codes]);
    const isSeveral = elementCount(this.#graph.constant(grid[0])?.shape ?? []) > 1;
    const axis = index === 1 && isSeveral && tensor ? form.channelAxis?.(tensor.shape.length) : undefined;
    return this.#dequantize(node.inputs[codes], grid, axis);
  }

  #dequantize(
    codes: ValueName,
    [scale, zeroPoint]: readonly [ValueName, ValueName],
    axis: number | undefined,
  ): ValueName {
    const key = JSON.stringify([codes, scale, zeroPoint]);
    const known = this.#dequantized.get(key);
    if (known !== undefined) return known;
    const inputs = zeroPoint === "" ? [codes, scale] : [codes, scale, zeroPoint];
    const written = this.#writer.node(
      "DequantizeLinear",
      inputs,
      `${codes}_dequantized`,
      axis === undefined ? {} : { axis },
    );
    this.#dequantized.set(key, written);
    return written;
  }

  #bias(codes: ValueName, unit: Tensor): ValueName {
    const scale = this.#writer.constant(`${codes}_unit`, unit);
    return this.#writer.node("DequantizeLinear", [codes, scale], `${codes}_dequantized`, { axis: 0 });
  }

  #obstacle(node: Node, form: OpenForm): string | undefined {
    const scales = [...form.operands.map(([, scale]) => scale), form.result[0]].map(
      (input) => node.inputs[input] ?? "",
    );
    if (!scales.every((name) => name !== "" && this.#graph.constant(name) !== undefined)) {
      return "its scales are no constants, or its result is no code";
    }
    if (intAttribute(node, "channels_last", 0) !== 0) return "its channels stand last";
    const bias = form.bias === undefined ? "" : (node.inputs[form.bias] ?? "");
    if (bias !== "" && this.#graph.constant(bias)?.type !== "int32") return "its bias is no constant of int32";
    return undefined;
  }

  #isSameGrid(a: readonly [ValueName, ValueName], b: readonly [ValueName, ValueName]): boolean {
    return a.every((name, i) => name === b[i] || isSameTensor(this.#graph.constant(name), this.#graph.constant(b[i])));
  }
}

function openForm(node: Node): OpenForm | undefined {
  const pair: readonly Place[] = [
    [0, 1, 2],
    [3, 4, 5],
  ];
  if (isStandard(node)) {
    if (node.opType === "QLinearConv") {
      return { opType: "Conv", operands: pair, result: [6, 7], bias: 8, channelAxis: () => 0 };
    }
    if (node.opType === "QLinearMatMul") {
      return { opType: "MatMul", operands: pair, result: [6, 7], channelAxis: (rank) => rank - 1 };
    }
    return undefined;
  }
  if (node.domain !== "com.microsoft") return undefined;
  const single: readonly Place[] = [[0, 1, 2]];
  switch (node.opType) {
    case "QGemm": {
      // The unit of its bias holds alpha; whoever writes the operator writes 1.
      if (floatAttribute(node, "alpha", 1) !== 1 || (node.inputs[7] ?? "") === "") return undefined;
      const channelAxis = () => (intAttribute(node, "transB", 0) === 1 ? 0 : 1);
      return { opType: "Gemm", operands: pair, result: [7, 8], bias: 6, channelAxis };
    }
    case "QLinearAdd":
    case "QLinearMul":
      return { opType: node.opType.slice("QLinear".length), operands: pair, result: [6, 7] };
    case "QLinearSigmoid":
    case "QLinearLeakyRelu":
    case "QLinearAveragePool":
    case "QLinearGlobalAveragePool":
    case "QLinearSoftmax": {
      const attributes = new Map([...node.attributes].filter(([key]) => key !== "opset" && key !== "channels_last"));
      return { opType: node.opType.slice("QLinear".length), operands: single, result: [3, 4], attributes };
    }
    case "QLinearConcat": {
      const count = Math.floor((node.inputs.length - 2) / 3);
      const operands = Array.from({ length: count }, (_, i): Place => [2 + 3 * i, 3 + 3 * i, 4 + 3 * i]);
      return { opType: "Concat", operands, result: [0, 1] };
    }
    default:
      return undefined;
  }
}

/** Input scale times weight scale, for each channel or for all. */
function unitOf(graph: Graph, node: Node, { operands }: OpenForm): Tensor | undefined {
  const [input, weight] = operands.map(([, scale]) => graph.constant(node.inputs[scale]));
  if (input === undefined || weight === undefined || !isFloatType(input.type) || !isFloatType(weight.type))
    return undefined;
  const [factor] = float32Values(input);
  const values = float32Values(weight).map((scale) => scale * factor);
  return float32Tensor(values.length === 1 ? [] : [values.length], values);
}

function closeOperators(graph: Graph, openings: readonly Opening[], added: ReadonlySet<Node>): Graph {
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

function isSameTensor(a: Tensor | undefined, b: Tensor | undefined): boolean {
  if (a === undefined || b === undefined || a.type !== b.type || !isSameShape(a.shape, b.shape)) return false;
  const [left, right] = [a.bytes(), b.bytes()];
  return left.every((byte, i) => byte === right[i]);
}
