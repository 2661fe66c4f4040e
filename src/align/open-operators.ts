import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { intAttribute, isOperator, labelOf } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { elementCount, isSameShape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { closeOperators, type Opening } from "./close-operators.js";
import { movingOperators, type OpenForm, openForm, type Place, unitOf } from "./operators-on-codes.js";

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

function isSameTensor(a: Tensor | undefined, b: Tensor | undefined): boolean {
  if (a === undefined || b === undefined || a.type !== b.type || !isSameShape(a.shape, b.shape)) return false;
  const [left, right] = [a.bytes(), b.bytes()];
  return left.every((byte, i) => byte === right[i]);
}
