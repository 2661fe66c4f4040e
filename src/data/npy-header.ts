import { RecoupError } from "../errors.js";
import type { ElementType } from "../tensor/element-type.js";

export interface NpyHeader {
  readonly type: ElementType;
  readonly isBigEndian: boolean;
  /** The first axis varies fastest. */
  readonly isFortranOrder: boolean;
  readonly shape: readonly number[];
}

/** NumPy's kind and size in bytes, without the byte order. */
const typesByCode: ReadonlyMap<string, ElementType> = new Map([
  ["f2", "float16"],
  ["f4", "float32"],
  ["f8", "float64"],
  ["i1", "int8"],
  ["i2", "int16"],
  ["i4", "int32"],
  ["i8", "int64"],
  ["u1", "uint8"],
  ["u2", "uint16"],
  ["u4", "uint32"],
  ["u8", "uint64"],
  ["b1", "bool"],
]);

/** NumPy's own limit is 64. */
const largestRank = 64;

/**
 * Reads the dictionary of a `.npy` header, `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`. It is Python
 * text, of which only these literals are understood; nothing is evaluated.
 *
 * @throws RecoupError `data/unreadable`
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
export function parseNpyHeader(text: string): NpyHeader {
  const entries = new Map(readDictionary(text));
  const [descr, order, shape] = ["descr", "fortran_order", "shape"].map((key) => entries.get(key));
  if (typeof descr !== "string") throw unreadable("has no element type in its header");
  if (typeof order !== "boolean") throw unreadable("does not say in its header which axis comes first");
  if (!Array.isArray(shape)) throw unreadable("has no shape in its header");
  if (shape.length > largestRank) throw unreadable(`has ${shape.length} axes`);
  return { ...parseType(descr), isFortranOrder: order, shape };
}

/** @throws RecoupError `onnx/tensor` for an element type that NumPy does not have */
export function formatNpyHeader(type: ElementType, shape: readonly number[]): string {
  const code = [...typesByCode].find(([, known]) => known === type)?.[0];
  if (!code) throw new RecoupError("onnx/tensor", `${type} has no counterpart in .npy`);
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  return `{'descr': '${code.endsWith("1") ? "|" : "<"}${code}', 'fortran_order': False, 'shape': (${sizes}), }`;
}

function parseType(descr: string): { readonly type: ElementType; readonly isBigEndian: boolean } {
  const type = /^[<>|=]/.test(descr) ? typesByCode.get(descr.slice(1)) : undefined;
  if (type) return { type, isBigEndian: descr.startsWith(">") };
  if (/^[|<>=]?O/.test(descr)) throw unreadable("holds Python objects; only arrays of numbers are read");
  throw unreadable(`holds elements of type "${descr}"; read are ${[...typesByCode.keys()].join(" ")}`);
}

type Literal = string | boolean | readonly number[];

function readDictionary(text: string): [string, Literal][] {
  const token = tokenizer(text);
  const entries: [string, Literal][] = [];
  token.expect("{");
  while (token.peek() !== "}") {
    const key = readLiteral(token);
    if (typeof key !== "string") throw unreadable("has a malformed header");
    token.expect(":");
    entries.push([key, readLiteral(token)]);
    if (token.peek() !== "}") token.expect(",");
  }
  token.expect("}");
  token.expect("");
  return entries;
}

function readLiteral(token: Tokenizer): Literal {
  const text = token.take();
  if (text === "True") return true;
  if (text === "False") return false;
  if (text.startsWith("'") || text.startsWith('"')) return text.slice(1, -1);
  if (text === "[") throw unreadable("holds records; only arrays of numbers are read");
  if (text !== "(") throw unreadable("has a malformed header");
  const numbers: number[] = [];
  while (token.peek() !== ")") {
    const number = Number(/^\d+/.exec(token.take())?.[0] ?? Number.NaN);
    if (!Number.isSafeInteger(number)) throw unreadable("has a malformed shape");
    numbers.push(number);
    if (token.peek() !== ")") token.expect(",");
  }
  token.expect(")");
  return numbers;
}

interface Tokenizer {
  /** The next token, or "" at the end. */
  peek(): string;
  take(): string;
  expect(text: string): void;
}

function tokenizer(text: string): Tokenizer {
  // Python 2 wrote sizes as 3L.
  const pattern = /\s*('[^'\\]*'|"[^"\\]*"|True|False|\d+L?|[{}()[\],:])/y;
  let next = "";
  const advance = () => {
    const start = pattern.lastIndex;
    const match = pattern.exec(text);
    if (!match && text.slice(start).trim() !== "") throw unreadable("has a malformed header");
    if (!match) pattern.lastIndex = text.length;
    next = match?.[1] ?? "";
  };
  const take = () => {
    const taken = next;
    advance();
    return taken;
  };
  advance();
  return {
    peek: () => next,
    take,
    expect: (expected) => {
      if (next !== expected) throw unreadable("has a malformed header");
      if (expected !== "") advance();
    },
  };
}

function unreadable(message: string): RecoupError {
  return new RecoupError("data/unreadable", message);
}
