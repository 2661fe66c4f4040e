import type { Feeds } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import type { Value } from "../graph/graph.js";
import { checkFeeds, checkNames } from "./fit.js";
import { readNestedArray } from "./nested-array.js";
import { tensorOf } from "./tensor-of.js";

/**
 * Reads feeds, one JSON object a line: `{"input_ids":[1,403,407]}`. Keys are the model's inputs, nested arrays give the
 * shape, the model gives the element type. An array with one axis less than the input gets a batch dimension of 1. Blank
 * lines are left out.
 *
 * @throws RecoupError `data/unreadable` for what is not JSON, `data/mismatch` for what the model does not take; place:
 * `line 3`, or `line 3: input_ids`
 */
export function readJsonl(bytes: Uint8Array, inputs: readonly Value[]): readonly Feeds[] {
  const samples: Feeds[] = [];
  for (const { number, text } of linesOf(bytes)) {
    if (text.trim() !== "") samples.push(readFeeds(text, `line ${number}`, inputs));
  }
  return samples;
}

function readFeeds(text: string, line: string, inputs: readonly Value[]): Feeds {
  const record = parseRecord(text, line);
  try {
    checkNames(line, Object.keys(record), inputs);
    const feeds = new Map(inputs.map((input) => [input.name, readFeed(record[input.name], input)] as const));
    checkFeeds(line, feeds, inputs);
    return feeds;
  } catch (error) {
    if (!(error instanceof RecoupError)) throw error;
    throw new RecoupError(error.code, error.message, { field: `${line}: ${error.place.field}` }, { cause: error });
  }
}

function readFeed(value: unknown, { name, type }: Value) {
  if (type.kind !== "tensor") throw new RecoupError("data/mismatch", "the model takes no tensor here", { field: name });
  const { shape, values } = readNestedArray(value, name);
  const lacksBatch = type.shape?.length === shape.length + 1;
  return tensorOf(type.elementType, lacksBatch ? [1, ...shape] : shape, values, name);
}

function parseRecord(text: string, line: string): Readonly<Record<string, unknown>> {
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (cause) {
    throw new RecoupError("data/unreadable", "is not JSON", { field: line }, { cause });
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw new RecoupError("data/unreadable", 'is no JSON object such as {"input_ids":[1,2]}', { field: line });
  }
  return record as Readonly<Record<string, unknown>>;
}

/** Decodes line by line: a whole file can be longer than the longest string. */
function* linesOf(bytes: Uint8Array): Generator<{ readonly number: number; readonly text: string }> {
  let start = 0;
  for (let number = 1; start < bytes.byteLength; number++) {
    const found = bytes.indexOf(0x0a, start);
    const end = found < 0 ? bytes.byteLength : found;
    yield { number, text: decodeLine(bytes.subarray(start, end), number) };
    start = end + 1;
  }
}

function decodeLine(bytes: Uint8Array, number: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new RecoupError("data/unreadable", "is not UTF-8 text", { field: `line ${number}` }, { cause });
  }
}
