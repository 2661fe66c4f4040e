import { describe, expect, it } from "vitest";
import { bytes, concat, floatValue, modelOf, nodeOf, number, opset, text } from "../../test/wire.js";
import { RecoupError } from "../errors.js";
import { readModel } from "./model.js";

/** Text, each character a byte. */
const latin1 = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));

function lineFor(file: Uint8Array): string {
  try {
    readModel(file);
  } catch (error) {
    if (error instanceof RecoupError) return error.toLine();
    throw error;
  }
  return "a model";
}

const lfs = `version https://git-lfs.github.com/spec/v1\noid sha256:${"4d7a".repeat(16)}\nsize 28019504\n`;

describe("files that are no ONNX models", () => {
  it.each([
    ["", "is empty [onnx/not-a-model]"],
    [
      lfs,
      "is no ONNX model but a Git LFS pointer, not the model itself: fetch it with `git lfs pull` [onnx/not-a-model]",
    ],
    ["\x89PNG\r\n\x1a\n", "is no ONNX model but a PNG picture [onnx/not-a-model]"],
    ["\xff\xd8\xff\xe0\x00\x10JFIF", "is no ONNX model but a JPEG picture [onnx/not-a-model]"],
    ["PK\x03\x04\x14\x00", "is no ONNX model but a ZIP archive (or a PyTorch file) [onnx/not-a-model]"],
    ["\x1f\x8b\x08\x00", "is no ONNX model but a gzip archive [onnx/not-a-model]"],
    ["\x89HDF\r\n", "is no ONNX model but an HDF5 file (Keras?) [onnx/not-a-model]"],
    ["<!DOCTYPE html><html>", "is no ONNX model but a web page [onnx/not-a-model]"],
    ["\xef\xbb\xbf\n<html lang='en'>", "is no ONNX model but a web page [onnx/not-a-model]"],
    ['{"error": "not found"}', "is no ONNX model but JSON [onnx/not-a-model]"],
    ["Entry not found", "is no ONNX model but a text [onnx/not-a-model]"],
    [
      "\x1c\x00\x00\x00TFL3",
      "is no ONNX model but a TensorFlow Lite model: convert it to ONNX first [onnx/not-a-model]",
    ],
    ["GGUF\x03\x00\x00\x00", "is no ONNX model but a GGUF model: convert it to ONNX first [onnx/not-a-model]"],
    ["\x93NUMPY\x01\x00", "is no ONNX model but a NumPy array [onnx/not-a-model]"],
  ])("says so of %j", (head, line) => {
    expect(lineFor(latin1(head))).toBe(line);
    expect(line.split("\n")).toHaveLength(1);
  });

  it("knows the files of onnxruntime and safetensors by what stands behind the first bytes", () => {
    expect(lineFor(latin1("\x18\x00\x00\x00ORTM"))).toContain("onnxruntime's own format");
    expect(lineFor(latin1('\x30\x01\x00\x00\x00\x00\x00\x00{"w":{'))).toContain("safetensors");
  });

  it("says that a file of other fields holds no graph", () => {
    expect(lineFor(text(2, "pytorch"))).toBe("is no ONNX model: it holds no graph [onnx/not-a-model]");
  });

  it("takes a model whose first field is its producer or its graph", () => {
    const graph = concat(nodeOf("Relu", ["x"], ["y"]), floatValue(11, "x"), floatValue(12, "y"));
    expect(lineFor(concat(text(2, "exporter"), modelOf(graph)))).toBe("a model");
    expect(lineFor(concat(bytes(7, graph), number(1, 8), opset(17)))).toBe("a model");
  });
});
