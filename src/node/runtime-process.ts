/**
 * The child process that holds onnxruntime. Loading and running a model block the thread they happen on, and a hostile
 * or broken model can end the process: neither may reach the tool.
 *
 * Arguments: the folder of the temporary files, the number after which held tensors are numbered, and how many bytes of
 * them stay in memory.
 */
import { readFileSync, rmSync } from "node:fs";
import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import type { HeldTensor, RunMode } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import type { Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import { bytesOf } from "../tensor/tensor.js";
import { typedArrayOf } from "../tensor/typed-array.js";
import { openMail, TensorMail } from "./runtime-mail.js";
import type { Envelope, Named, Reply, Request, SentTensor } from "./runtime-messages.js";
import { TensorFiles } from "./runtime-tensor-files.js";

const [folder, ...numbers] = process.argv.slice(2);
const [firstHeld, mostBytes] = numbers.map(Number);
const sessions = new Map<number, InferenceSession>();
const held = new Map<number, Held>();
const files = new TensorFiles(folder);
const mail = new TensorMail(folder, "reply ");
let lastSession = 0;
let lastHeld = firstHeld;
/** What the tensors that are held in memory take; at most `mostBytes`. */
let usedBytes = 0;
/** About what tensors take that nobody needs any more. */
let garbageBytes = 0;

interface Held {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  /** Undefined for a tensor that stands in a file. */
  readonly inMemory: RuntimeTensor | undefined;
}

process.on("message", async (message) => {
  const { id, body } = message as Envelope<Request>;
  const reply = await answer(body).catch(failed);
  // What cannot be told comes from a tool that is gone: the write may find that before the channel says so.
  process.send?.({ id, body: reply } satisfies Envelope<Reply>, (error: Error | null) => error && leave());
  collectGarbage();
});
// The tool is gone, perhaps killed before it could clean up.
process.on("disconnect", leave);
// Or it was gone before somebody listened: loading the runtime takes a while.
if (!process.connected) leave();
// They reach the tool too, which decides what they mean.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {});

function leave(): void {
  rmSync(folder, { recursive: true, force: true });
  process.exit();
}

async function answer(request: Request): Promise<Reply> {
  switch (request.kind) {
    case "open":
      return open(request);
    case "run":
      return run(request);
    case "hold": {
      // All or none: what one of them throws must not leave the others behind.
      // Sent tensors are views of their message: not copied, one that stays in memory would keep all of it.
      const copy = (tensor: SentTensor) => ({ ...tensor, bytes: new Uint8Array(tensor.bytes) });
      const tensors = openMail(request.mail).flatMap(([name, tensor]) =>
        "held" in tensor ? [] : [[name, toRuntime(name, request.mail.file ? tensor : copy(tensor))] as const],
      );
      return { kind: "held", tensors: holdAll(tensors) };
    }
    case "release":
      for (const id of request.held) release(id);
      return { kind: "done" };
    case "close":
      await sessionOf(request.session).release();
      sessions.delete(request.session);
      return { kind: "done" };
  }
}

function failed(error: unknown): Reply {
  if (!(error instanceof RecoupError)) return { kind: "failed", message: String(error) };
  return { kind: "failed", message: error.message, code: error.code, place: error.place };
}

const settingsOf: Readonly<Record<RunMode, InferenceSession.SessionOptions>> = {
  // Without QDQ fusion, dequantized weights fold into float constants and every layer computes what the file says.
  exact: { extra: { session: { disable_quant_qdq: "1" } } },
  shipped: {},
  folded: { graphOptimizationLevel: "basic", extra: { session: { disable_quant_qdq: "1", disable_prepacking: "1" } } },
  // To rearrange weights for the kernels takes most of the time that is left.
  plain: { graphOptimizationLevel: "disabled", extra: { session: { disable_prepacking: "1" } } },
};

async function open({ path, mode, threads, tensorFolder }: Extract<Request, { kind: "open" }>): Promise<Reply> {
  const start = performance.now();
  const options: InferenceSession.SessionOptions = {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads ?? 0,
    interOpNumThreads: 1,
    // Errors only: warnings about models are the report's business, and stderr belongs to the tool.
    logSeverityLevel: 3,
    ...settingsOf[mode],
  };
  const session =
    tensorFolder === undefined
      ? await InferenceSession.create(path, options)
      : await InferenceSession.create(readFileSync(path), withTensorFolder(options, tensorFolder));
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

/** The runtime looks for tensors in another folder than the model's only where it is given the model as bytes. */
function withTensorFolder(options: InferenceSession.SessionOptions, folder: string): InferenceSession.SessionOptions {
  const extra: { readonly session?: object } = options.extra ?? {};
  const session = { ...extra.session, model_external_initializers_file_folder_path: folder };
  return { ...options, extra: { ...extra, session } };
}

async function run(request: Extract<Request, { kind: "run" }>): Promise<Reply> {
  const sent = openMail(request.feeds);
  const session = sessionOf(request.session);
  const fetch = request.fetch ?? numbersOf(session);
  for (const output of session.outputMetadata) {
    // The binding would abort the whole process.
    if (fetch.includes(output.name) && isSmall(output)) {
      throw new Error(`${output.name}: a ${output.type} tensor cannot be fetched`);
    }
  }
  const feeds = Object.fromEntries(toFeeds(sent));
  const start = performance.now();
  const results = await session.run(feeds, [...fetch]);
  const elapsedMs = performance.now() - start;
  const outputs = Object.entries(results);
  for (const tensor of [...Object.values(feeds), ...Object.values(results)]) garbageBytes += sizeOf(tensor);
  if (request.hold) return { kind: "held", tensors: holdAll(outputs) };
  return {
    kind: "ran",
    outputs: mail.send(outputs.map(([name, tensor]) => [name, fromRuntime(name, tensor)])),
    elapsedMs,
  };
}

/** The outputs that can leave the process; all of them where none can, so that the runtime says why. */
function numbersOf({ outputMetadata, outputNames }: InferenceSession): readonly string[] {
  const fetched = outputMetadata.filter((output) => output.isTensor && output.type !== "string" && !isSmall(output));
  return fetched.length === 0 ? outputNames : fetched.map(({ name }) => name);
}

function isSmall(output: InferenceSession.ValueMetadata): output is InferenceSession.TensorValueMetadata {
  return output.isTensor && /^u?int[24]$/.test(output.type);
}

/** All or none. */
function holdAll(tensors: Named<RuntimeTensor>): Named<HeldTensor> {
  const before = lastHeld;
  try {
    return tensors.map(([name, tensor]) => [name, hold(tensor)]);
  } catch (error) {
    for (let id = before + 1; id <= lastHeld; id++) release(id);
    throw error;
  }
}

/** Keeps a tensor in memory while there is room, else in a file. */
function hold(tensor: RuntimeTensor): HeldTensor {
  const { data } = tensor;
  const [type, shape] = [tensor.type as ElementType, tensor.dims];
  // Strings are not stored as bytes: they always stay, and no layer that is quantized reads them.
  const bytes = ArrayBuffer.isView(data) ? bytesOf(data) : new Uint8Array(0);
  const id = ++lastHeld;
  const sizeBytes = bytes.byteLength;
  if (usedBytes + sizeBytes > mostBytes) {
    files.write(id, bytes);
    held.set(id, { type, shape, sizeBytes, inMemory: undefined });
  } else {
    usedBytes += sizeBytes;
    held.set(id, { type, shape, sizeBytes, inMemory: tensor });
  }
  return { held: id, type, shape };
}

function release(id: number): void {
  const known = held.get(id);
  if (!known) return;
  held.delete(id);
  garbageBytes += known.sizeBytes;
  if (known.inMemory) usedBytes -= known.sizeBytes;
  else files.remove(id);
}

/** So much may lie about before it is cleared away. */
const mostGarbageBytes = 64e6;

/** The engine sees small objects where large tensors hang on: left alone, it would let these add up to hundreds of megabytes. */
function collectGarbage(): void {
  if (garbageBytes < mostGarbageBytes) return;
  garbageBytes = 0;
  globalThis.gc?.();
}

function sizeOf({ data }: RuntimeTensor): number {
  return ArrayBuffer.isView(data) ? data.byteLength : 0;
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

/** What a session is fed. A held tensor may be fed by several names: it is read once. */
function toFeeds(tensors: Named<SentTensor | HeldTensor>): Named<RuntimeTensor> {
  const read = new Map<number, RuntimeTensor>();
  return tensors.map(([name, tensor]) => {
    if (!("held" in tensor)) return [name, toRuntime(name, tensor)];
    const feed = read.get(tensor.held) ?? fromHeld(name, tensor.held);
    read.set(tensor.held, feed);
    return [name, feed];
  });
}

function fromHeld(name: string, id: number): RuntimeTensor {
  const known = held.get(id);
  if (!known) throw new Error(`${name}: the tensor was released`);
  const { type, shape, sizeBytes, inMemory } = known;
  return inMemory ?? toRuntime(name, { type, shape, bytes: files.read(id, sizeBytes) });
}

function toRuntime(name: string, tensor: SentTensor): RuntimeTensor {
  const bytes = tensor.bytes.byteOffset % 8 === 0 ? tensor.bytes : new Uint8Array(tensor.bytes);
  const data = typedArrayOf(tensor.type, bytes);
  if (!data) throw new Error(`${name}: a ${tensor.type} tensor cannot be fed`);
  return new RuntimeTensor(tensor.type as "float32", data as Float32Array, tensor.shape);
}

function fromRuntime(name: string, tensor: RuntimeTensor): SentTensor {
  const data = tensor.data;
  if (!ArrayBuffer.isView(data)) throw new Error(`${name}: a ${tensor.type} tensor cannot be fetched`);
  return { type: tensor.type as ElementType, shape: tensor.dims, bytes: bytesOf(data) };
}
