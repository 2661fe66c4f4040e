import { RecoupError } from "../errors.js";
import { type Attribute, buildGraph, type Value } from "../graph/graph.js";
import { functionKey, type LocalFunction } from "../graph/model.js";
import { FunctionProtoSchema, type OperatorSetIdProto } from "./gen/onnx_pb.js";
import { readGraph } from "./graph.js";
import type { Reading } from "./limits.js";
import { readAttributes, readNode } from "./node.js";
import { refuseExternalTensors } from "./references.js";
import { decodeText } from "./text.js";
import { decodeMessage } from "./wire.js";

/** What a function was read from: functions are written back as they were read, or not at all. */
interface FunctionOrigin {
  readonly message: Uint8Array;
}

/**
 * Reads a `FunctionProto`.
 *
 * @throws RecoupError `onnx/malformed`, `onnx/limit`, `onnx/unsupported` for tensors in another file, `graph/invalid`
 */
export function readFunction(message: Uint8Array, path: string, reading: Reading): LocalFunction {
  refuseExternalTensors("function", message, path);
  const proto = decodeMessage(FunctionProtoSchema, message, path, reading.budget);
  const named = {
    domain: decodeText(proto.domain),
    name: decodeText(proto.name),
    overload: decodeText(proto.overload),
  };
  const key = functionKey(named);
  const readBody = (body: Uint8Array, bodyPath: string) => readGraph(body, bodyPath, reading, 1);
  const parameter = (name: Uint8Array): Value => ({ name: decodeText(name), type: { kind: "other" } });
  const required = proto.attribute.map((name): [string, Attribute | undefined] => [decodeText(name), undefined]);
  const origin: FunctionOrigin = { message };
  return {
    ...named,
    attributes: new Map([...required, ...readAttributes(proto.attributeProto, path, reading, readBody)]),
    opsets: readOpsets(proto.opsetImport, key),
    body: buildGraph({
      name: key,
      inputs: proto.input.map(parameter),
      outputs: proto.output.map(parameter),
      nodes: proto.node.map((node, i) => readNode(node, `${path}.node[${i}]`, reading, readBody)),
      initializers: new Map(),
      valueInfo: new Map(),
    }),
    origin,
  };
}

/** The bytes that a function was read from. */
export function functionMessage({ name, origin }: LocalFunction): Uint8Array {
  if (origin === undefined) throw new Error(`function ${name} was never read, so it cannot be written`);
  return (origin as FunctionOrigin).message;
}

/**
 * Versions of operator sets by domain.
 *
 * @param owner what imports them, for errors
 * @throws RecoupError `graph/invalid` where one is imported twice
 */
export function readOpsets(imports: readonly OperatorSetIdProto[], owner?: string): ReadonlyMap<string, number> {
  const opsets = new Map<string, number>();
  for (const proto of imports) {
    const given = decodeText(proto.domain);
    const domain = given === "ai.onnx" ? "" : given;
    if (opsets.has(domain)) {
      const field = [owner, `opset_import ${domain || "ai.onnx"}`].filter((part) => part !== undefined).join(" ");
      throw new RecoupError("graph/invalid", "is imported twice", { field });
    }
    opsets.set(domain, Number(proto.version));
  }
  return opsets;
}
