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
import { filesOfAttribute, filesOfNode, refuseExternalTensors } from "./references.js";
import { encodeTensor, readTensor } from "./tensor.js";
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

/**
 * Reads a `NodeProto`.
 *
 * @throws RecoupError `onnx/malformed`, and what its tensors and graphs throw
 */
export function readNode(message: Uint8Array, path: string, external: ExternalReader, readBody: ReadBody): Node {
  const proto = decodeMessage(NodeProtoSchema, message, path);
  const attributes = new Map<string, Attribute>();
  for (const body of proto.attribute) {
    const attribute = decodeMessage(AttributeProtoSchema, body, `${path}.attribute`);
    const origin: AttributeOrigin = { name: attribute.name, message: body };
    origin.attribute = { ...readAttribute(attribute, body, path, external, readBody), origin };
    attributes.set(attribute.name, origin.attribute);
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

/** The node as it was read where nobody changed it, else a new message that keeps the fields nobody reads here. */
export function encodeNode(node: Node, encodeBody: EncodeBody): readonly Chunk[] {
  const origin = node.origin as NodeOrigin | undefined;
  if (origin?.node === node && filesOfNode(node).size === 0) return [chunkOf(origin.message)];
  const { name, domain } = node;
  const proto = create(NodeProtoSchema, {
    input: [...node.inputs],
    output: [...node.outputs],
    opType: node.opType,
    ...(name === "" ? {} : { name }),
    ...(domain === "" ? {} : { domain }),
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
  path: string,
  external: ExternalReader,
  readBody: ReadBody,
): Attribute {
  const place = `${path}.${proto.name}`;
  if (proto.refAttrName !== "") return { kind: "opaque" };
  switch (typeOf(proto, message)) {
    case AttributeType.FLOAT:
      return { kind: "float", value: proto.f };
    case AttributeType.INT:
      return { kind: "int", value: Number(proto.i) };
    case AttributeType.STRING:
      return { kind: "string", value: new TextDecoder().decode(proto.s) };
    case AttributeType.TENSOR:
      return { kind: "tensor", value: readTensor(proto.t, place, external).tensor };
    case AttributeType.GRAPH:
      return { kind: "graph", value: readBody(proto.g, place) };
    case AttributeType.FLOATS:
      return { kind: "floats", value: proto.floats };
    case AttributeType.INTS:
      return { kind: "ints", value: proto.ints.map(Number) };
    case AttributeType.STRINGS:
      return { kind: "strings", value: proto.strings.map((text) => new TextDecoder().decode(text)) };
    case AttributeType.GRAPHS:
      return { kind: "graphs", value: proto.graphs.map((graph) => readBody(graph, place)) };
    default:
      refuseExternalTensors("attribute", message, place);
      return { kind: "opaque" };
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

function encodeAttribute(name: string, attribute: Attribute, encodeBody: EncodeBody): readonly Chunk[] {
  const origin = attribute.origin as AttributeOrigin | undefined;
  const isOwn = origin?.attribute === attribute && origin.name === name;
  if (isOwn && filesOfAttribute(attribute).size === 0) return [chunkOf(origin.message)];
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
      return [head(AttributeType.GRAPH), ...wrapChunks(6, encodeBody(attribute.value))];
    case "graphs":
      return [head(AttributeType.GRAPHS), ...attribute.value.flatMap((graph) => wrapChunks(11, encodeBody(graph)))];
    case "opaque":
      throw new Error(`attribute ${name} was never read, so it cannot be written`);
  }
}
