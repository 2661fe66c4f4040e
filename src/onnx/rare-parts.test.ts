import { afterAll, describe, expect, it } from "vitest";
import { runModel } from "../../test/models.js";
import {
  attributeOf,
  bytes,
  concat,
  concatAll,
  entry,
  fieldsOf,
  float,
  floatValue,
  graphField,
  hex,
  initializerOf,
  littleEndian,
  modelField,
  nodeOf,
  number,
  opset,
  tensorField,
  tensorOf,
  text,
  unwrap,
  varint,
} from "../../test/wire.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode, withInputs } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import { encodeModel, joinChunks, readModel } from "./model.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const write = (model: Model) => joinChunks(encodeModel(model).chunks);

/** Text of a machine that speaks Latin-1. */
const latin1 = (field: number, ...codes: readonly number[]) => bytes(field, Uint8Array.from(codes));
const doc = (field: number) => latin1(field, 0x4d, 0xfc, 0xdf);

/** Types that are no tensors, with what a type may say besides. */
const float1 = bytes(1, number(1, 1), bytes(2, bytes(1, text(2, "n"), text(3, "DATA_BATCH"))));
const types = {
  sequence: bytes(4, bytes(1, float1)),
  map: bytes(5, number(1, 7), bytes(2, float1)),
  sparse: bytes(8, number(1, 1), bytes(2, bytes(1, number(1, 2)))),
  optional: bytes(9, bytes(1, float1)),
  opaque: bytes(7, text(1, "d"), text(2, "n")),
};
const typed = (field: number, name: string, type: Uint8Array) =>
  bytes(field, text(1, name), bytes(2, type, text(6, "IMAGE")), doc(3), entry(4, "k", "v"));

const body = bytes(
  6,
  nodeOf("Identity", ["s"], ["b"], text(6, "inside"), bytes(77)),
  latin1(2, 0xe9),
  typed(graphField.output, "b", types.sequence),
  entry(16, "body", "1"),
);
const plain = tensorOf("", 1, [1], bytes(tensorField.floatData, littleEndian(Float32Array.of(2))));
const sparseTensor = concat(
  bytes(1, tensorOf("sparse", 1, [1], float(tensorField.floatData, 4))),
  bytes(2, tensorOf("", 7, [1], number(tensorField.int64Data, 1, 9))),
  number(3, 2),
);

const graphParts = [
  nodeOf(
    "Rare",
    ["s", "m", "o", "", "w", "u"],
    ["", "r"],
    text(7, "org.example"),
    text(8, "v2"),
    doc(6),
    entry(9, "from", "line 3"),
    bytes(10, text(1, "gpu"), number(3, 1)),
    attributeOf("packed", 7, bytes(8, varint(1), varint(-2)), doc(13)),
    attributeOf("unpacked", 6, float(7, 1), float(7, 2)),
    attributeOf("tensors", 9, bytes(10, plain), bytes(10, plain)),
    attributeOf("sparse", 11, bytes(22, sparseTensor)),
    attributeOf("type", 13, bytes(14, types.optional)),
    attributeOf("types", 14, bytes(15, types.map), bytes(15, types.sequence)),
    attributeOf("text", 3, latin1(4, 0xff, 0x00)),
    attributeOf("texts", 8, latin1(9, 0xfe), text(9, "b")),
    attributeOf("body", 5, body),
  ),
  nodeOf("Neg", ["x"], ["y"], latin1(3, 0x6e, 0xfc)),
  latin1(graphField.name, 0xe4),
  initializerOf("w", 1, [2], float(4, 1), float(4, 2), doc(12), entry(16, "k", "v"), bytes(99)),
  initializerOf("u", 3, [3], bytes(5, varint(-1), varint(2)), number(5, 3, 5)),
  bytes(5, bytes(1, varint(1), varint(1)), number(2, 8), latin1(6, 0xff), text(8, "words")),
  bytes(graphField.sparseInitializer, sparseTensor, bytes(50)),
  doc(graphField.docString),
  floatValue(graphField.input, "x"),
  typed(graphField.input, "s", types.sequence),
  typed(graphField.input, "m", types.map),
  typed(graphField.input, "o", types.optional),
  floatValue(graphField.output, "y"),
  typed(graphField.output, "r", types.opaque),
  typed(graphField.valueInfo, "w", types.sparse),
  bytes(graphField.quantizationAnnotation, text(1, "x"), entry(2, "SCALE_TENSOR", "w"), entry(2, "AXIS", "1")),
  entry(16, "graph", "remark"),
  bytes(4000, number(1, 1)),
];
const modelParts = [
  number(modelField.irVersion, 10, 4),
  latin1(modelField.producerName, 0xdc, 0x62),
  text(3, "1.0"),
  text(4, "org.example"),
  number(5, -1),
  doc(6),
  opset(17),
  opset(1, "org.example"),
  entry(modelField.metadataProps, "key", "value"),
  bytes(modelField.metadataProps, latin1(1, 0xe9), latin1(2, 0xff)),
  bytes(
    20,
    bytes(1, nodeOf("Constant", [], ["start"], attributeOf("value", 4, bytes(5, plain))), text(2, "initialization")),
    bytes(2, nodeOf("Sub", ["w", "start"], ["w2"]), text(2, "algorithm")),
    entry(3, "w", "start"),
    entry(4, "w", "w2"),
  ),
  bytes(
    modelField.functions,
    text(1, "Rare"),
    text(10, "org.example"),
    text(13, "v2"),
    text(4, "a"),
    text(5, "b"),
    text(6, "scale"),
    bytes(11, text(1, "axis"), number(3, 1), number(20, 2), doc(13)),
    bytes(7, text(1, "a"), text(2, "b"), text(4, "Relu"), doc(6)),
    bytes(9, text(1, ""), number(2, 17)),
    bytes(12, text(1, "b"), bytes(2, types.optional)),
    doc(8),
    entry(14, "k", "v"),
    bytes(300),
  ),
  bytes(26, text(1, "devices"), number(2, 2)),
  bytes(777, Uint8Array.of(1, 2, 3)),
];
const fileOf = (graph: readonly Uint8Array[], around: readonly Uint8Array[]) =>
  concat(...around.slice(0, 5), bytes(modelField.graph, concatAll(graph)), ...around.slice(5));
const file = fileOf(graphParts, modelParts);

describe("a model with every part of the format", () => {
  it.each([
    ["in the order of the format", file],
    ["in reverse", fileOf([...graphParts].reverse(), [...modelParts].reverse())],
  ])("is written as it was read: %s", (_about, stored) => {
    const model = readModel(stored);
    expect(hex(write(model))).toBe(hex(stored));
    expect(hex(write({ ...model }))).toBe(hex(stored));
    const rebuilt = write(withGraph(model, { ...model.graph }));
    expect(recordsOf(rebuilt)).toEqual(recordsOf(stored));
  });

  it("keeps every record but those of a changed node", () => {
    const model = readModel(file);
    const neg = model.graph.producer("y")!;
    const changes = { label: "t", remove: [neg], add: [{ ...neg, opType: "Abs" }] };
    const after = recordsOf(write(withGraph(model, applyPatch(model.graph, changes))));
    const before = recordsOf(file);
    expect(before.filter((raw) => !after.includes(raw))).toEqual([hex(graphParts[1])]);
    expect(after.filter((raw) => !before.includes(raw))).toHaveLength(1);
  });

  it("knows what training reads of the network, and leaves out what is taken away", () => {
    const model = readModel(file);
    expect(model.training.map(({ reads }) => [...reads].sort())).toEqual([["start", "w"]]);
    const without = fieldsOf(write({ ...model, training: [] })).map(({ field }) => field);
    expect(without).toEqual(
      fieldsOf(file)
        .map(({ field }) => field)
        .filter((field) => field !== 20),
    );
  });

  it("keeps what is unknown of a changed node, its body included", () => {
    const model = readModel(file);
    const rare = model.graph.producer("r")!;
    const moved = withInputs(rare, ["s", "m", "o", "y", "w", "u"]);
    const graph = applyPatch(model.graph, { label: "t", remove: [rare], add: [moved] });
    const changed = fieldsOf(unwrap(recordsOf(write(withGraph(model, graph))).find((raw) => raw.includes(hex(body)))!));
    const wanted = fieldsOf(unwrap(graphParts[0]));
    const kept = wanted.filter(({ field }) => field !== 1).map(({ raw }) => raw);
    expect(changed.map(({ raw }) => raw)).toEqual(expect.arrayContaining(kept));
  });

  it("keeps the types of values that get another name", () => {
    const model = readModel(file);
    const inputs = model.graph.inputs.map((value) => ({ ...value, name: `${value.name}2` }));
    const written = write(withGraph(model, { ...model.graph, inputs }));
    for (const type of [types.sequence, types.map, types.optional]) {
      const value = recordsOf(written).find(
        (raw) => raw.startsWith("5a") && raw.includes(hex(bytes(2, type, text(6, "IMAGE")))),
      );
      expect(value).toContain(hex(doc(3)));
    }
  });

  it("writes texts of tensors and values that nobody looks into under other names", () => {
    const model = readModel(file);
    const words = model.graph.initializers.get("words")!;
    const graph = { ...model.graph, initializers: new Map([["parole", words]]) };
    const written = readModel(write(withGraph(model, { ...graph, nodes: [], outputs: [], valueInfo: new Map() })));
    expect([...written.graph.initializers.keys()]).toEqual(["parole"]);
    expect(hex(write(written))).toContain(hex(latin1(6, 0xff)));
  });
});

it("keeps names apart that are not UTF-8, in the runtime too", async () => {
  const [a, b] = [0xe4, 0xf6].map((code) => (field: number) => latin1(field, 0x76, code));
  const stored = concat(
    number(1, 8),
    bytes(
      modelField.graph,
      bytes(1, text(1, "x"), a(2), text(4, "Neg")),
      bytes(1, text(1, "x"), b(2), text(4, "Abs")),
      bytes(1, a(1), b(1), text(2, "y"), text(4, "Sub")),
      text(2, "g"),
      floatValue(graphField.input, "x"),
      floatValue(graphField.output, "y"),
    ),
    opset(17),
  );
  const model = readModel(stored);
  const [first, second] = model.graph.producer("y")!.inputs;
  expect(first).not.toBe(second);
  const graph = applyPatch(model.graph, {
    label: "t",
    add: [makeNode("Relu", [second], ["relu"])],
    redirect: new Map([[second, "relu"]]),
  });
  for (const candidate of [model, withGraph(model, graph), readModel(write(withGraph(model, graph)))]) {
    const outputs = await runModel(engine, candidate, new Map([["x", float32Tensor([2], [1, -2])]]));
    expect([...float32Values(outputs.get("y")!)]).toEqual([-2, 0]);
  }
});

/** The fields of the model, those of its graph one by one, sorted. */
function recordsOf(stored: Uint8Array): readonly string[] {
  return fieldsOf(stored)
    .flatMap((part) => (part.field === modelField.graph ? fieldsOf(unwrap(part.raw)) : [part]))
    .map(({ raw }) => raw)
    .sort();
}
