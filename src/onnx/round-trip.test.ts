import { describe, expect, it } from "vitest";
import {
  attributeOf,
  attributeType,
  bytes,
  concat,
  entry,
  fieldsOf,
  float,
  floatValue,
  graphField,
  hex,
  initializerOf,
  littleEndian,
  modelField,
  modelOf,
  nodeOf,
  number,
  opset,
  tag,
  tensorOf,
  text,
  unwrap,
  varint,
} from "../../test/wire.js";
import type { Graph } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode, withAttributes, withInputs } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import { encodeModel, joinChunks, readModel } from "./model.js";

const write = (model: Model) => joinChunks(encodeModel(model).chunks);

/** The fields of a model's graph, as text. */
function graphFields(file: Uint8Array): readonly string[] {
  const graph = fieldsOf(file).find((part) => part.field === modelField.graph);
  return fieldsOf(unwrap(graph!.raw)).map((part) => part.raw);
}

const floats = (...values: readonly number[]) => bytes(9, littleEndian(Float32Array.from(values)));
const ints = concat(number(8, 1), bytes(8, varint(2), varint(-1)));

const kept = [text(6, "made by a tool"), entry(9, "namespace", "block.0"), bytes(77, Uint8Array.of(1, 2))];
const branch = (opType: string, name: string) =>
  bytes(6, nodeOf(opType, ["r"], [name]), text(2, name), bytes(graphField.output, text(1, name)));

const parts = {
  relu: nodeOf("Relu", ["x"], ["r"], text(3, "first"), ...kept, attributeOf("ints", attributeType.ints, ints)),
  add: nodeOf("Add", ["r", "w"], ["a"], number(5000, 3)),
  choice: nodeOf(
    "If",
    ["c"],
    ["i"],
    attributeOf("then_branch", attributeType.graph, branch("Neg", "n")),
    attributeOf("else_branch", attributeType.graph, branch("Abs", "p")),
  ),
  custom: nodeOf("Fancy", ["a", ""], ["", "y"], text(7, "com.example"), text(8, "overload")),
  name: text(graphField.name, "main"),
  // A proto3 writer packs dims; this one also writes documentation and a metadata entry.
  weight: bytes(
    graphField.initializer,
    bytes(1, varint(2)),
    number(2, 1),
    text(8, "w"),
    bytes(4, littleEndian(Float32Array.of(1, 2))),
    text(12, "weights"),
    entry(16, "k", "v"),
  ),
  spare: initializerOf("spare", 1, [2], floats(3, 4)),
  doc: text(graphField.docString, "a graph"),
  input: floatValue(graphField.input, "x", 2, text(3, "the input")),
  condition: bytes(graphField.input, text(1, "c"), bytes(2, bytes(1, number(1, 9)))),
  output: floatValue(graphField.output, "y"),
  output2: bytes(graphField.output, text(1, "i")),
  info: floatValue(graphField.valueInfo, "r"),
  info2: floatValue(graphField.valueInfo, "a"),
  annotation: bytes(graphField.quantizationAnnotation, text(1, "a"), entry(2, "SCALE_TENSOR", "spare")),
  annotation2: bytes(graphField.quantizationAnnotation, text(1, "x"), entry(2, "SCALE_TENSOR", "spare")),
  unknown: bytes(4242, Uint8Array.of(9)),
};
const rest = [
  entry(modelField.metadataProps, "author", "somebody"),
  bytes(
    25,
    text(1, "Fancy"),
    text(10, "com.example"),
    text(4, "a"),
    text(5, "b"),
    bytes(7, text(1, "a"), text(2, "b"), text(4, "Relu")),
  ),
  opset(1, "com.example"),
  text(6, "a model"),
  bytes(999, Uint8Array.of(5)),
];
const file = modelOf(concat(...Object.values(parts)), ...rest);
const model = readModel(file);

describe("a model nobody changed", () => {
  it("is written as it was read", () => {
    expect(hex(write(model))).toBe(hex(file));
    expect(hex(write({ ...model }))).toBe(hex(file));
  });

  it("is written as it was read when its graph is a new object", () => {
    expect(hex(write(withGraph(model, { ...model.graph })))).toBe(hex(file));
  });

  it.each([
    ["its fields in reverse", concat(...Object.values(parts).reverse())],
    [
      "nodes between values",
      concat(parts.info, parts.relu, parts.input, parts.add, parts.custom, parts.weight, parts.output),
    ],
  ])("keeps every record where the graph has %s", (_about, graph) => {
    const shuffled = concat(...rest, bytes(modelField.graph, graph), opset(17), number(modelField.irVersion, 8));
    const read = readModel(concat(number(4, 1), shuffled, floatValue(999, "c")));
    expect(hex(write(read))).toBe(hex(concat(number(4, 1), shuffled, floatValue(999, "c"))));
    const rebuilt = write(withGraph(read, { ...read.graph }));
    expect([...graphFields(rebuilt)].sort()).toEqual([...graphFields(write(read))].sort());
  });

  it("keeps overlong tags, lengths and numbers", () => {
    const body = unwrap(parts.relu);
    const relu = concat(varint(8 + 2, 3), varint(body.length, 5), body);
    const graph = concat(relu, floatValue(graphField.input, "x"), floatValue(graphField.output, "r"));
    const overlong = concat(tag(7, 2), varint(graph.length, 4), graph, opset(17), number(1, 8, 9));
    const read = readModel(overlong);
    expect(hex(write(read))).toBe(hex(overlong));
    expect(graphFields(write(withGraph(read, { ...read.graph })))).toContain(hex(relu));
  });

  it("keeps signalling NaN, and attributes of the future", () => {
    const signalling = concat(tag(2, 5), Uint8Array.of(1, 0, 0x80, 0x7f));
    const relu = nodeOf("R", ["x"], ["y"], attributeOf("a", 1, signalling), attributeOf("b", 99, text(50, "?")));
    const odd = modelOf(concat(relu, parts.input, parts.output));
    const { graph } = readModel(odd);
    expect(hex(write(withGraph(readModel(odd), { ...graph })))).toBe(hex(odd));
    const changed = { ...graph, nodes: [{ ...graph.nodes[0], name: "named" }] };
    expect(hex(write(withGraph(readModel(odd), changed)))).toContain(hex(signalling));
  });
});

describe("a patched model", () => {
  const nodeOfType = (opType: string) => model.graph.nodes.find((node) => node.opType === opType)!;
  const patched = (patch: Omit<Parameters<typeof applyPatch>[1], "label">): Graph =>
    applyPatch(model.graph, { label: "test", ...patch });
  const fieldsAfter = (graph: Graph) => graphFields(write(withGraph(model, graph)));
  const before = graphFields(file);
  const gone = (after: readonly string[]) => before.filter((raw) => !after.includes(raw));
  const fresh = (after: readonly string[]) => after.filter((raw) => !before.includes(raw));

  it("differs only in the changed node, which keeps what is unknown of it", () => {
    const relu = nodeOfType("Relu");
    const after = fieldsAfter(patched({ remove: [relu], add: [{ ...relu, opType: "Selu" }] }));
    expect(gone(after)).toEqual([hex(parts.relu), hex(parts.info)]);
    const [changed] = fresh(after);
    expect(fresh(after)).toHaveLength(1);
    const expected = [text(1, "x"), text(2, "r"), text(3, "first"), text(4, "Selu"), ...kept];
    expect(fieldsOf(unwrap(changed)).map(({ raw }) => raw)).toEqual(
      expect.arrayContaining([...expected.map(hex), hex(attributeOf("ints", attributeType.ints, ints))]),
    );
    expect(fieldsOf(unwrap(changed))).toHaveLength(expected.length + 1);
  });

  it("keeps the domain and the overload of a changed node", () => {
    const custom = nodeOfType("Fancy");
    const [changed] = fresh(fieldsAfter(patched({ remove: [custom], add: [withInputs(custom, ["a", "x"])] })));
    const again = readModel(write(withGraph(model, patched({ remove: [custom], add: [withInputs(custom, ["r"])] }))));
    expect(changed).toContain(hex(text(8, "overload")));
    expect(again.graph.producer("y")).toMatchObject({ domain: "com.example", name: "", outputs: ["", "y"] });
  });

  it("changes only the attribute that is set", () => {
    const relu = nodeOfType("Relu");
    const scaled = withAttributes(relu, { axis: 1 });
    const [changed] = fresh(fieldsAfter(patched({ remove: [relu], add: [scaled] })));
    expect(changed).toContain(hex(attributeOf("ints", attributeType.ints, ints)));
    expect(changed).toContain(hex(bytes(5, text(1, "axis"), number(3, 1), number(20, 2))));
  });

  it("writes an attribute anew that is changed or stands under another name", () => {
    const relu = nodeOfType("Relu");
    const attribute = relu.attributes.get("ints")!;
    const attributes = new Map([
      ["other", attribute],
      ["ints", { ...attribute, kind: "ints" as const, value: [7] }],
    ]);
    const again = readModel(write(withGraph(model, patched({ remove: [relu], add: [{ ...relu, attributes }] }))));
    const read = [...again.graph.producer("r")!.attributes].map(([name, found]) => [
      name,
      "value" in found && found.value,
    ]);
    expect(read).toEqual([
      ["other", [1, 2, -1]],
      ["ints", [7]],
    ]);
  });

  it("drops remarks and annotations only with their value", () => {
    const add = nodeOfType("Add");
    const custom = nodeOfType("Fancy");
    const after = fieldsAfter(patched({ remove: [add, custom], add: [makeNode("Abs", ["r"], ["y"])] }));
    expect(gone(after).sort()).toEqual(
      [parts.add, parts.custom, parts.info2, parts.annotation, parts.weight].map(hex).sort(),
    );
  });

  it("leaves what nobody read where it is, and drops what lost its last reader", () => {
    const add = nodeOfType("Add");
    const graph = patched({ remove: [add], add: [withInputs(add, ["r", "r"])] });
    expect([...graph.initializers.keys()]).toEqual(["spare"]);
    expect(gone(fieldsAfter(graph))).toEqual([hex(parts.add), hex(parts.weight), hex(parts.info2)]);
  });

  it("writes nodes before their readers, and new tensors after the old ones", () => {
    const graph = patched({
      redirect: new Map([["r", "r2"]]),
      add: [makeNode("Mul", ["r", "two"], ["r2"])],
      initializers: new Map([["two", float32Tensor([], [2])]]),
    });
    const again = readModel(write(withGraph(model, graph)));
    expect(again.graph.nodes.map((node) => node.opType)).toEqual(["Relu", "Mul", "Add", "If", "Fancy"]);
    expect([...again.graph.initializers.keys()]).toEqual(["w", "spare", "two"]);
    expect(float32Values(again.graph.constant("two")!)).toEqual(Float32Array.of(2));
    const choice = again.graph.producer("i")!;
    expect([...again.graph.consumers("r2")]).toEqual([again.graph.producer("a"), choice]);
    expect(gone(fieldsAfter(graph))).toEqual([hex(parts.add), hex(parts.choice)]);
  });

  it("changes a tensor and keeps its neighbours", () => {
    const graph = patched({ initializers: new Map([["w", float32Tensor([2], [5, 6])]]) });
    expect(gone(fieldsAfter(graph))).toEqual([hex(parts.weight)]);
    expect(fresh(fieldsAfter(graph))).toEqual([hex(bytes(5, number(1, 2), number(2, 1), text(8, "w"), floats(5, 6)))]);
  });

  it("writes a remark as an output under the number of outputs", () => {
    const graph = { ...model.graph, outputs: [...model.graph.outputs, model.graph.valueInfo.get("r")!] };
    expect(fresh(fieldsAfter(graph))).toEqual([hex(floatValue(graphField.output, "r"))]);
  });
});

describe("what stands around the graph", () => {
  const around = (changed: Model) =>
    fieldsOf(write(changed))
      .filter(({ field }) => field !== modelField.graph)
      .map(({ raw }) => raw);
  const before = around(model);

  it("changes the versions of the operator sets", () => {
    const after = around({ ...model, opsets: new Map([...model.opsets, ["", 21]]), irVersion: 10 });
    expect(before.filter((raw) => !after.includes(raw))).toEqual([hex(number(1, 8)), hex(opset(17))]);
    expect(after.filter((raw) => !before.includes(raw))).toEqual([hex(number(1, 10)), hex(opset(21))]);
  });

  it("adds metadata beside that of others, whose bytes stay", () => {
    const latin1 = bytes(14, text(1, "city"), bytes(2, Uint8Array.of(0x4d, 0xfc)));
    const read = readModel(concat(file, latin1));
    const after = around({ ...read, metadata: new Map([...read.metadata, ["recoup.seed", "1"]]) });
    expect(after).toContain(hex(latin1));
    expect(after).toContain(hex(entry(14, "author", "somebody")));
    expect(after).toContain(hex(entry(14, "recoup.seed", "1")));
    const without = around({ ...read, metadata: new Map() });
    expect(without.filter((raw) => raw.startsWith("72"))).toEqual([]);
  });

  it("sets the producer, also where there was none", () => {
    const named = readModel(write({ ...model, producerName: "recoup", producerVersion: "1" }));
    expect(named).toMatchObject({ producerName: "recoup", producerVersion: "1" });
  });

  it("knows the functions of a model", () => {
    expect([...model.functions.keys()]).toEqual(["com.example::Fancy"]);
  });
});

it("reads attributes of files so old that they do not say their type", () => {
  const node = nodeOf("Op", ["x"], ["y"], bytes(5, text(1, "f"), float(2, 0.5)), bytes(5, text(1, "i"), number(3, 7)));
  const { attributes } = readModel(modelOf(concat(node, parts.input, parts.output))).graph.nodes[0];
  expect(attributes.get("f")).toMatchObject({ kind: "float", value: 0.5 });
  expect(attributes.get("i")).toMatchObject({ kind: "int", value: 7 });
});

it("keeps a tensor attribute as it was read when its node changes", () => {
  const value = attributeOf("value", attributeType.tensor, bytes(5, tensorOf("inner", 1, [2], floats(1, 2))));
  const constant = nodeOf("Constant", [], ["y"], value);
  const old = readModel(modelOf(concat(constant, parts.output)));
  const renamed = { ...old.graph, nodes: [{ ...old.graph.nodes[0], name: "named" }] };
  expect(hex(write(withGraph(old, renamed)))).toContain(hex(value));
});

it("keeps whole numbers that no double holds, in a changed node and under another name too", () => {
  const value = 2n ** 53n + 1n;
  const whole = attributeOf("i", attributeType.int, number(3, value));
  const list = attributeOf("l", attributeType.ints, number(8, 1), number(8, -value));
  const last = attributeOf("m", attributeType.int, number(3, 2n ** 63n - 1n));
  const node = nodeOf("Op", [], ["y"], whole, list, last);
  const old = readModel(modelOf(concat(node, parts.output)));
  const [read] = old.graph.nodes;
  expect(["i", "l"].map((name) => read.attributes.get(name)?.kind)).toEqual(["opaque", "opaque"]);
  expect(read.attributes.get("m")).toMatchObject({ kind: "int", value: 2 ** 63 });
  const attributes = new Map([...read.attributes].map(([name, attribute]) => [`${name}2`, attribute]));
  const changed = hex(write(withGraph(old, { ...old.graph, nodes: [{ ...read, attributes }] })));
  for (const number64 of [value, -value, 2n ** 63n - 1n]) expect(changed).toContain(hex(varint(number64)));
  expect(changed).toContain(hex(text(1, "l2")));
});
