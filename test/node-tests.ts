import { existsSync, readdirSync, readFileSync } from "node:fs";
import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import type { Value } from "../src/graph/graph.js";
import type { Model } from "../src/graph/model.js";
import { noExternalData } from "../src/onnx/external-data.js";
import { readTensor } from "../src/onnx/tensor.js";
import { bodyOf, cutRecords } from "../src/onnx/wire.js";
import { float64Values } from "../src/tensor/tensor.js";
import { typedArrayOf } from "../src/tensor/typed-array.js";
import { sharedFolder, sharedPath } from "./shared.js";

/** What stock onnxruntime makes of one of the standard's node tests. */
export type Status = "pass" | "load-error" | "run-error" | "mismatch" | "unsupported-type";

/** Values of a tensor as the runtime hands them out. */
type Data = RuntimeTensor["data"];

export interface Outcome {
  readonly status: Status;
  readonly message: string;
  /** Of models that ran. */
  readonly outputs: ReadonlyMap<string, RuntimeTensor>;
}

const at = (...parts: readonly string[]) => sharedPath("onnx-node-tests", ...parts);

/** Statuses seen with onnxruntime-node 1.30.0, by name; none without the folder. */
export function expectedStatuses(): ReadonlyMap<string, Status> {
  if (sharedFolder === undefined || !existsSync(at("expected.json"))) return new Map();
  const expected: Readonly<Record<string, { status: Status }>> = JSON.parse(readFileSync(at("expected.json"), "utf8"));
  return new Map(Object.entries(expected).map(([name, { status }]) => [name, status]));
}

export function nodeTestModel(name: string): string {
  return at(name, "model.onnx");
}

/**
 * Loads and runs a file with the inputs of a node test, and compares its outputs with those of the test.
 *
 * @param model what the file holds: its declared types decide what can be handed to the runtime at all
 */
export async function runNodeTest(name: string, path: string, model: Model): Promise<Outcome> {
  const failed = (status: Status, message: string): Outcome => ({ status, message, outputs: new Map() });
  const { inputs, outputs } = model.graph;
  const isTensor = ({ type }: Value) => type.kind === "tensor";
  if (![...inputs, ...outputs].every(isTensor)) return failed("unsupported-type", "a value that is no tensor");
  // The binding aborts the process.
  if (outputs.some(isFourBit)) return failed("unsupported-type", "a 4-bit output");
  let session: InferenceSession;
  try {
    session = await InferenceSession.create(path, { intraOpNumThreads: 1, logSeverityLevel: 4 });
  } catch (error) {
    const message = String(error);
    return failed(/Unsupported data type: \d+/.test(message) ? "unsupported-type" : "load-error", message);
  }
  try {
    const results = await session.run(readFeeds(name, inputs));
    const outcome = new Map(Object.entries(results));
    const [difference] = outputs.flatMap((output, i) => compare(results[output.name], readValue(name, "output", i)));
    const status = difference === undefined ? "pass" : "mismatch";
    return { status, message: difference ?? "", outputs: outcome };
  } catch (error) {
    const message = String(error);
    return failed(/Tensor.type is not supported/.test(message) ? "unsupported-type" : "run-error", message);
  } finally {
    await session.release();
  }
}

function isFourBit({ type }: Value): boolean {
  return type.kind === "tensor" && /^u?int4$/.test(type.elementType);
}

function readFeeds(name: string, inputs: readonly Value[]): Record<string, RuntimeTensor> {
  const count = readdirSync(at(name, "test_data_set_0")).filter((file) => file.startsWith("input_")).length;
  return Object.fromEntries(inputs.slice(0, count).map((input, i) => [input.name, readValue(name, "input", i)]));
}

function readValue(name: string, kind: "input" | "output", i: number): RuntimeTensor {
  const path = at(name, "test_data_set_0", `${kind}_${i}.pb`);
  const { tensor } = readTensor(readFileSync(path), path, noExternalData);
  if (tensor.type === "string") {
    const texts = cutRecords(tensor.message, path).filter((record) => record.field === 6);
    return new RuntimeTensor(
      "string",
      texts.map((record) => new TextDecoder().decode(bodyOf(record, path))),
      tensor.shape,
    );
  }
  // Types without an array of their own are refused by the runtime, in its own words.
  const data = typedArrayOf(tensor.type, tensor.bytes()) ?? tensor.bytes();
  return new RuntimeTensor(tensor.type as "float32", data as Float32Array, tensor.shape);
}

/** At most this, absolute or relative to the expected value. */
const tolerance = 1e-3;

/** What differs; nothing where the two are the same. */
function compare(found: RuntimeTensor | undefined, wanted: RuntimeTensor): readonly string[] {
  if (found?.type !== wanted.type) return [`type ${found?.type}, not ${wanted.type}`];
  if (found.dims.join() !== wanted.dims.join()) return [`shape [${found.dims}], not [${wanted.dims}]`];
  const [a, b] = [valuesOf(found), valuesOf(wanted)];
  const different = b.filter((value, i) => !isClose(a[i], value)).length;
  return different === 0 ? [] : [`${different} of ${b.length} elements differ`];
}

/** Whether two outputs hold the same bits, or the same texts. */
export function isIdentical(a: RuntimeTensor, b: RuntimeTensor | undefined): boolean {
  if (b === undefined || a.type !== b.type || a.dims.join() !== b.dims.join()) return false;
  const [x, y] = [[...elementsOf(a.data)], [...elementsOf(b.data)]];
  return x.length === y.length && x.every((value, i) => Object.is(value, y[i]));
}

function elementsOf(data: Data): Iterable<unknown> {
  return data as Iterable<unknown>;
}

function valuesOf({ type, data, dims }: RuntimeTensor): readonly unknown[] {
  if (type !== "float16") return [...elementsOf(data)];
  const bits = data as unknown as Uint16Array;
  const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
  return [...float64Values({ type, shape: dims, sizeBytes: bytes.byteLength, bytes: () => bytes })];
}

function isClose(found: unknown, wanted: unknown): boolean {
  if (typeof wanted !== "number" || typeof found !== "number" || Object.is(found, wanted))
    return found === wanted || Object.is(found, wanted);
  const difference = Math.abs(found - wanted);
  return difference <= tolerance || difference <= tolerance * Math.abs(wanted);
}
