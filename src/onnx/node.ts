import { create, toBinary } from "@bufbuild/protobuf";
import type { Attribute, Graph, Node } from "../graph/graph.js";
import { toInt64 } from "../tensor/tensor.js";
import type { ExternalReader } from "./external-data.js";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  NodeProtoSchema,
} from "./gen/onnx_pb.js";
import { encodeTensor, isFileTensor, readTensor } from "./tensor.js";
import { type Chunk, chunkOf, cutRecords, decodeMessage, wrapChunks } from "./wire.js";

/** What a node was read from: the node as it was then, and its bytes. */
interface NodeOrigin {
  node?: Node;
  readonly message: Uint8Array;
}

interface AttributeOrigin {
  readonly message: Uint8Array;
}

/** Reads and writes the graphs inside attributes; handed in, since graphs are made of nodes. */
export interface BodyCodec {
  read(message: Uint8Array, path: string): Graph;
  encode(graph: Graph): readonly Chunk[];
}

const attributeField = 5;

/**
 * Reads a `NodeProto`.
 *
 * @throws RecoupError `onnx/malformed`, and what its tensors and graphs throw
 */
export function readNode(message: Uint8Array, path: string, external: ExternalReader, bodies: BodyCodec): Node {
  const proto = decodeMessage(NodeProtoSchema, message, path);
  const attributes = new Map<string, Attribute>();
  for (const body of proto.attribute) {
    const attribute = decodeMessage(AttributeProtoSchema, body, `${path}.attribute`);
    attributes.set(attribute.name, readAttribute(attribute, body, path, external, bodies));
  }
  const origin: NodeOrigin = { message };
  const node: Node = {
    name: proto.name,
    opType: proto.opType,
    domain: proto.domain,
    inputs: proto.input,
    outputs: proto.output,
    attributes,
    origin,
  };
  origin.node = node;
  return node;
}

/** The node as it was read where nobody changed it, else its message with the changed fields, unknown ones kept. */
export function encodeNode(node: Node, bodies: BodyCodec): readonly Chunk[] {
  const origin = node.origin as NodeOrigin | undefined;
  if (origin?.node === node) return [chunkOf(origin.message)];
  const proto = origin ? decodeMessage(NodeProtoSchema, origin.message, node.name) : create(NodeProtoSchema);
  proto.input = [...node.inputs];
  proto.output = [...node.outputs];
  if (node.name !== "" || origin) proto.name = node.name;
  proto.opType = node.opType;
  if (node.domain !== proto.domain) proto.domain = node.domain;
  proto.attribute = [];
  const attributes = [...node.attributes].flatMap(([name, attribute]) =>
    wrapChunks(attributeField, encodeAttribute(name, attribute, bodies)),
  );
  return [chunkOf(toBinary(NodeProtoSchema, proto)), ...attributes];
}

function readAttribute(
  proto: AttributeProto,
  message: Uint8Array,
  path: string,
  external: ExternalReader,
  bodies: BodyCodec,
): Attribute {
  const origin: AttributeOrigin = { message };
  const place = `${path}.${proto.name}`;
  if (proto.refAttrName !== "") return { kind: "opaque", origin };
  switch (typeOf(proto, message)) {
    case AttributeType.FLOAT:
      return { kind: "float", value: proto.f, origin };
    case AttributeType.INT:
      return { kind: "int", value: Number(proto.i), origin };
    case AttributeType.STRING:
      return { kind: "string", value: new TextDecoder().decode(proto.s), origin };
    case AttributeType.TENSOR:
      return { kind: "tensor", value: readTensor(proto.t, place, external).tensor, origin };
    case AttributeType.GRAPH:
      return { kind: "graph", value: bodies.read(proto.g, place), origin };
    case AttributeType.FLOATS:
      return { kind: "floats", value: proto.floats, origin };
    case AttributeType.INTS:
      return { kind: "ints", value: proto.ints.map(Number), origin };
    case AttributeType.STRINGS:
      return { kind: "strings", value: proto.strings.map((text) => new TextDecoder().decode(text)), origin };
    case AttributeType.GRAPHS:
      return { kind: "graphs", value: proto.graphs.map((graph) => bodies.read(graph, place)), origin };
    default:
      return { kind: "opaque", origin };
  }
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
  const found = cutRecords(message, proto.name).find((record) => byField[record.field] !== undefined);
  return found === undefined ? AttributeType.UNDEFINED : byField[found.field];
}

function encodeAttribute(name: string, attribute: Attribute, bodies: BodyCodec): readonly Chunk[] {
  const origin = attribute.origin as AttributeOrigin | undefined;
  if (origin && !holdsExternalTensor(attribute)) return [chunkOf(origin.message)];
  const head = (type: AttributeType, fields: Partial<AttributeProto> = {}) =>
    chunkOf(toBinary(AttributeProtoSchema, create(AttributeProtoSchema, { name, type, ...fields } as AttributeProto)));
  switch (attribute.kind) {
    case "float":
      return [head(AttributeType.FLOAT, { f: attribute.value })];
    case "int":
      return [head(AttributeType.INT, { i: toInt64(attribute.value) })];
    case "string":
      return [head(AttributeType.STRING, { s: new TextEncoder().encode(attribute.value) })];
    case "floats":
      return [head(AttributeType.FLOATS, { floats: [...attribute.value] })];
    case "ints":
      return [head(AttributeType.INTS, { ints: attribute.value.map(toInt64) })];
    case "strings":
      return [head(AttributeType.STRINGS, { strings: attribute.value.map((text) => new TextEncoder().encode(text)) })];
    case "tensor":
      return [head(AttributeType.TENSOR), ...wrapChunks(5, encodeTensor("", attribute.value))];
    case "graph":
      return [head(AttributeType.GRAPH), ...wrapChunks(6, bodies.encode(attribute.value))];
    case "graphs":
      return [head(AttributeType.GRAPHS), ...attribute.value.flatMap((graph) => wrapChunks(11, bodies.encode(graph)))];
    case "opaque":
      throw new Error(`attribute ${name} was never read, so it cannot be written`);
  }
}

/** A reference to another file only holds beside that file: the bytes are taken along. */
function holdsExternalTensor(attribute: Attribute): boolean {
  return attribute.kind === "tensor" && isFileTensor(attribute.value) && attribute.value.isExternal;
}
