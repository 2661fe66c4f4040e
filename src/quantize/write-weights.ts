import type { Graph, Node, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter, type SharedConstants } from "../graph/patch-writer.js";
import type { Layer } from "../operators/layer.js";
import { permutationOf } from "../operators/weight.js";
import { elementCodeOf } from "../tensor/element-code.js";
import type { ElementType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor, int8Tensor, int64Tensor } from "../tensor/tensor.js";
import { codesShape, isGrouped, type StoredWeight, scaleShape } from "./stored-weight.js";
import { hasZeroPoints, writeCodes } from "./write-codes.js";
import { writeReshape, writeRowsInShape } from "./write-shape.js";
import { type CodeType, codeTypeOf, writeTypedWeight } from "./write-typed-codes.js";

/** A layer and whether it runs on an integer kernel. */
export interface WeightReader {
  readonly layer: Layer;
  readonly isInteger: boolean;
}

/**
 * Puts the codes of a weight in the place of the weight, with the nodes that its readers need: DequantizeLinear for
 * integer kernels, which onnxruntime fuses; Cast and Mul for layers in float, which it folds into a float constant when
 * the session is created; for tables, Gather on the codes.
 */
export function writeWeight(
  graph: Graph,
  stored: StoredWeight,
  readers: readonly WeightReader[],
  names: NameSource,
  shared: SharedConstants,
): GraphPatch {
  const isPlain = readers.every(({ layer, isInteger }) => !isInteger && layer.transpose === undefined);
  const writer = new WeightWriter(graph, stored, codeTypeOf(stored, isPlain), new PatchWriter(names, shared));
  for (const { layer, isInteger } of readers) writer.rewire(layer, isInteger);
  writer.removeTransposes(readers.map(({ layer }) => layer));
  return writer.finish();
}

class WeightWriter {
  readonly #removed: Node[] = [];
  readonly #writer: PatchWriter;
  readonly #graph: Graph;
  readonly #stored: StoredWeight;
  /** What the layers compute in. */
  readonly #elementType: ElementType;
  /** What holds the codes where they are stored in ONNX's own types. */
  readonly #codeType: CodeType;
  readonly #forms = new Map<string, ValueName>();

  constructor(graph: Graph, stored: StoredWeight, codeType: CodeType, writer: PatchWriter) {
    this.#graph = graph;
    this.#stored = stored;
    this.#writer = writer;
    this.#elementType = graph.initializers.get(stored.weight)?.type ?? "float32";
    this.#codeType = codeType;
  }

  /** Lets the layer's node read the weight from its codes. */
  rewire(layer: Layer, isInteger: boolean): void {
    const node = this.#takeNode(layer);
    if (isOperator(node, "Gather") && !isGrouped(this.#stored)) {
      this.#writeLookup(node);
      return;
    }
    const weight = isInteger ? this.#integerForm(layer.transpose) : this.#floatForm(layer.transpose);
    const inputs = node.inputs.map((input, i) => (i === layer.weightInput ? weight : input));
    this.#writer.add(withInputs(node, inputs));
  }

  /** A Transpose of the float weight that has no reader left would keep that weight in the file. */
  removeTransposes(layers: readonly Layer[]): void {
    for (const transpose of new Set(layers.map((layer) => layer.transpose))) {
      if (transpose === undefined || this.#graph.isOutput(transpose.outputs[0])) continue;
      const [output] = transpose.outputs;
      const isRead =
        this.#graph.consumers(output).some((reader) => !this.#removed.includes(reader)) ||
        // A layer may read its weight a second time, as a Gemm whose bias it is too.
        this.#writer.nodes.some((node) => node.inputs.includes(output));
      if (!isRead) this.#removed.push(transpose);
    }
  }

  finish(): GraphPatch {
    return this.#writer.finish(`quantize ${this.#stored.weight}`, { remove: this.#removed });
  }

  /** The layer's node as earlier patches or earlier layers of the same node left it: its outputs tell. */
  #takeNode(layer: Layer): Node {
    const output = layer.node.outputs.find((name) => name !== "") ?? "";
    const own = this.#writer.nodes.findIndex((node) => node.outputs.includes(output));
    if (own >= 0) return this.#writer.nodes.splice(own, 1)[0];
    const node = this.#graph.producer(output);
    if (!node) throw new Error(`${output} lost its node`);
    this.#removed.push(node);
    return node;
  }

  /** The int8 codes, written once for all readers. */
  #codes(): ValueName {
    return this.#once("codes", () => writeCodes(this.#writer, this.#stored, this.#codeType));
  }

  #integerForm(transpose: Node | undefined): ValueName {
    // DequantizeLinear of a small type is the same for both kinds of readers.
    if (this.#stored.storage === "onnx" && transpose === undefined) return this.#float32Form();
    return this.#once(`integer ${transpose?.outputs[0] ?? ""}`, () => {
      const { weight, rows, channelAxis, shape } = this.#stored;
      const base = transpose?.outputs[0] ?? weight;
      const codes = this.#codes();
      const source = transpose
        ? this.#writer.node("Transpose", [codes], `${base}_quantized`, transpose.attributes)
        : codes;
      const perTensor = rows.scales.length === 1;
      const parameterShape = perTensor ? [] : [rows.scales.length];
      const scale = this.#writer.constant(`${base}_scale`, float32Tensor(parameterShape, rows.scales));
      const zeroPoint = this.#writer.sharedConstant(`zeros_int8_${parameterShape.join("x")}`, () =>
        int8Tensor(parameterShape, new Int8Array(rows.scales.length)),
      );
      const axis = transpose ? permutationOf(transpose, shape.length).indexOf(channelAxis) : channelAxis;
      const inputs = [source, scale, zeroPoint];
      return this.#writer.node("DequantizeLinear", inputs, `${base}_dequantized`, perTensor ? {} : { axis });
    });
  }

  #floatForm(transpose: Node | undefined): ValueName {
    const { weight, shape } = this.#stored;
    const whole = this.#once("float", () => {
      const value = this.#float32Form();
      if (this.#elementType === "float32") return value;
      return this.#writer.node("Cast", [value], `${weight}_dequantized`, { to: elementCodeOf(this.#elementType) });
    });
    if (!transpose) return whole;
    const name = transpose.outputs[0];
    // onnxruntime 1.30 dies of a Transpose without `perm` behind a DequantizeLinear with a scale per channel.
    const perm = permutationOf(transpose, shape.length);
    return this.#once(`float ${name}`, () => this.#writer.node("Transpose", [whole], `${name}_dequantized`, { perm }));
  }

  /** The weight in its own shape. */
  #float32Form(): ValueName {
    const suffix = this.#elementType === "float32" ? "dequantized" : "float32";
    return this.#once("float32", () => this.#writeFloat32(`${this.#stored.weight}_${suffix}`));
  }

  #writeFloat32(name: ValueName): ValueName {
    const { weight, storage, shape, channelAxis } = this.#stored;
    if (storage === "onnx") return writeTypedWeight(this.#writer, this.#stored, this.#codeType, name);
    if (!isGrouped(this.#stored)) return this.#writeScaled(name);
    const [rowCount, groups, groupSize] = codesShape(this.#stored);
    const columns = elementCount(shape) / shape[channelAxis];
    const scaled = this.#writeScaled(`${weight}_scaled`);
    const padded = writeReshape(this.#writer, scaled, [rowCount, groups * groupSize], `${weight}_matrix`);
    if (columns === groups * groupSize) return writeRowsInShape(this.#writer, this.#stored, padded, name);
    const limits = [0, columns, 1].map((limit) =>
      this.#writer.sharedConstant(`integer_${limit}`, () => int64Tensor([1], [limit])),
    );
    const matrix = this.#writer.node("Slice", [padded, ...limits], `${weight}_unpadded`);
    return writeRowsInShape(this.#writer, this.#stored, matrix, name);
  }

  /** (code - zeroPoint) · scale, in the shape of the codes. */
  #writeScaled(name: ValueName): ValueName {
    const { weight, rows } = this.#stored;
    const shape = scaleShape(this.#stored);
    let value = this.#writer.node("Cast", [this.#codes()], `${weight}_float`, { to: elementCodeOf("float32") });
    if (hasZeroPoints(this.#stored)) {
      const zeroPoint = this.#writer.constant(`${weight}_zero_point`, float32Tensor(shape, rows.zeroPoints));
      value = this.#writer.node("Sub", [value, zeroPoint], `${weight}_centred`);
    }
    const scale = this.#writer.constant(`${weight}_scale`, float32Tensor(shape, rows.scales));
    return this.#writer.node("Mul", [value, scale], name);
  }

  /** Looks up codes and scales of rows, so that the table is never held in float. */
  #writeLookup(node: Node): void {
    const { weight, rows } = this.#stored;
    const [output] = node.outputs;
    const perTensor = rows.scales.length === 1;
    const lookUp = (values: ArrayLike<number>, what: string): ValueName => {
      const table = float32Tensor(perTensor ? [] : [values.length, 1], values);
      const name = this.#writer.constant(`${weight}_row_${what}`, table);
      return perTensor ? name : this.#writer.node("Gather", [name, node.inputs[1]], `${output}_${what}`);
    };
    const looked = this.#writer.node("Gather", [this.#codes(), node.inputs[1]], `${output}_quantized`);
    let value = this.#writer.node("Cast", [looked], `${output}_float`, { to: elementCodeOf("float32") });
    if (hasZeroPoints(this.#stored)) {
      value = this.#writer.node("Sub", [value, lookUp(rows.zeroPoints, "zero_point")], `${output}_centred`);
    }
    const scale = lookUp(rows.scales, "scale");
    if (this.#elementType === "float32") {
      this.#writer.nodeTo(output, "Mul", [value, scale]);
      return;
    }
    const scaled = this.#writer.node("Mul", [value, scale], `${output}_scaled`);
    this.#writer.nodeTo(output, "Cast", [scaled], { to: elementCodeOf(this.#elementType) });
  }

  #once(key: string, write: () => ValueName): ValueName {
    const known = this.#forms.get(key);
    if (known !== undefined) return known;
    const name = write();
    this.#forms.set(key, name);
    return name;
  }
}
