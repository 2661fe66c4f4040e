import { create, toBinary } from "@bufbuild/protobuf";
import { RecoupError } from "../errors.js";
import type { Attribute, Graph, Node } from "../graph/graph.js";
import { toInt64 } from "../tensor/tensor.js";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  NodeProtoSchema,
} from "./gen/onnx_pb.js";
import { objectBytes, type Reading } from "./limits.js";
import { filesOfAttribute, filesOfNode, refuseExternalTensors } from "./references.js";
import { encodeTensor, readTensor } from "./tensor.js";
import { decodeText, encodeText } from "./text.js";
import { type Chunk, chunkOf, cutRecords, decodeMessage, wrapChunks } from "./wire.js";

/** What a node was read from: the node as it was then, and its bytes. */
interface NodeOrigin {
  node?: Node;
  readonly message: Uint8Array;
}

/** As `NodeOrigin`; the message holds the name too. */
interface AttributeOrigin {
  attribute?: Attribute;
  readonly name: string;
  readonly message: Uint8Array;
}

/** Reads a graph inside an attribute; handed in, since graphs are made of nodes. */
export type ReadBody = (message: Uint8Array, path: string) => Graph;

/** Writes a graph inside an attribute. */
export type EncodeBody = (graph: Graph) => readonly Chunk[];

/** Field numbers of `NodeProto`. */
const field = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 } as const;

/** Field number of the name of an `AttributeProto`. */
const attributeNameField = 1;

/**
 * Reads a `NodeProto`.
 *
 * @throws RecoupError `onnx/malformed`, `onnx/limit`, `graph/invalid` for one without an operator, and what its tensors and
 * graphs throw
 */
export function readNode(message: Uint8Array, path: string, reading: Reading, readBody: ReadBody): Node {
  reading.budget?.spend(objectBytes.node, path);
  const proto = decodeMessage(NodeProtoSchema, message, path, reading.budget);
  if (proto.opType.length === 0)
    throw new RecoupError("graph/invalid", "is a node without an operator", { field: path });
  const overload = decodeText(proto.overload);
  const origin: NodeOrigin = { message };
  const node: Node = {
    name: decodeText(proto.name),
    opType: decodeText(proto.opType),
    domain: decodeText(proto.domain),
    ...(overload === "" ? {} : { overload }),
    inputs: proto.input.map(decodeText),
    outputs: proto.output.map(decodeText),
    attributes: readAttributes(proto.attribute, path, reading, readBody),
    origin,
  };
  origin.node = node;
  return node;
}

/**
 * Reads some `AttributeProto`s by their names.
 *
 * @throws RecoupError as `readNode`, and `graph/invalid` where two have one name
 */
export function readAttributes(
  messages: readonly Uint8Array[],
  path: string,
  reading: Reading,
  readBody: ReadBody,
): ReadonlyMap<string, Attribute> {
  const attributes = new Map<string, Attribute>();
  for (const message of messages) {
    const proto = decodeMessage(AttributeProtoSchema, message, `${path}.attribute`, reading.budget);
    const name = decodeText(proto.name);
    const place = `${path}.${name}`;
    if (attributes.has(name)) throw new RecoupError("graph/invalid", "is the name of two attributes", { field: place });
    const origin: AttributeOrigin = { name, message };
    origin.attribute = { ...readAttribute(proto, message, place, reading, readBody), origin };
    attributes.set(name, origin.attribute);
  }
  return attributes;
}

/** The node as it was read where nobody changed it, else a new message that keeps the fields nobody reads here. */
export function encodeNode(node: Node, encodeBody: EncodeBody): readonly Chunk[] {
  const origin = node.origin as NodeOrigin | undefined;
  if (origin?.node === node && filesOfNode(node).size === 0) return [chunkOf(origin.message)];
  const { name, domain } = node;
  const proto = create(NodeProtoSchema, {
    input: node.inputs.map(encodeText),
    output: node.outputs.map(encodeText),
    opType: encodeText(node.opType),
    ...(name === "" ? {} : { name: encodeText(name) }),
    ...(domain === "" ? {} : { domain: encodeText(domain) }),
  });
  const attributes = [...node.attributes].flatMap(([key, attribute]) =>
    wrapChunks(field.attribute, encodeAttribute(key, attribute, encodeBody)),
  );
  const encoded: readonly number[] = Object.values(field);
  const kept = cutRecords(origin?.message ?? new Uint8Array(), name).filter(
    (record) => !encoded.includes(record.field),
  );
  return [chunkOf(toBinary(NodeProtoSchema, proto)), ...attributes, ...kept.map((record) => chunkOf(record.raw))];
}

function readAttribute(
  proto: AttributeProto,
  message: Uint8Array,
  place: string,
  reading: Reading,
  readBody: ReadBody,
): Attribute {
  if (proto.refAttrName.length > 0) return { kind: "opaque", reference: decodeText(proto.refAttrName) };
  switch (typeOf(proto, message)) {
    case AttributeType.FLOAT:
      return { kind: "float", value: proto.f };
    case AttributeType.INT:
      return isExact(proto.i) ? { kind: "int", value: Number(proto.i) } : { kind: "opaque" };
    case AttributeType.STRING:
      return { kind: "string", value: decodeText(proto.s) };
    case AttributeType.TENSOR:
      return { kind: "tensor", value: readTensor(proto.t, place, reading).tensor };
    case AttributeType.GRAPH:
      return { kind: "graph", value: readBody(proto.g, place) };
    case AttributeType.FLOATS:
      return { kind: "floats", value: proto.floats };
    case AttributeType.INTS:
      return proto.ints.every(isExact) ? { kind: "ints", value: proto.ints.map(Number) } : { kind: "opaque" };
    case AttributeType.STRINGS:
      return { kind: "strings", value: proto.strings.map(decodeText) };
    case AttributeType.GRAPHS:
      return { kind: "graphs", value: proto.graphs.map((graph) => readBody(graph, place)) };
    default:
      refuseExternalTensors("attribute", message, place);
      return { kind: "opaque" };
  }
}

/** Whether a whole number comes back from a double as it was: above 2^53 most do not. */
function isExact(value: bigint): boolean {
  return toInt64(Number(value)) === value;
}

/** Files of IR version 1 do not say which type an attribute has: the field that is there tells. */
function typeOf(proto: AttributeProto, message: Uint8Array): AttributeType {
  if (proto.type !== AttributeType.UNDEFINED) return proto.type;
  const byField: Readonly<Record<number, AttributeType>> = {
    2: AttributeType.FLOAT,
    3: AttributeType.INT,
    4: AttributeType.STRING,
    5: AttributeType.TENSOR,
    6: AttributeType.GRAPH,
    7: AttributeType.FLOATS,
    8: AttributeType.INTS,
    9: AttributeType.STRINGS,
    11: AttributeType.GRAPHS,
  };
  const found = cutRecords(message, "attribute").find((record) => byField[record.field] !== undefined);
  return found === undefined ? AttributeType.UNDEFINED : byField[found.field];
}

function encodeAttribute(name: string, attribute: Attribute, encodeBody: EncodeBody): readonly Chunk[] {
  const origin = attribute.origin as AttributeOrigin | undefined;
  if (origin?.attribute === attribute && filesOfAttribute(attribute).size === 0) {
    return origin.name === name ? [chunkOf(origin.message)] : renameAttribute(name, origin.message);
  }
  const head = (type: AttributeType, fields: Partial<AttributeProto> = {}) =>
    chunkOf(
      toBinary(
        AttributeProtoSchema,
        create(AttributeProtoSchema, { name: encodeText(name), type, ...fields } as AttributeProto),
      ),
    );
  switch (attribute.kind) {
    case "float":
      return [head(AttributeType.FLOAT, { f: attribute.value })];
    case "int":
      return [head(AttributeType.INT, { i: toInt64(attribute.value) })];
    case "string":
      return [head(AttributeType.STRING, { s: encodeText(attribute.value) })];
    case "floats":
      return [head(AttributeType.FLOATS, { floats: [...attribute.value] })];
    case "ints":
      return [head(AttributeType.INTS, { ints: attribute.value.map(toInt64) })];
    case "strings":
      return [head(AttributeType.STRINGS, { strings: attribute.value.map(encodeText) })];
    case "tensor":
      return [head(AttributeType.TENSOR), ...wrapChunks(5, encodeTensor("", attribute.value))];
    case "graph":
      return [head(AttributeType.GRAPH), ...wrapChunks(6, encodeBody(attribute.value))];
    case "graphs":
      return [head(AttributeType.GRAPHS), ...attribute.value.flatMap((graph) => wrapChunks(11, encodeBody(graph)))];
    case "opaque":
      return renameAttribute(name, origin?.message);
  }
}

/** What was read, under the name of another attribute. */
function renameAttribute(name: string, message: Uint8Array | undefined): readonly Chunk[] {
  if (message === undefined) throw new Error(`attribute ${name} was never read, so it cannot be written`);
  const kept = cutRecords(message, name).filter(({ field: number }) => number !== attributeNameField);
  const chunks = kept.map((record) => chunkOf(record.raw));
  return [...wrapChunks(attributeNameField, [chunkOf(encodeText(name))]), ...chunks];
}
