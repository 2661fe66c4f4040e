/** What a fingerprint is made of, in order. */
export type Parts = AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;

/**
 * SHA-256, hexadecimal, of the SHA-256 of each part: where one part ends and the next begins makes a difference, and no
 * more than one part is held at a time.
 */
export async function fingerprintOf(parts: Parts): Promise<string> {
  const digests: Uint8Array[] = [];
  for await (const part of parts) {
    // A copy, for tensors may stand in memory that the digest does not take.
    digests.push(await sha256(typeof part === "string" ? new TextEncoder().encode(part) : new Uint8Array(part)));
  }
  const joined = new Uint8Array(digests.flatMap((digest) => [...digest]));
  return Array.from(await sha256(joined), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}
