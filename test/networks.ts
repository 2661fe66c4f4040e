import type { ValueName } from "../src/graph/graph.js";
import { makeNode } from "../src/graph/node.js";
import { int64Tensor, type Tensor, tensorFromBytes } from "../src/tensor/tensor.js";
import { makeBody, makeIf, makeTestModel, someFloats, type TestModel, yes } from "./models.js";

type Attributes = Parameters<typeof makeNode>[3];

/** Writes small networks: weights are the same in every run. */
export class NetworkWriter {
  readonly nodes: ReturnType<typeof makeNode>[] = [];
  readonly initializers: Record<string, Tensor> = {};
  #seed = 1;

  node(opType: string, inputs: readonly ValueName[], output: ValueName, attributes: Attributes = {}): ValueName {
    this.nodes.push(makeNode(opType, inputs, [output], attributes));
    return output;
  }

  constant(name: ValueName, tensor: Tensor): ValueName {
    this.initializers[name] = tensor;
    return name;
  }

  weight(name: ValueName, shape: readonly number[]): ValueName {
    return this.constant(name, someFloats(shape, this.#seed++));
  }

  /** A convolution that keeps the size of the picture, with bias. */
  conv(input: ValueName, output: ValueName, channels: readonly [to: number, from: number], kernel = 3): ValueName {
    const weight = this.weight(`${output}_w`, [...channels, kernel, kernel]);
    const bias = this.weight(`${output}_b`, [channels[0]]);
    const pad = (kernel - 1) / 2;
    return this.node("Conv", [input, weight, bias], output, { pads: [pad, pad, pad, pad] });
  }

  relu(input: ValueName): ValueName {
    return this.node("Relu", [input], `${input}_relu`);
  }

  /** A MatMul and the Add of its bias; the result has the given name. */
  linear(input: ValueName, output: ValueName, [from, to]: readonly [from: number, to: number]): ValueName {
    const product = this.node("MatMul", [input, this.weight(`${output}_w`, [from, to])], `${output}_product`);
    return this.node("Add", [product, this.weight(`${output}_b`, [to])], output);
  }

  normalize(input: ValueName, output: ValueName, size: number): ValueName {
    const parameters = [this.weight(`${output}_gain`, [size]), this.weight(`${output}_shift`, [size])];
    return this.node("LayerNormalization", [input, ...parameters], output, { axis: -1 });
  }

  /** Softmax of q · kᵀ, plus a mask where one is given, times v. */
  attend(name: string, [q, k, v]: readonly ValueName[], mask?: ValueName): ValueName {
    const turned = this.node("Transpose", [k], `${name}_turned`, { perm: [0, 2, 1] });
    let scores = this.node("MatMul", [q, turned], `${name}_scores`);
    if (mask !== undefined) scores = this.node("Add", [scores, mask], `${name}_masked`);
    return this.node("MatMul", [this.node("Softmax", [scores], `${name}_weights`, { axis: -1 }), v], `${name}_mixed`);
  }

  /** @param feeds with a batch of one; the size of the batch is left open */
  finish(feeds: Readonly<Record<string, Tensor>>, outputs: readonly ValueName[]): TestModel {
    const shapes = Object.fromEntries(
      Object.entries(feeds).map(([name, { shape }]) => [
        name,
        shape.map((size, axis) => (axis === 0 ? "batch" : size)),
      ]),
    );
    return makeTestModel({ feeds, shapes, nodes: this.nodes, initializers: this.initializers, outputs });
  }
}

const picture = someFloats([1, 2, 6, 6], 99);

export function makeChain(length = 4): TestModel {
  const net = new NetworkWriter();
  let value = "x";
  for (let i = 0; i < length; i++)
    value = net.relu(net.conv(value, `c${i}`, [i === 0 ? 3 : 4, i === 0 ? 2 : i === 1 ? 3 : 4]));
  return net.finish({ x: picture }, [value]);
}

/** A stem, residual blocks with an output named `block…`, and a classifier. */
export function makeResidualNet(blocks = 3): TestModel {
  const net = new NetworkWriter();
  let value = net.relu(net.conv("x", "stem", [4, 2]));
  for (let i = 0; i < blocks; i++) {
    const inner = net.conv(net.relu(net.conv(value, `a${i}`, [4, 4])), `b${i}`, [4, 4]);
    value = net.node("Relu", [net.node("Add", [inner, value], `sum${i}`)], `block${i}`);
  }
  const pooled = net.node("Flatten", [net.node("GlobalAveragePool", [value], "pooled")], "flat");
  net.node("Gemm", [pooled, net.weight("head_w", [5, 4]), net.weight("head_b", [5])], "y", { transB: 1 });
  return net.finish({ x: picture }, ["y"]);
}

/** Residual blocks of two products each, named `block…`, the first on what the network is fed, and a head. */
export function makeStemless(blocks = 3): TestModel {
  const net = new NetworkWriter();
  let value = "x";
  for (let i = 0; i < blocks; i++) {
    const wide = net.relu(net.linear(value, `wide${i}`, [4, 6]));
    value = net.node("Add", [net.linear(wide, `narrow${i}`, [6, 4]), value], `block${i}`);
  }
  net.linear(value, "y", [4, 3]);
  return net.finish({ x: someFloats([1, 4], 93) }, ["y"]);
}

/** A stem and two modules of parallel branches, joined by Concat. */
export function makeBranches(): TestModel {
  const net = new NetworkWriter();
  let value = net.relu(net.conv("x", "stem", [3, 2]));
  for (let i = 0; i < 2; i++) {
    const from = i === 0 ? 3 : 6;
    const one = net.relu(net.conv(value, `one${i}`, [2, from], 1));
    const two = net.relu(net.conv(net.relu(net.conv(value, `reduce${i}`, [2, from], 1)), `two${i}`, [2, 2]));
    const pooled = net.node("MaxPool", [value], `pool${i}`, { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
    const three = net.relu(net.conv(pooled, `three${i}`, [2, from], 1));
    value = net.node("Concat", [one, two, three], `joined${i}`, { axis: 1 });
  }
  net.conv(value, "y", [2, 6], 1);
  return net.finish({ x: picture }, ["y"]);
}

/** A stem and two fire modules: a layer that narrows, two branches that widen, joined by Concat. */
export function makeFires(): TestModel {
  const net = new NetworkWriter();
  let value = net.relu(net.conv("x", "stem", [6, 2]));
  for (let i = 0; i < 2; i++) {
    const narrow = net.relu(net.conv(value, `squeeze${i}`, [2, 6], 1));
    const branches = [1, 3].map((kernel) => net.relu(net.conv(narrow, `expand${i}_${kernel}`, [3, 2], kernel)));
    value = net.node("Concat", branches, `joined${i}`, { axis: 1 });
  }
  net.conv(value, "y", [2, 6], 1);
  return net.finish({ x: picture }, ["y"]);
}

/** Two transformer layers with residual streams named `attended…` and `layer…`. */
export function makeTransformer(): TestModel {
  const net = new NetworkWriter();
  let value = net.linear("x", "embedded", [6, 4]);
  for (let i = 0; i < 2; i++) {
    const normal = net.normalize(value, `norm_a${i}`, 4);
    const [q, k, v] = ["q", "k", "v"].map((name) => net.linear(normal, `${name}${i}`, [4, 4]));
    value = net.node("Add", [net.linear(net.attend(`mix${i}`, [q, k, v]), `proj${i}`, [4, 4]), value], `attended${i}`);
    const wide = net.linear(net.normalize(value, `norm_b${i}`, 4), `wide${i}`, [4, 8]);
    const gate = net.node("Mul", [wide, net.node("Sigmoid", [wide], `sigmoid${i}`)], `gate${i}`);
    value = net.node("Add", [net.linear(gate, `narrow${i}`, [8, 4]), value], `layer${i}`);
  }
  net.linear(value, "y", [4, 3]);
  return net.finish({ x: someFloats([1, 3, 6], 98) }, ["y"]);
}

/** Two decoder layers on token numbers, which share a mask and tables of rotary angles that stand before all layers. */
export function makeDecoder(): TestModel {
  const net = new NetworkWriter();
  const [width, words] = [4, 1100];
  const value0 = net.node("Gather", [net.weight("words", [words, width]), "ids"], "embedded");
  const length = net.node(
    "Gather",
    [net.node("Shape", ["ids"], "shape"), net.constant("one", int64Tensor([], [1]))],
    "length",
  );
  const zero = net.constant("zero", int64Tensor([], [0]));
  const positions = net.node("Range", [zero, length, "one"], "positions");
  const cos = net.node("Gather", [net.weight("cosines", [16, width]), positions], "cos");
  const sin = net.node("Gather", [net.weight("sines", [16, width]), positions], "sin");
  const mask = net.node("Gather", [net.weight("masks", [16, 1]), positions], "mask");
  const rotate = (input: ValueName) => {
    const turned = net.node("Mul", [net.node("Neg", [input], `${input}_neg`), sin], `${input}_sin`);
    return net.node("Add", [net.node("Mul", [input, cos], `${input}_cos`), turned], `${input}_rotated`);
  };
  let value = value0;
  for (let i = 0; i < 2; i++) {
    const normal = net.normalize(value, `norm_a${i}`, width);
    const [q, k, v] = ["q", "k", "v"].map((name) => net.linear(normal, `${name}${i}`, [width, width]));
    const mixed = net.attend(`mix${i}`, [rotate(q), rotate(k), v], mask);
    value = net.node("Add", [net.linear(mixed, `proj${i}`, [width, width]), value], `attended${i}`);
    const wide = net.relu(net.linear(net.normalize(value, `norm_b${i}`, width), `wide${i}`, [width, 8]));
    value = net.node("Add", [net.linear(wide, `narrow${i}`, [8, width]), value], `layer${i}`);
  }
  net.linear(value, "y", [width, 5]);
  return net.finish({ ids: int64Tensor([1, 4], [3, 1, 4, 1]) }, ["y"]);
}

/** A backbone of which three stages go into a neck of skips, and two outputs. */
export function makeNeck(): TestModel {
  const net = new NetworkWriter();
  const stages = ["x"];
  for (let i = 0; i < 3; i++) {
    const wide = net.relu(net.conv(stages[i], `stage${i}`, [3, i === 0 ? 2 : 3]));
    stages.push(net.relu(net.conv(wide, `deep${i}`, [3, 3])));
  }
  let value = stages[3];
  for (const i of [2, 1]) {
    const lateral = net.relu(net.conv(value, `lateral${i}`, [3, 3], 1));
    const joined = net.node("Concat", [lateral, stages[i]], `skip${i}`, { axis: 1 });
    value = net.relu(net.conv(joined, `merge${i}`, [3, 6]));
  }
  net.conv(value, "fine", [2, 3], 1);
  net.conv(net.node("Add", [net.conv(value, "down", [3, 3]), stages[3]], "up"), "coarse", [2, 3], 1);
  return net.finish({ x: picture }, ["fine", "coarse"]);
}

/** Two levels down, two up again, each with the skip of its level. */
export function makeUNet(): TestModel {
  const net = new NetworkWriter();
  const down = (input: ValueName, i: number) =>
    net.node("AveragePool", [input], `down${i}`, { kernel_shape: [2, 2], strides: [2, 2] });
  const up = (input: ValueName, i: number) =>
    net.node("Resize", [input, "", net.constant(`scales${i}`, someScales)], `up${i}`);
  const first = net.relu(net.conv("x", "first", [3, 2]));
  const second = net.relu(net.conv(down(first, 0), "second", [3, 3]));
  let bottom = down(second, 1);
  for (let i = 0; i < 12; i++) bottom = net.relu(net.conv(bottom, `bottom${i}`, [3, 3], 1));
  const left = net.relu(net.conv(net.node("Concat", [up(bottom, 1), second], "join1", { axis: 1 }), "left", [3, 6]));
  net.conv(net.node("Concat", [up(left, 0), first], "join0", { axis: 1 }), "y", [2, 6]);
  return net.finish({ x: someFloats([1, 2, 8, 8], 97) }, ["y"]);
}

/** Two inputs, one of them read late, and two outputs, one of them early. */
export function makeTwoInputs(): TestModel {
  const net = new NetworkWriter();
  const first = net.linear(net.relu(net.linear("x", "early", [6, 4])), "middle", [4, 4]);
  const second = net.linear(net.relu(first), "later", [4, 4]);
  net.linear(net.node("Add", [net.relu(second), net.linear("z", "side", [3, 4])], "met"), "y", [4, 2]);
  return net.finish({ x: someFloats([1, 6], 96), z: someFloats([1, 3], 95) }, ["middle", "y"]);
}

/** An If whose bodies read what stands far above it. */
export function makeConditional(): TestModel {
  const net = new NetworkWriter();
  const first = net.relu(net.linear("x", "first", [6, 4]));
  const second = net.relu(net.linear(first, "second", [4, 4]));
  const third = net.linear(second, "third", [4, 4]);
  const body = (output: string, opType: string) => makeBody([output], [makeNode(opType, [third, first], [output])]);
  net.constant("c", yes);
  net.nodes.push(makeIf("chosen", body("sum", "Add"), body("product", "Mul")));
  net.linear("chosen", "y", [4, 2]);
  return net.finish({ x: someFloats([1, 6], 94) }, ["y"]);
}

const someScales = tensorFromBytes("float32", [4], new Uint8Array(Float32Array.of(1, 1, 2, 2).buffer));

/** Every network above by a name. */
export const networks: readonly (readonly [about: string, make: () => TestModel])[] = [
  ["a chain", makeChain],
  ["a residual network", makeResidualNet],
  ["residual blocks without a stem", makeStemless],
  ["parallel branches", makeBranches],
  ["fire modules", makeFires],
  ["a transformer", makeTransformer],
  ["a decoder with a shared mask and rotary tables", makeDecoder],
  ["a neck with skips and two outputs", makeNeck],
  ["a U-Net", makeUNet],
  ["two inputs and two outputs", makeTwoInputs],
  ["an If that reads what stands above", makeConditional],
];
