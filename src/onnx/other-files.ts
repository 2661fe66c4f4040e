import { RecoupError } from "../errors.js";

/** The files people most often hand in by mistake, told by their first bytes. */
const known: readonly (readonly [sign: string | RegExp, what: string])[] = [
  ["version https://git-lfs", "a Git LFS pointer, not the model itself: fetch it with `git lfs pull`"],
  ["\u0089PNG", "a PNG picture"],
  ["\u00ff\u00d8\u00ff", "a JPEG picture"],
  ["PK\u0003\u0004", "a ZIP archive (or a PyTorch file)"],
  ["\u001f\u008b", "a gzip archive"],
  ["\u0089HDF", "an HDF5 file (Keras?)"],
  [/^(\xef\xbb\xbf)?\s*(<!doctype|<html|<\?xml)/i, "a web page"],
  [/^\s*\{/, "JSON"],
  [/^.{8}\{"/s, "a safetensors file: export the network to ONNX, not its weights"],
  [/^.{4}TFL3/s, "a TensorFlow Lite model: convert it to ONNX first"],
  [/^.{4}ORTM/s, "a model in onnxruntime's own format: give the ONNX file it was made from"],
  ["GGUF", "a GGUF model: convert it to ONNX first"],
  ["\u0093NUMPY", "a NumPy array"],
];

/** @throws RecoupError `onnx/not-a-model` for an empty file and for the files that are known */
export function refuseOtherFiles(bytes: Uint8Array): void {
  if (bytes.byteLength === 0) throw new RecoupError("onnx/not-a-model", "is empty");
  const head = headOf(bytes);
  for (const [sign, what] of known) {
    const matches = typeof sign === "string" ? head.startsWith(sign) : sign.test(head);
    if (matches) throw new RecoupError("onnx/not-a-model", `is no ONNX model but ${what}`);
  }
}

/** For files that are not even made of fields: a server's "not found" is the most frequent. */
export function looksLikeText(bytes: Uint8Array): boolean {
  return /^[\t\n\r -~]*$/.test(headOf(bytes));
}

/** The first bytes, each as the character of its number. */
function headOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, 64));
}
