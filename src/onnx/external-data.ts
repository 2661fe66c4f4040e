import { RecoupError } from "../errors.js";

/** Where the elements of a tensor stand in another file. */
export interface ExternalLocation {
  /** A path relative to the model's folder, with forward slashes. */
  readonly location: string;
  /** In bytes. */
  readonly offset: number;
  /** In bytes; undefined means "to the end". */
  readonly length?: number;
}

/** Gives the bytes of tensors that stand outside the model file. */
export interface ExternalReader {
  /** The model's folder, where the files are on disk: a runtime can read them itself. */
  readonly folder?: string;
  /**
   * @param place the tensor, for errors
   * @throws RecoupError `onnx/external-data` where the file is missing, outside the model's folder or too short
   */
  read(location: string, offset: number, sizeBytes: number, place: string): Uint8Array;
}

/** For models that come without a folder. */
export const noExternalData: ExternalReader = {
  read(location, _offset, _sizeBytes, place) {
    throw new RecoupError("onnx/external-data", `stands in ${location}, which is not given`, { field: place });
  },
};

/** Multiples of this let a runtime map the file into memory. */
export const externalAlignment = 4096;

/**
 * Reads the entries of `TensorProto.external_data`. Keys that the format does not name are ignored.
 *
 * @throws RecoupError `onnx/external-data` for a location outside the model's folder or a number that is none
 */
export function externalLocation(entries: ReadonlyMap<string, string>, place: string): ExternalLocation {
  const location = entries.get("location") ?? "";
  const parts = location.split(/[/\\]/);
  if (
    location === "" ||
    location.includes("\0") ||
    parts.includes("..") ||
    parts[0] === "" ||
    /^[a-z]:/i.test(location)
  ) {
    const message = `names external data outside the model's folder: ${JSON.stringify(location)}`;
    throw new RecoupError("onnx/external-data", message, { field: place });
  }
  const length = entries.get("length");
  return {
    location,
    offset: parseSize(entries.get("offset") ?? "0", "offset", place),
    length: length === undefined ? undefined : parseSize(length, "length", place),
  };
}

function parseSize(text: string, key: string, place: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new RecoupError("onnx/external-data", `has the ${key} ${JSON.stringify(text)}`, { field: place });
  }
  return value;
}
