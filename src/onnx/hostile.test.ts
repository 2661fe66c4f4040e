import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  attributeOf,
  attributeType,
  bytes,
  callOf,
  concat,
  concatAll,
  entry,
  float,
  floatValue,
  functionOf,
  graphField,
  initializerOf,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  opset,
  tag,
  tensorOf,
  text,
  varint,
} from "../../test/wire.js";
import { RecoupError } from "../errors.js";
import { type Graph, subgraphsOf } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { noExternalData } from "./external-data.js";
import { readGraph } from "./graph.js";
import { largestOverhead, ReadBudget } from "./limits.js";
import { encodeModel, joinChunks, readModel } from "./model.js";

const input = floatValue(graphField.input, "x");
const output = floatValue(graphField.output, "y");
const relu = nodeOf("Relu", ["x"], ["y"]);
const code = (wanted: string) => expect.objectContaining({ code: wanted });

/** A bit of everything, the graph last: whatever is cut off, the graph is broken. */
const branch = bytes(6, nodeOf("Neg", ["x"], ["n"]), text(2, "b"), bytes(12, text(1, "n")));
const small = concat(
  number(1, 8),
  text(2, "maker"),
  opset(17),
  entry(14, "k", "v"),
  bytes(
    25,
    text(1, "F"),
    text(10, "d"),
    bytes(7, text(4, "Relu"), attributeOf("t", 4, bytes(5, tensorOf("t", 1, [0])))),
  ),
  bytes(
    7,
    nodeOf("Relu", ["x"], ["r"], attributeOf("f", 1, float(2, 1)), attributeOf("i", 7, number(8, 3))),
    nodeOf("If", ["c"], ["i"], attributeOf("then_branch", 5, branch), attributeOf("else_branch", 5, branch)),
    nodeOf("Add", ["r", "w"], ["y"], attributeOf("t", 4, bytes(5, tensorOf("", 7, [], bytes(7, varint(1)))))),
    initializerOf("w", 1, [2], bytes(9, littleEndian(Float32Array.of(1, 2)))),
    initializerOf("c", 9, [], number(5, 1)),
    bytes(15, bytes(1, tensorOf("s", 1, [1], float(4, 1))), bytes(2, tensorOf("", 7, [1], number(7, 0))), number(3, 2)),
    bytes(14, text(1, "w"), entry(2, "SCALE_TENSOR", "w")),
    floatValue(13, "r"),
    input,
    output,
  ),
);

/** Whatever was read can be written, and its tensors give their elements or say why not. */
function useAll(model: Model): void {
  const tensorsOf = (graph: Graph): readonly { bytes(): Uint8Array }[] => [
    ...graph.initializers.values(),
    ...graph.nodes.flatMap((node) => subgraphsOf(node).flatMap(tensorsOf)),
  ];
  for (const tensor of tensorsOf(model.graph)) onlyRecoupErrors(() => tensor.bytes());
  onlyRecoupErrors(() => joinChunks(encodeModel(model).chunks));
  onlyRecoupErrors(() => joinChunks(encodeModel(withGraph(model, { ...model.graph })).chunks));
}

function onlyRecoupErrors(work: () => unknown): RecoupError | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof RecoupError) return error;
    throw error;
  }
}

describe("a broken file", () => {
  it("is an error wherever it was cut off", () => {
    expect(onlyRecoupErrors(() => useAll(readModel(small)))).toBeUndefined();
    for (let length = 0; length < small.length; length++) {
      expect(() => readModel(small.subarray(0, length)), `cut after ${length}`).toThrow(RecoupError);
    }
  });

  it("is a model or an error, whichever byte is wrong", () => {
    for (let position = 0; position < small.length; position++) {
      for (const change of [1, 0x80, 0xff]) {
        const broken = small.slice();
        broken[position] ^= change;
        onlyRecoupErrors(() => useAll(readModel(broken)));
      }
    }
  });

  it("is a model or an error, whatever is done to it", () => {
    const edits = fc.array(
      fc.record({ at: fc.nat(small.length - 1), remove: fc.nat(4), insert: fc.uint8Array({ maxLength: 4 }) }),
      { minLength: 1, maxLength: 4 },
    );
    let models = 0;
    fc.assert(
      fc.property(edits, (changes) => {
        const edit = (file: Uint8Array, { at, remove, insert }: (typeof changes)[number]) =>
          concat(file.subarray(0, at), insert, file.subarray(at + remove));
        if (onlyRecoupErrors(() => useAll(readModel(changes.reduce(edit, small)))) === undefined) models++;
      }),
      { seed: 1, numRuns: 3000 },
    );
    expect(models).toBeGreaterThan(0);
  });

  it("is an error when its bytes are chance", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (noise) => {
        expect(onlyRecoupErrors(() => readModel(concat(number(1, 8), noise)))).toBeInstanceOf(RecoupError);
      }),
      { seed: 1, numRuns: 1000 },
    );
  });

  it.each<readonly [about: string, code: string, file: Uint8Array]>([
    ["its graph is a number", "onnx/malformed", concat(number(1, 8), number(7, 1))],
    ["its version is a text", "onnx/malformed", concat(text(1, "8"), bytes(7, relu, input, output))],
    ["its version does not end", "onnx/malformed", concat(bytes(7, relu, input, output), number(1, 8, 11))],
    ["a node is a number", "onnx/malformed", modelOf(concat(number(1, 1), input))],
    ["an input is a number", "onnx/malformed", modelOf(concat(relu, number(11, 1), output))],
    ["an initializer is a number", "onnx/malformed", modelOf(concat(relu, input, output, float(5, 1)))],
    ["an annotation is a number", "onnx/malformed", modelOf(concat(relu, input, output, number(14, 1)))],
    ["the graph's name is a number", "onnx/malformed", modelOf(concat(relu, input, output, number(2, 1)))],
    [
      "an attribute ends early",
      "onnx/malformed",
      modelOf(concat(nodeOf("R", ["x"], ["y"], bytes(5, tag(7, 5))), input, output)),
    ],
    ["a node has no operator", "graph/invalid", modelOf(concat(nodeOf("", ["x"], ["y"]), input, output))],
    [
      "two attributes have one name",
      "graph/invalid",
      modelOf(concat(nodeOf("R", ["x"], ["y"], attributeOf("a", 2), attributeOf("a", 2)), input, output)),
    ],
    ["a domain is imported twice", "graph/invalid", modelOf(concat(relu, input, output), opset(13, "ai.onnx"))],
    ["the graph comes in two pieces", "onnx/unsupported", modelOf(concat(relu, input, output), bytes(7, text(2, "g")))],
    ["it has no graph", "onnx/not-a-model", concat(number(1, 8), opset(17))],
    [
      "two initializers have one name",
      "graph/invalid",
      modelOf(concat(initializerOf("w", 1, [0]), initializerOf("w", 1, [0]))),
    ],
    ["an initializer has no name", "graph/invalid", modelOf(concat(relu, input, output, initializerOf("", 1, [0])))],
    [
      "an attribute tensor has no type",
      "onnx/unsupported",
      modelOf(concat(nodeOf("C", [], ["y"], attributeOf("v", 4)), output)),
    ],
  ])("is refused where %s", (_about, wanted, file) => {
    expect(() => readModel(file)).toThrow(code(wanted));
  });
});

/** A message many times. */
function repeat(message: Uint8Array, times: number): Uint8Array {
  const repeated = new Uint8Array(message.length * times);
  for (let i = 0; i < times; i++) repeated.set(message, i * message.length);
  return repeated;
}

function withAttribute(type: number, value: Uint8Array): Uint8Array {
  return nodeOf("R", [], [], attributeOf("a", type, value));
}

function sizes(count: number): Uint8Array {
  return bytes(2, bytes(1, number(1, 1), bytes(2, repeat(bytes(1), count))));
}

describe("functions", () => {
  const chain = (length: number, calls: number) =>
    Array.from({ length }, (_, i) => {
      const nodes = Array.from({ length: calls }, () => callOf(`F${i + 1}`, [], []));
      return functionOf(`F${i}`, { nodes: i + 1 < length ? nodes : [] });
    });
  const main = concat(callOf("F0", [], []), input, floatValue(graphField.output, "x"));

  it.each<readonly [what: string, code: string, place: string, functions: readonly Uint8Array[]]>([
    ["calls itself", "graph/invalid", "local::F0", [functionOf("F0", { nodes: [callOf("F0", [], [])] })]],
    [
      "calls one that calls it",
      "graph/invalid",
      "local::F0",
      [functionOf("F0", { nodes: [callOf("F1", [], [])] }), functionOf("F1", { nodes: [callOf("F0", [], [])] })],
    ],
    [
      "calls itself in a body",
      "graph/invalid",
      "local::F0",
      [functionOf("F0", { nodes: [nodeOf("If", [], [], attributeOf("b", 5, bytes(6, callOf("F0", [], []))))] })],
    ],
    ["doubles forty times", "onnx/limit", "local::F0", chain(40, 2)],
    ["is defined twice", "graph/invalid", "local::F0", [chain(1, 0)[0], chain(1, 0)[0]]],
    ["reads what is outside", "graph/invalid", "x", [functionOf("F0", { nodes: [nodeOf("Neg", ["x"], ["y"])] })]],
    [
      "imports a domain twice",
      "graph/invalid",
      "local::F0 opset_import local",
      [functionOf("F0", { nodes: [] }, bytes(9, text(1, "local"), number(2, 2)))],
    ],
  ])("are refused where one %s", (_what, wanted, place, functions) => {
    expect(() => readModel(modelOf(main, opset(1, "local"), ...functions))).toThrow(
      expect.objectContaining({ code: wanted, place: { field: place } }),
    );
  });

  it("may call each other in a long chain, and be called often", () => {
    const { functions } = readModel(modelOf(main, opset(1, "local"), ...chain(20_000, 1)));
    expect(functions.size).toBe(20_000);
    expect(readModel(modelOf(main, opset(1, "local"), ...chain(15, 2))).functions.size).toBe(15);
  });
});

describe("a file that is large on purpose", () => {
  /** If in If in If. */
  function nested(levels: number): Uint8Array {
    let parts = [nodeOf("Neg", ["x"], ["v"])];
    for (let level = 0; level < levels; level++) {
      const body = bytes(6, ...parts, text(2, "b"), bytes(12, text(1, "v")));
      parts = [nodeOf("If", ["c"], ["v"], attributeOf("then_branch", attributeType.graph, body))];
    }
    const condition = bytes(11, text(1, "c"), bytes(2, bytes(1, number(1, 9))));
    return modelOf(concat(...parts, input, condition, bytes(12, text(1, "v"))));
  }

  it("may nest bodies as deep as every other reader allows, and no deeper", () => {
    useAll(readModel(nested(32)));
    for (const levels of [33, 200, 1000]) {
      expect(() => readModel(nested(levels))).toThrow(code("onnx/limit"));
    }
  });

  it("may nest bodies in a function no deeper either", () => {
    let attribute = attributeOf("t", attributeType.tensor, bytes(5, tensorOf("", 1, [])));
    for (let level = 0; level < 100; level++) {
      attribute = attributeOf("b", attributeType.graph, bytes(6, nodeOf("If", ["c"], ["v"], attribute)));
    }
    const functions = bytes(25, text(1, "F"), bytes(7, text(4, "If"), attribute));
    expect(() => readModel(modelOf(concat(relu, input, output), functions))).toThrow(code("onnx/malformed"));
  });

  it("may not have a million nodes that are nothing", () => {
    const nothing = new Uint8Array(2e6);
    for (let i = 0; i < nothing.length; i += 2) nothing[i] = 10;
    expect(() => readModel(modelOf(nothing))).toThrow(code("graph/invalid"));
  });

  it.each<readonly [what: string, graph: () => Uint8Array]>([
    ["small nodes", () => repeat(bytes(graphField.node, text(4, "R")), 120)],
    ["fields that nobody knows", () => repeat(number(50, 1), 500)],
    ["tensors", () => repeat(initializerOf("w", 1, [0]), 120)],
    ["inputs of one node", () => bytes(graphField.node, text(4, "R"), repeat(bytes(1), 900))],
    ["numbers of one attribute", () => withAttribute(attributeType.ints, bytes(8, new Uint8Array(4000)))],
    ["texts of one attribute", () => withAttribute(8, repeat(bytes(9), 900))],
    ["sizes of one value", () => bytes(graphField.input, text(1, "x"), sizes(900))],
    [
      "nodes of a body",
      () => withAttribute(attributeType.graph, bytes(6, repeat(bytes(graphField.node, text(4, "R")), 120))),
    ],
  ])("is refused where %s would take more memory than is left", (_what, graph) => {
    const budget = new ReadBudget();
    budget.spend(largestOverhead - 100_000, "graph");
    const broken = onlyRecoupErrors(() => readGraph(graph(), "graph", { ...noExternalData, budget }));
    expect(broken).toMatchObject({ code: "onnx/limit", place: { field: expect.stringContaining("graph") } });
  });

  it("may have a node with 130000 inputs, in reverse order of their nodes", () => {
    const names = Array.from({ length: 130_000 }, (_, i) => `v${i}`);
    const graph = concat(
      nodeOf("Concat", names, ["y"]),
      concatAll(names.map((name) => nodeOf("Relu", ["x"], [name]))),
      input,
      output,
    );
    const model = readModel(modelOf(graph));
    expect(model.graph.nodes).toHaveLength(130_001);
    expect(joinChunks(encodeModel(withGraph(model, { ...model.graph })).chunks)).toHaveLength(modelOf(graph).length);
  });
});
