/**
 * The child process that holds onnxruntime. Loading and running a model block the thread they happen on, and a hostile
 * or broken model can end the process: neither may reach the tool.
 */
import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import type { RunMode } from "../engine/engine.js";
import type { Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import type { Envelope, Reply, Request, SentTensor } from "./runtime-messages.js";

const sessions = new Map<number, InferenceSession>();
let lastSession = 0;

process.on("message", async (message) => {
  const { id, body } = message as Envelope<Request>;
  const reply = await answer(body).catch((error: unknown): Reply => ({ kind: "failed", message: String(error) }));
  process.send?.({ id, body: reply } satisfies Envelope<Reply>);
});
process.on("disconnect", () => process.exit());

async function answer(request: Request): Promise<Reply> {
  switch (request.kind) {
    case "open":
      return open(request.path, request.mode, request.threads);
    case "run":
      return run(sessionOf(request.session), request.feeds, request.fetch);
    case "close":
      await sessionOf(request.session).release();
      sessions.delete(request.session);
      return { kind: "closed" };
  }
}

async function open(path: string, mode: RunMode, threads: number | undefined): Promise<Reply> {
  const session = await InferenceSession.create(path, {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads ?? 0,
    interOpNumThreads: 1,
    // Errors only: warnings about models are the report's business, and stderr belongs to the tool.
    logSeverityLevel: 3,
    // Without QDQ fusion, dequantized weights fold into float constants and every layer computes what the file says.
    extra: mode === "exact" ? { session: { disable_quant_qdq: "1" } } : {},
  });
  lastSession++;
  sessions.set(lastSession, session);
  return {
    kind: "opened",
    session: lastSession,
    inputs: session.inputMetadata.map(toValue),
    outputs: session.outputMetadata.map(toValue),
  };
}

async function run(
  session: InferenceSession,
  sent: readonly SentTensor[],
  fetch: readonly string[] | undefined,
): Promise<Reply> {
  const feeds = Object.fromEntries(sent.map((tensor) => [tensor.name, toRuntime(tensor)]));
  const start = performance.now();
  const results = await session.run(feeds, [...(fetch ?? session.outputNames)]);
  const elapsedMs = performance.now() - start;
  const outputs = Object.entries(results).map(([name, tensor]) => fromRuntime(name, tensor));
  return { kind: "ran", outputs, elapsedMs };
}

function sessionOf(id: number): InferenceSession {
  const session = sessions.get(id);
  if (!session) throw new Error(`session ${id} is closed`);
  return session;
}

function toValue(metadata: InferenceSession.ValueMetadata): Value {
  if (!metadata.isTensor) return { name: metadata.name, type: { kind: "other" } };
  const shape = metadata.shape.map((size) => (size === "" || size === -1 ? null : size));
  return { name: metadata.name, type: { kind: "tensor", elementType: metadata.type as ElementType, shape } };
}

const arrayTypes = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
} as const;

function toRuntime(tensor: SentTensor): RuntimeTensor {
  const arrayType = arrayTypes[tensor.type as keyof typeof arrayTypes];
  if (!arrayType) throw new Error(`${tensor.name}: a ${tensor.type} tensor cannot be fed`);
  const bytes = tensor.bytes.byteOffset % 8 === 0 ? tensor.bytes : tensor.bytes.slice();
  const data = new arrayType(
    bytes.buffer as ArrayBuffer,
    bytes.byteOffset,
    bytes.byteLength / arrayType.BYTES_PER_ELEMENT,
  );
  return new RuntimeTensor(tensor.type as "float32", data as Float32Array, tensor.shape);
}

function fromRuntime(name: string, tensor: RuntimeTensor): SentTensor {
  const data = tensor.data;
  if (!ArrayBuffer.isView(data)) throw new Error(`${name}: a ${tensor.type} tensor cannot be fetched`);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { name, type: tensor.type as ElementType, shape: tensor.dims, bytes };
}
