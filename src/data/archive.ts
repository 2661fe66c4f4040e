import type { ZodType } from "zod";
import { type ErrorCode, RecoupError } from "../errors.js";
import { fingerprintOf } from "./fingerprint.js";
import { unzip, zip } from "./zip.js";

interface Fingerprinted {
  /** Of the parts, in their order. */
  readonly fingerprint: string;
}

/** One kind of file that Recoup writes for itself: a zip archive of `header.json` and parts for which the header vouches. */
export interface ArchiveKind<Header extends Fingerprinted> {
  /** Of the errors. */
  readonly code: ErrorCode;
  /** What it should be, for errors: `a file of statistics`. */
  readonly what: string;
  /** Of what stands in `header.json`. */
  readonly header: ZodType<Header>;
  /** Names of the entries. */
  readonly parts: readonly string[];
  /** Whether it shall be small rather than soon written. */
  readonly isCompressed: boolean;
}

const headerEntry = "header.json";

/** The same header and parts give the same bytes. */
export async function packArchive<Header extends Fingerprinted>(
  kind: ArchiveKind<Header>,
  header: Omit<Header, "fingerprint">,
  parts: readonly Uint8Array[],
): Promise<Uint8Array> {
  const text = `${JSON.stringify({ ...header, fingerprint: await fingerprintOf(parts) }, null, 2)}\n`;
  const entries = kind.parts.map((name, i) => [name, parts[i]] as const);
  return zip(new Map([[headerEntry, new TextEncoder().encode(text)], ...entries]), kind.isCompressed);
}

/**
 * Opens what `packArchive` has made.
 *
 * @throws RecoupError with the kind's code for anything else, and where bytes of the parts were changed or are missing
 */
export async function unpackArchive<Header extends Fingerprinted>(
  kind: ArchiveKind<Header>,
  bytes: Uint8Array,
): Promise<{ readonly header: Header; readonly parts: readonly Uint8Array[] }> {
  const { code, what } = kind;
  const names = [headerEntry, ...kind.parts];
  const entries = unzip(bytes, {
    code,
    what,
    isWanted: (name) => names.includes(name),
    mostEntries: names.length,
    entries: "entries",
  });
  const [text, ...parts] = names.map((name) => {
    const entry = entries.get(name);
    if (entry === undefined) throw new RecoupError(code, `is not ${what}`);
    return entry;
  });
  const header = readHeader(kind, text);
  if ((await fingerprintOf(parts)) !== header.fingerprint) {
    throw new RecoupError(code, "is damaged: its bytes are not those that were written");
  }
  return { header, parts };
}

/** Bytes one behind the other. */
export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let position = 0;
  for (const part of parts) {
    joined.set(part, position);
    position += part.byteLength;
  }
  return joined;
}

function readHeader<Header extends Fingerprinted>({ code, header }: ArchiveKind<Header>, text: Uint8Array): Header {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(text));
  } catch (cause) {
    throw new RecoupError(code, `is not JSON: ${(cause as Error).message}`, { field: headerEntry }, { cause });
  }
  const result = header.safeParse(value);
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw new RecoupError(code, message, { field: [headerEntry, ...path.map(String)].join(".") });
}
