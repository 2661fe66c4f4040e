/** The models that are mutated: those of the repository, small ones that hold what those lack, and the standard's own where they are. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { buildGraph } from "../../dist/graph/graph.js";
import { makeModel } from "../../dist/graph/model.js";
import { makeNode } from "../../dist/graph/node.js";
import { createRandom } from "../../dist/math/random.js";
import { encodeModel, joinChunks } from "../../dist/onnx/model.js";
import { float32Tensor, floatTensor, int64Tensor, tensorFromBytes } from "../../dist/tensor/tensor.js";
import { mutate } from "./mutate.mjs";

/** Larger ones are mutated as rarely as they are slow. */
const largeBytes = 20_000;
const largeEvery = 64;

/**
 * @param {string} shared folder of the standard's tests
 * @returns {readonly Uint8Array[]} the small ones first
 */
export function openCorpus(shared) {
  const digits = ["cnn", "vit"].map((name) =>
    fileURLToPath(new URL(`../../examples/digits/models/${name}/model.onnx`, import.meta.url)),
  );
  const folder = join(shared, "onnx-node-tests");
  const standard = existsSync(folder)
    ? readdirSync(folder)
        .sort()
        .map((name) => join(folder, name, "model.onnx"))
    : [];
  const files = [...standard, ...digits].filter((path) => existsSync(path)).map((path) => readFileSync(path));
  return [...builtModels(), ...files].sort((a, b) => a.length - b.length);
}

/**
 * The bytes of an iteration; they depend on nothing else.
 *
 * @param {readonly Uint8Array[]} corpus
 * @param {number} seed
 * @param {number} iteration
 */
export function mutantOf(corpus, seed, iteration) {
  const random = createRandom(seed * 2 ** 32 + iteration);
  const small = corpus.filter((model) => model.length < largeBytes);
  const choose = (/** @type {readonly Uint8Array[]} */ models) => models[random.below(models.length)];
  const model = choose(random.below(largeEvery) === 0 ? corpus.slice(small.length) : small);
  return mutate(model, choose(small), random);
}

/** @returns {readonly Uint8Array[]} */
function builtModels() {
  return [network(), attention(), controlFlow(), quantized(), recurrent(), halves(), oddities()];
}

/** @param {readonly number[]} shape */
function weight(shape) {
  const size = shape.reduce((a, b) => a * b, 1);
  return float32Tensor(
    shape,
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * 0.7)),
  );
}

function modelOf(nodes, initializers, inputs, outputs, opset = 17) {
  const declare = ([name, elementType, shape]) => ({ name, type: { kind: "tensor", elementType, shape } });
  const graph = buildGraph({
    name: "fuzz",
    inputs: inputs.map(declare),
    outputs: outputs.map((name) => ({ name, type: { kind: "other" } })),
    nodes,
    initializers: new Map(Object.entries(initializers)),
    valueInfo: new Map(),
  });
  return joinChunks(encodeModel(makeModel(graph, { irVersion: 8, opsets: new Map([["", opset]]) })).chunks);
}

function network() {
  const nodes = [
    makeNode("Conv", ["x", "cw", "cb"], ["c"], { kernel_shape: [2, 2] }),
    makeNode("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
    makeNode("Relu", ["n"], ["r"]),
    makeNode("Identity", ["r"], ["i"]),
    makeNode("MaxPool", ["i"], ["p"], { kernel_shape: [2, 2] }),
    makeNode("Shape", ["p"], ["sh"]),
    makeNode("Gather", ["sh", "zero"], ["n0"]),
    makeNode("Concat", ["n0", "rest"], ["target"], { axis: 0 }),
    makeNode("Reshape", ["p", "target"], ["f"]),
    makeNode("Gemm", ["f", "gw", "gb"], ["g"], { transB: 1 }),
    makeNode("Concat", ["g", "g"], ["gg"], { axis: 1 }),
    makeNode("Clip", ["gg", "low", "high"], ["y"]),
  ];
  const vector = weight([4]);
  const one = { v: float32Tensor([4], [1, 2, 3, 4]), s: vector, b: vector, m: vector };
  const sizes = { zero: int64Tensor([1], [0]), rest: int64Tensor([1], [-1]) };
  const limits = { low: float32Tensor([], [-1]), high: float32Tensor([], [1]) };
  const weights = { cw: weight([4, 3, 2, 2]), cb: vector, gw: weight([5, 16]), gb: weight([5]) };
  return modelOf(nodes, { ...one, ...sizes, ...limits, ...weights }, [["x", "float32", ["batch", 3, 4, 4]]], ["y"]);
}

function attention() {
  const project = (name) => makeNode("MatMul", ["e", `w${name}`], [name]);
  const nodes = [
    makeNode("Gather", ["table", "ids"], ["e"]),
    ...["q", "k", "v"].map(project),
    makeNode("Transpose", ["k"], ["kt"], { perm: [0, 2, 1] }),
    makeNode("MatMul", ["q", "kt"], ["s"]),
    makeNode("Softmax", ["s"], ["p"], { axis: { kind: "int", value: -1 } }),
    makeNode("MatMul", ["p", "v"], ["o"]),
    makeNode("Add", ["o", "e"], ["a"]),
    makeNode("LayerNormalization", ["a", "g", "b"], ["l"], { epsilon: { kind: "float", value: 1e-5 } }),
    makeNode("Transpose", ["table"], ["tied"]),
    makeNode("MatMul", ["l", "tied"], ["y"]),
  ];
  const square = Object.fromEntries(["q", "k", "v"].map((name) => [`w${name}`, weight([8, 8])]));
  const constants = { table: weight([6, 8]), g: weight([8]), b: weight([8]), ...square };
  return modelOf(nodes, constants, [["ids", "int64", ["batch", "length"]]], ["y", "p"]);
}

function controlFlow() {
  const body = (nodes, outputs, inputs = []) =>
    buildGraph(
      {
        name: "body",
        inputs: inputs.map((name) => ({ name, type: { kind: "other" } })),
        outputs: outputs.map((name) => ({ name, type: { kind: "other" } })),
        nodes,
        initializers: new Map(),
        valueInfo: new Map(),
      },
      true,
    );
  const then = body([makeNode("MatMul", ["x", "w"], ["t"])], ["t"]);
  const inner = makeNode("If", ["c"], ["e"], {
    then_branch: { kind: "graph", value: body([makeNode("Neg", ["x"], ["e1"])], ["e1"]) },
    else_branch: { kind: "graph", value: body([makeNode("Identity", ["x"], ["e2"])], ["e2"]) },
  });
  const loop = body(
    [makeNode("Identity", ["go"], ["goes"]), makeNode("Add", ["sum", "x"], ["more"])],
    ["goes", "more"],
    ["i", "go", "sum"],
  );
  const nodes = [
    makeNode("If", ["c"], ["y"], {
      then_branch: { kind: "graph", value: then },
      else_branch: { kind: "graph", value: body([inner], ["e"]) },
    }),
    makeNode("Loop", ["count", "c", "y"], ["z"], { body: { kind: "graph", value: loop } }),
    makeNode("MatMul", ["z", "w"], ["u"]),
  ];
  const constants = { w: weight([4, 4]), count: int64Tensor([], [3]) };
  const inputs = [
    ["x", "float32", [4, 4]],
    ["c", "bool", []],
  ];
  return modelOf(nodes, constants, inputs, ["u", "z"]);
}

function quantized() {
  const nodes = [
    makeNode("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
    makeNode("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
    makeNode("DequantizeLinear", ["w", "ws", "wz"], ["wd"], { axis: 1 }),
    makeNode("MatMul", ["xd", "wd"], ["m"]),
    makeNode("DequantizeLinear", ["w4", "ws", "wz4"], ["w4d"], { axis: 1 }),
    makeNode("MatMul", ["m", "w4d"], ["y"]),
  ];
  const bytes = (type, shape, values) => tensorFromBytes(type, shape, Uint8Array.from(values));
  const constants = {
    xs: float32Tensor([], [0.1]),
    xz: bytes("uint8", [], [128]),
    ws: weight([4]),
    wz: bytes("int8", [4], [0, 0, 0, 0]),
    w: bytes(
      "int8",
      [4, 4],
      Array.from({ length: 16 }, (_, i) => i * 15),
    ),
    w4: bytes(
      "int4",
      [4, 4],
      Array.from({ length: 8 }, (_, i) => i * 31),
    ),
    wz4: bytes("int4", [4], [0, 0]),
  };
  return modelOf(nodes, constants, [["x", "float32", ["n", 4]]], ["y"], 21);
}

function recurrent() {
  const nodes = [makeNode("LSTM", ["x", "w", "r", "b"], ["y", "h", ""], { hidden_size: 3, direction: "forward" })];
  const constants = { w: weight([1, 12, 4]), r: weight([1, 12, 3]), b: weight([1, 24]) };
  return modelOf(nodes, constants, [["x", "float32", ["t", 1, 4]]], ["y", "h"]);
}

function halves() {
  const half = (type, shape) => floatTensor(type, shape, [...Array(shape.reduce((a, b) => a * b, 1)).keys()]);
  const nodes = [
    makeNode("MatMul", ["x", "w"], ["m"]),
    makeNode("Add", ["m", "b"], ["a"]),
    makeNode("Cast", ["a"], ["c"], { to: 16 }),
    makeNode("MatMul", ["c", "v"], ["y"]),
  ];
  const constants = { w: half("float16", [4, 4]), b: half("float16", [4]), v: half("bfloat16", [4, 4]) };
  return modelOf(nodes, constants, [["x", "float16", ["n", 4]]], ["y"]);
}

/** Written by hand: what makes no difference to a network, and forms that few writers use. */
function oddities() {
  const text = (field, value) => new BinaryWriter().tag(field, WireType.LengthDelimited).string(value).finish();
  const number = (field, value) => new BinaryWriter().tag(field, WireType.Varint).int64(BigInt(value)).finish();
  const inside = (field, ...parts) =>
    new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(Buffer.concat(parts)).finish();
  const entry = (field, key, value) => inside(field, text(1, key), text(2, value));
  const node = (field, opType, inputs, outputs, ...rest) =>
    inside(
      field,
      ...inputs.map((name) => text(1, name)),
      ...outputs.map((name) => text(2, name)),
      text(4, opType),
      ...rest,
    );
  const attribute = (name, ...rest) => inside(5, text(1, name), ...rest);
  const value = (field, name) =>
    inside(field, text(1, name), inside(2, inside(1, number(1, 1), inside(2, inside(1, number(1, 2))))));
  const floats = (...values) => Buffer.from(Float32Array.from(values).buffer);
  const tensor = (field, name, type, dims, ...rest) =>
    inside(field, ...dims.map((size) => number(1, size)), number(2, type), text(8, name), ...rest);
  const graph = [
    text(2, "g"),
    node(1, "G", ["x", "w"], ["f"], text(7, "own"), attribute("slope", number(3, 0), number(20, 2))),
    node(1, "Add", ["f", "s"], ["a"], text(3, "sum"), entry(9, "key", "value")),
    node(
      1,
      "MatMul",
      ["a", "far"],
      ["y"],
      attribute("odd", number(20, 99)),
      attribute("g", text(21, "ref"), number(20, 1)),
    ),
    node(1, "Constant", [], ["k"], attribute("value", tensor(5, "", 1, [2], floats4(4, 1, 2)), number(20, 4))),
    tensor(5, "w", 1, [2], inside(4, floats(1, 2))),
    tensor(
      5,
      "far",
      1,
      [2, 2],
      entry(13, "location", "far.bin"),
      entry(13, "offset", "8"),
      entry(13, "length", "16"),
      number(14, 1),
    ),
    tensor(5, "n", 7, [3], inside(7, Buffer.from([1, 2, 3]))),
    inside(15, tensor(1, "s", 1, [1], inside(4, floats(3))), tensor(2, "", 7, [1], number(7, 1)), number(3, 2)),
    inside(14, text(1, "w"), entry(2, "SCALE_TENSOR", "n")),
    value(11, "x"),
    value(12, "y"),
    value(13, "a"),
    number(99, 5),
  ];
  return Buffer.concat([
    number(1, 9),
    text(2, "maker"),
    text(3, "1"),
    inside(7, ...graph),
    inside(8, number(2, 18)),
    inside(8, text(1, "own"), number(2, 1)),
    entry(14, "key", "value"),
    inside(20, inside(1, node(1, "Relu", ["p"], ["q"]), text(2, "t"))),
    inside(
      25,
      text(1, "F"),
      text(10, "own"),
      text(4, "a"),
      text(4, "b"),
      text(5, "c"),
      node(7, "Mul", ["a", "b"], ["c"]),
      inside(9, number(2, 18)),
    ),
    inside(
      25,
      text(1, "G"),
      text(10, "own"),
      text(4, "a"),
      text(4, "b"),
      text(5, "c"),
      text(6, "slope"),
      inside(11, text(1, "size"), number(3, 2), number(20, 2)),
      node(7, "F", ["a", "b"], ["m"], text(7, "own")),
      node(7, "MatMul", ["m", "b"], ["n"], attribute("axis", text(21, "size"), number(20, 2))),
      node(7, "Softmax", ["n"], ["c"], attribute("axis", text(21, "slope"), number(20, 2))),
      inside(9, number(2, 17)),
      inside(9, text(1, "own"), number(2, 1)),
    ),
    text(98, "unknown"),
  ]);

  /** Not packed. */
  function floats4(field, ...values) {
    const writer = new BinaryWriter();
    for (const one of values) writer.tag(field, WireType.Bit32).float(one);
    return writer.finish();
  }
}
