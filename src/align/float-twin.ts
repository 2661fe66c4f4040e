import { nodesBetween } from "../graph/extract.js";
import { buildGraph, type Graph, type Node, type ValueName } from "../graph/graph.js";
import { createNameSource, type NameSource } from "../graph/names.js";
import { isOperator, makeNode, onlyConsumer, withInputs } from "../graph/node.js";
import { renameReads } from "../graph/rename.js";
import { dequantizeBlocks, dequantizeCodes, dequantizedConstant } from "../operators/dequantize.js";
import { selectedInputs } from "../operators/selecting.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * The float network that a quantized one stands for: activations are not rounded, weights are what their codes stand for.
 * Values keep their names; a value on a grid has the name that it has before it is rounded. It is there to be cleaned and
 * held against the original, operator by operator.
 *
 * @param graph with its operators on codes opened
 */
export function floatTwin(graph: Graph): Graph {
  return new TwinWriter(graph).write();
}

class TwinWriter {
  readonly #graph: Graph;
  readonly #names: NameSource;
  readonly #nodes: Node[] = [];
  readonly #constants = new Map<ValueName, Tensor>();
  /** Which value stands for the numbers of some dequantized codes. */
  readonly #standIns = new Map<ValueName, ValueName>();
  readonly #replaced = new Set<Node>();

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#names = createNameSource(graph);
  }

  write(): Graph {
    for (const node of this.#graph.nodes) {
      if (isOperator(node, "DequantizeLinear")) {
        const [numbers] = node.outputs;
        const value = this.#numbersOf(node.inputs[0], node, numbers);
        if (value === undefined) continue;
        if (value !== numbers) this.#standIns.set(numbers, value);
        this.#replaced.add(node);
      } else {
        const product = this.#productOf(node);
        if (product !== undefined) this.#nodes.push(product);
      }
    }
    return this.#build();
  }

  #build(): Graph {
    const { outputs } = this.#graph;
    // An output keeps its name.
    const kept = outputs.flatMap(({ name }) => {
      const source = this.#standIns.get(name);
      return source === undefined ? [] : [makeNode("Identity", [this.#resolve(source)], [name], {}, "")];
    });
    const reads = new Map([...this.#standIns.keys()].map((value) => [value, this.#resolve(value)] as const));
    const nodes = [...this.#graph.nodes.filter((node) => !this.#replaced.has(node)), ...this.#nodes];
    const twin = [...nodes.map((node) => renameReads(node, reads)), ...kept];
    const initializers = new Map([...this.#graph.initializers, ...this.#constants]);
    const whole = buildGraph({ ...this.#graph, nodes: twin, initializers, valueInfo: new Map() });
    const live = nodesBetween(
      whole,
      new Set(),
      outputs.map(({ name }) => name),
    );
    return buildGraph({ ...whole, nodes: whole.nodes.filter((node) => live.has(node)) });
  }

  #resolve(value: ValueName): ValueName {
    const next = this.#standIns.get(value);
    return next === undefined ? value : this.#resolve(next);
  }

  /**
   * The value that holds the numbers of codes: what was rounded to them, or a constant.
   *
   * @param name what it is called where a node has to be written for it
   */
  #numbersOf(codes: ValueName, dequantize: Node, name: ValueName): ValueName | undefined {
    const tensor = this.#graph.constant(codes);
    if (tensor !== undefined) return this.#constant(codes, dequantizedConstant(this.#graph, dequantize, tensor));
    const producer = this.#graph.producer(codes);
    if (producer === undefined) return undefined;
    if (isOperator(producer, "QuantizeLinear", "DynamicQuantizeLinear")) {
      return codes === producer.outputs[0] ? producer.inputs[0] : undefined;
    }
    if (isOperator(producer, "Constant")) {
      const value = producer.attributes.get("value");
      const known = value?.kind === "tensor" ? dequantizedConstant(this.#graph, dequantize, value.value) : undefined;
      return this.#constant(codes, known);
    }
    // Narrower grids within 8 bits hold their codes by limits.
    if (isOperator(producer, "Clip")) return this.#numbersOf(producer.inputs[0], dequantize, name);
    // A table of codes that is looked up in.
    const isPlain = producer.outputs.filter((output) => output !== "").length === 1;
    if (!isPlain || selectedInputs(producer, this.#graph)?.length !== 1) return undefined;
    const moved = this.#numbersOf(producer.inputs[0], dequantize, this.#names.fresh(`${name}_moved`));
    if (moved === undefined) return undefined;
    this.#nodes.push({ ...withInputs(producer, [moved, ...producer.inputs.slice(1)]), name: "", outputs: [name] });
    return name;
  }

  #constant(base: ValueName, tensor: Tensor | undefined): ValueName | undefined {
    if (tensor === undefined) return undefined;
    const name = this.#names.fresh(`${base}_value`);
    this.#constants.set(name, tensor);
    return name;
  }

  /** A product of numbers with a weight, in the place of one of codes; it takes the name of what comes out as numbers. */
  #productOf(node: Node): Node | undefined {
    if (node.domain === "com.microsoft" && node.opType === "MatMulNBits") {
      const weight = this.#constant(node.inputs[1], dequantizeBlocks(this.#graph, node));
      const bias = node.inputs[5] ?? "";
      if (weight === undefined || bias !== "") return undefined;
      this.#replaced.add(node);
      return { ...makeNode("MatMul", [node.inputs[0], weight], node.outputs), name: node.name };
    }
    if (isOperator(node, "MatMulInteger", "ConvInteger")) return this.#dynamicProduct(node);
    if (node.domain === "com.microsoft" && node.opType === "DynamicQuantizeMatMul") {
      const [data, codes, scale, zeroPoint = "", bias = ""] = node.inputs;
      return this.#joinedProduct(node, data, codes, scale, zeroPoint, bias);
    }
    if (node.domain === "com.microsoft" && node.opType === "MatMulIntegerToFloat") {
      const [codes, weight, , scale, , zeroPoint = "", bias = ""] = node.inputs;
      const quantize = this.#graph.producer(codes);
      if (!isOperator(quantize, "DynamicQuantizeLinear", "QuantizeLinear")) return undefined;
      return this.#joinedProduct(node, quantize.inputs[0], weight, scale, zeroPoint, bias);
    }
    return undefined;
  }

  #joinedProduct(
    node: Node,
    data: ValueName,
    codes: ValueName,
    scale: ValueName,
    zeroPoint: ValueName,
    bias: ValueName,
  ): Node | undefined {
    const weight = bias === "" ? this.#weight(codes, scale, zeroPoint, -1) : undefined;
    if (weight === undefined) return undefined;
    this.#replaced.add(node);
    return { ...makeNode("MatMul", [data, weight], node.outputs), name: node.name };
  }

  /** `DynamicQuantizeLinear`, the product of codes, `Cast`, and a `Mul` by both scales, as onnxruntime writes it. */
  #dynamicProduct(node: Node): Node | undefined {
    const quantize = this.#graph.producer(node.inputs[0]);
    const cast = onlyConsumer(this.#graph, node.outputs[0]);
    if (!isOperator(quantize, "DynamicQuantizeLinear") || !isOperator(cast, "Cast")) return undefined;
    const product = onlyConsumer(this.#graph, cast.outputs[0]);
    if (!isOperator(product, "Mul")) return undefined;
    const scales = this.#graph.producer(product.inputs.find((input) => input !== cast.outputs[0]) ?? "");
    const own = isOperator(scales, "Mul") ? scales.inputs.find((input) => input !== quantize.outputs[1]) : undefined;
    if (own === undefined || scales?.inputs.includes(quantize.outputs[1]) !== true) return undefined;
    const isMatrix = isOperator(node, "MatMulInteger");
    const weight = this.#weight(node.inputs[1], own, node.inputs[3] ?? "", isMatrix ? -1 : 0);
    if (weight === undefined) return undefined;
    for (const replaced of [node, cast, product]) this.#replaced.add(replaced);
    const inputs = [quantize.inputs[0], weight];
    const twin = { ...makeNode(isMatrix ? "MatMul" : "Conv", inputs, product.outputs), name: node.name };
    return isMatrix ? twin : { ...twin, attributes: node.attributes };
  }

  #weight(codes: ValueName, scale: ValueName, zeroPoint: ValueName, axis: number): ValueName | undefined {
    const [tensor, factors] = [this.#graph.constant(codes), this.#graph.constant(scale)];
    const zeros = this.#graph.constant(zeroPoint);
    if (tensor === undefined || factors === undefined || (zeroPoint !== "" && zeros === undefined)) return undefined;
    return this.#constant(codes, dequantizeCodes(tensor, { scale: factors, zeroPoint: zeros, axis }));
  }
}
