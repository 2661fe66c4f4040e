/** Protobuf messages written by hand, so that tests of the reader do not lean on the writer. */

export type Bytes = Uint8Array<ArrayBuffer>;

export function concat(...parts: readonly Uint8Array[]): Bytes {
  return concatAll(parts);
}

/** For more parts than a function takes arguments. */
export function concatAll(parts: readonly Uint8Array[]): Bytes {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    joined.set(part, position);
    position += part.length;
  }
  return joined;
}

/** @param length bytes to use, for overlong forms */
export function varint(value: number | bigint, length = 1): Bytes {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  for (; rest > 127n || bytes.length < length - 1; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Uint8Array.from([...bytes, Number(rest)]);
}

export function tag(field: number, wireType: number): Bytes {
  return varint(field * 8 + wireType);
}

export function number(field: number, value: number | bigint, length = 1): Bytes {
  return concat(tag(field, 0), varint(value, length));
}

export function bytes(field: number, ...body: readonly Uint8Array[]): Bytes {
  const joined = concat(...body);
  return concat(tag(field, 2), varint(joined.length), joined);
}

export function text(field: number, value: string): Bytes {
  return bytes(field, new TextEncoder().encode(value));
}

export function float(field: number, value: number): Bytes {
  return concat(tag(field, 5), littleEndian(Float32Array.of(value)));
}

export function littleEndian(array: ArrayBufferView): Bytes {
  return new Uint8Array(new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength));
}

/** Field numbers of the messages that tests write. */
export const modelField = {
  irVersion: 1,
  producerName: 2,
  graph: 7,
  opsetImport: 8,
  metadataProps: 14,
  functions: 25,
} as const;
export const graphField = {
  node: 1,
  name: 2,
  initializer: 5,
  docString: 10,
  input: 11,
  output: 12,
  valueInfo: 13,
  quantizationAnnotation: 14,
  sparseInitializer: 15,
} as const;
export const tensorField = {
  dims: 1,
  dataType: 2,
  segment: 3,
  floatData: 4,
  int32Data: 5,
  stringData: 6,
  int64Data: 7,
  name: 8,
  rawData: 9,
  doubleData: 10,
  uint64Data: 11,
  docString: 12,
  externalData: 13,
  dataLocation: 14,
  metadataProps: 16,
} as const;

/** An IR 8 model of opset 17 around a graph. */
export function modelOf(graph: Uint8Array, ...rest: readonly Uint8Array[]): Bytes {
  return concat(number(modelField.irVersion, 8), bytes(modelField.graph, graph), opset(17), ...rest);
}

export function opset(version: number, domain = ""): Bytes {
  return bytes(modelField.opsetImport, text(1, domain), number(2, version));
}

/** A float32 value of one dimension, for field 11, 12 or 13 of a graph. */
export function floatValue(field: number, name: string, size = 2, ...rest: readonly Uint8Array[]): Bytes {
  const shape = bytes(2, bytes(1, number(1, size)));
  return bytes(field, text(1, name), bytes(2, bytes(1, number(1, 1), shape)), ...rest);
}

export function nodeOf(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...rest: readonly Uint8Array[]
): Bytes {
  const names = [...inputs.map((name) => text(1, name)), ...outputs.map((name) => text(2, name))];
  return bytes(graphField.node, concatAll(names), text(4, opType), ...rest);
}

/** Attribute types by number. */
export const attributeType = { float: 1, int: 2, string: 3, tensor: 4, graph: 5, ints: 7, graphs: 10 } as const;

export function attributeOf(name: string, type: number, ...value: readonly Uint8Array[]): Bytes {
  return bytes(5, text(1, name), ...value, number(20, type));
}

/** The body of a tensor; wrap it into field 5 of a graph or of an attribute. */
export function tensorOf(
  name: string,
  dataType: number,
  dims: readonly number[],
  ...rest: readonly Uint8Array[]
): Bytes {
  return concat(...dims.map((size) => number(1, size)), number(2, dataType), text(8, name), ...rest);
}

export function initializerOf(...parts: Parameters<typeof tensorOf>): Bytes {
  return bytes(graphField.initializer, tensorOf(...parts));
}

/** A function of the model's own, of domain `local`, for the end of a model. */
export function functionOf(
  name: string,
  parts: {
    readonly inputs?: readonly string[];
    readonly outputs?: readonly string[];
    readonly nodes: readonly Uint8Array[];
    /** Names of attributes without a default. */
    readonly attributes?: readonly string[];
    /** Made by `attributeOf`. */
    readonly defaults?: readonly Uint8Array[];
    readonly opset?: number;
  },
  ...rest: readonly Uint8Array[]
): Bytes {
  const { inputs = [], outputs = [], nodes, attributes = [], defaults = [], opset: version = 17 } = parts;
  return bytes(
    modelField.functions,
    text(1, name),
    text(10, "local"),
    ...inputs.map((input) => text(4, input)),
    ...outputs.map((output) => text(5, output)),
    ...attributes.map((attribute) => text(6, attribute)),
    ...defaults.map((attribute) => bytes(11, unwrap(attribute))),
    concatAll(nodes.map((node) => bytes(7, unwrap(node)))),
    bytes(9, text(1, ""), number(2, version)),
    bytes(9, text(1, "local"), number(2, 1)),
    ...rest,
  );
}

/** A node that calls a function of `functionOf`. */
export function callOf(
  name: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...rest: readonly Uint8Array[]
): Bytes {
  return nodeOf(name, inputs, outputs, text(7, "local"), ...rest);
}

/** An attribute of a node in a function that takes the value of the call's attribute. */
export function referenceTo(attribute: string, name: string, type: number): Bytes {
  return attributeOf(name, type, text(21, attribute));
}

export function entry(field: number, key: string, value: string): Bytes {
  return bytes(field, text(1, key), text(2, value));
}

/** The fields of a message: number, and all bytes of the field. */
export function fieldsOf(message: Uint8Array): readonly { readonly field: number; readonly raw: string }[] {
  const fields: { field: number; raw: string }[] = [];
  for (let position = 0; position < message.length; ) {
    const start = position;
    const next = () => {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = message[position++];
        value += (byte & 127) * 2 ** shift;
        if (byte < 128) return value;
      }
    };
    const key = next();
    const wireType = key & 7;
    if (wireType === 0) next();
    else if (wireType === 2) {
      const length = next();
      position += length;
    } else position += wireType === 1 ? 8 : 4;
    fields.push({ field: key >>> 3, raw: hex(message.subarray(start, position)) });
  }
  return fields;
}

/** The body of a field that has a length; its bytes, or their text as `fieldsOf` gives it. */
export function unwrap(raw: Uint8Array | string): Uint8Array {
  const field = typeof raw === "string" ? Uint8Array.from(Buffer.from(raw, "hex")) : raw;
  let position = 0;
  for (let varints = 0; varints < 2; position++) if (field[position] < 128) varints++;
  return field.subarray(position);
}

export function hex(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");
}
