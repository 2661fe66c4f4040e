/**
 * The child process that holds onnxruntime. Loading and running a model block the thread they happen on, and a hostile
 * or broken model can end the process: neither may reach the tool.
 *
 * Arguments: the folder of the temporary files, and the number after which held tensors are numbered.
 */
import { rmSync } from "node:fs";
import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import type { HeldTensor, RunMode } from "../engine/engine.js";
import type { Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import type { Envelope, Reply, Request, SentTensor } from "./runtime-messages.js";

const [folder, firstHeld] = process.argv.slice(2);
const sessions = new Map<number, InferenceSession>();
const held = new Map<number, RuntimeTensor>();
let lastSession = 0;
let lastHeld = Number(firstHeld);

process.on("message", async (message) => {
  const { id, body } = message as Envelope<Request>;
  const reply = await answer(body).catch((error: unknown): Reply => ({ kind: "failed", message: String(error) }));
  process.send?.({ id, body: reply } satisfies Envelope<Reply>);
});
// The tool is gone, perhaps killed before it could clean up.
process.on("disconnect", () => {
  rmSync(folder, { recursive: true, force: true });
  process.exit();
});
// They reach the tool too, which decides what they mean.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {});

async function answer(request: Request): Promise<Reply> {
  switch (request.kind) {
    case "open":
      return open(request.path, request.mode, request.threads);
    case "run":
      return run(request);
    case "hold": {
      // All or none: what one of them throws must not leave the others behind.
      const tensors = request.tensors.map(([name, tensor]) => [name, toRuntime(name, tensor)] as const);
      return { kind: "held", tensors: tensors.map(([name, tensor]) => [name, hold(tensor)]) };
    }
    case "release":
      for (const id of request.held) held.delete(id);
      return { kind: "done" };
    case "close":
      await sessionOf(request.session).release();
      sessions.delete(request.session);
      return { kind: "done" };
  }
}

async function open(path: string, mode: RunMode, threads: number | undefined): Promise<Reply> {
  const start = performance.now();
  const session = await InferenceSession.create(path, {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads ?? 0,
    interOpNumThreads: 1,
    // Errors only: warnings about models are the report's business, and stderr belongs to the tool.
    logSeverityLevel: 3,
    // Without QDQ fusion, dequantized weights fold into float constants and every layer computes what the file says.
    extra: mode === "exact" ? { session: { disable_quant_qdq: "1" } } : {},
  });
  const elapsedMs = performance.now() - start;
  lastSession++;
  sessions.set(lastSession, session);
  return {
    kind: "opened",
    session: lastSession,
    inputs: session.inputMetadata.map(toValue),
    outputs: session.outputMetadata.map(toValue),
    elapsedMs,
  };
}

async function run(request: Extract<Request, { kind: "run" }>): Promise<Reply> {
  const session = sessionOf(request.session);
  const fetch = request.fetch ?? session.outputNames;
  for (const output of session.outputMetadata) {
    // The binding would abort the whole process.
    if (output.isTensor && fetch.includes(output.name) && /^u?int[24]$/.test(output.type)) {
      throw new Error(`${output.name}: a ${output.type} tensor cannot be fetched`);
    }
  }
  const feeds = Object.fromEntries(request.feeds.map(([name, tensor]) => [name, toRuntime(name, tensor)]));
  const start = performance.now();
  const results = await session.run(feeds, [...fetch]);
  const elapsedMs = performance.now() - start;
  const outputs = Object.entries(results);
  if (request.hold) return { kind: "held", tensors: outputs.map(([name, tensor]) => [name, hold(tensor)]) };
  return { kind: "ran", outputs: outputs.map(([name, tensor]) => [name, fromRuntime(name, tensor)]), elapsedMs };
}

function hold(tensor: RuntimeTensor): HeldTensor {
  held.set(++lastHeld, tensor);
  return { held: lastHeld, type: tensor.type as ElementType, shape: tensor.dims };
}

function sessionOf(id: number): InferenceSession {
  const session = sessions.get(id);
  if (!session) throw new Error(`session ${id} is closed`);
  return session;
}

function toValue(metadata: InferenceSession.ValueMetadata): Value {
  if (!metadata.isTensor) return { name: metadata.name, type: { kind: "other" } };
  const elementType = metadata.type as ElementType;
  // The binding gives the same empty list for a scalar and for a value of which not even the rank is known.
  if (metadata.shape.length === 0) return { name: metadata.name, type: { kind: "tensor", elementType } };
  const shape = metadata.shape.map((size) => (size === "" || size === -1 ? null : size));
  return { name: metadata.name, type: { kind: "tensor", elementType, shape } };
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

function toRuntime(name: string, tensor: SentTensor | HeldTensor): RuntimeTensor {
  if ("held" in tensor) {
    const known = held.get(tensor.held);
    if (!known) throw new Error(`${name}: the tensor was released`);
    return known;
  }
  const arrayType = arrayTypes[tensor.type as keyof typeof arrayTypes];
  if (!arrayType) throw new Error(`${name}: a ${tensor.type} tensor cannot be fed`);
  const bytes = tensor.bytes.byteOffset % 8 === 0 ? tensor.bytes : new Uint8Array(tensor.bytes);
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
  return { type: tensor.type as ElementType, shape: tensor.dims, bytes };
}
