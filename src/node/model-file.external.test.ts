import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runFile } from "../../test/run-file.js";
import {
  attributeOf,
  attributeType,
  bytes,
  concat,
  entry,
  floatValue,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  tensorOf,
  text,
} from "../../test/wire.js";
import { withGraph } from "../graph/model.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { readModelFile, writeModelFile } from "./model-file.js";

let folder: string;
const at = (...names: readonly string[]) => join(folder, ...names);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A tensor of two floats in another file. */
function outside(name: string, entries: Readonly<Record<string, string>>): Uint8Array {
  const external = Object.entries(entries).map(([key, value]) => entry(13, key, value));
  return tensorOf(name, 1, [2], ...external, number(14, 1));
}

/** y = x + w, where w stands elsewhere. */
function externalModel(entries: Readonly<Record<string, string>>): Uint8Array {
  const add = nodeOf("Add", ["x", "w"], ["y"]);
  return modelOf(concat(add, text(2, "g"), bytes(5, outside("w", entries)), floatValue(11, "x"), floatValue(12, "y")));
}

/** Reads w, having written the model and the file of its values: 8 bytes of something else, then 3 and 4. */
function readExternal(entries: Readonly<Record<string, string>>, file = "w.bin"): Tensor {
  if (!readdirSync(folder).includes(file)) writeFileSync(at(file), littleEndian(Float32Array.of(1, 2, 3, 4)));
  writeFileSync(at("m.onnx"), externalModel(entries));
  return readModelFile(at("m.onnx")).graph.constant("w")!;
}

const refused = (code: string) => expect.objectContaining({ code });

describe("tensors in files beside the model", () => {
  it("reads the bytes that the model names", () => {
    const tensor = readExternal({ location: "w.bin", offset: "8", length: "8", checksum: "0000", other: "?" });
    expect([...float32Values(tensor)]).toEqual([3, 4]);
    expect([...float32Values(readExternal({ location: "w.bin" }))]).toEqual([1, 2]);
    expect([...float32Values(readExternal({ location: "./w.bin", offset: "4" }))]).toEqual([2, 3]);
  });

  it("reads from a folder below the model's, and with a model named without a folder", () => {
    mkdirSync(at("below"));
    writeFileSync(at("below", "w.bin"), littleEndian(Float32Array.of(5, 6)));
    expect([...float32Values(readExternal({ location: "below/w.bin" }))]).toEqual([5, 6]);
  });

  it("reads only when somebody asks", () => {
    const tensor = readExternal({ location: "w.bin" });
    rmSync(at("w.bin"));
    expect(tensor).toMatchObject({ type: "float32", shape: [2], sizeBytes: 8 });
    expect(() => tensor.bytes()).toThrow(
      expect.objectContaining({ code: "onnx/external-data", place: { file: at("m.onnx"), field: "w" } }),
    );
  });

  it.each<Readonly<Record<string, string>>>([
    { location: "" },
    { location: "../w.bin" },
    { location: "a/../../w.bin" },
    { location: "a\\..\\..\\w.bin" },
    { location: "/etc/hostname" },
    { location: "\\\\server\\w.bin" },
    { location: "C:w.bin" },
    { location: "w.bin\0.txt" },
    { location: "w.bin", offset: "-1" },
    { location: "w.bin", offset: "0x8" },
    { location: "w.bin", offset: "1e3" },
    { location: "w.bin", length: "99999999999999999999" },
    { location: "w.bin", length: "eight" },
  ])("does not even open %j", (entries) => {
    expect(() => readExternal(entries)).toThrow(refused("onnx/external-data"));
  });

  it.each<Readonly<Record<string, string>>>([
    { location: "missing.bin" },
    { location: "." },
    { location: "w.bin/" },
    { location: "w.bin", offset: "9" },
    { location: "w.bin", offset: "9007199254740991" },
    { location: "w.bin", length: "4" },
    { location: "w.bin", length: "16" },
  ])("gives nothing for %j", (entries) => {
    expect(() => readExternal(entries).bytes()).toThrow(refused("onnx/external-data"));
  });

  it.each<readonly [what: string, make: (path: string, target: string) => void, message: string]>([
    ["a link out of the folder", (path, target) => symlinkSync(target, path), "which is a link or stands behind one"],
    ["a link within the folder", (path) => symlinkSync("m.onnx", path), "which is a link or stands behind one"],
    ["a hard link", (path, target) => linkSync(target, path), "which has 2 names (hard links)"],
    ["a folder", (path) => mkdirSync(path), "which is no file"],
    ["a named pipe", (path) => execFileSync("mkfifo", [path]), "which is no file"],
  ])("does not follow %s", (_what, make, message) => {
    const other = mkdtempSync(join(tmpdir(), "recoup-test-"));
    try {
      writeFileSync(join(other, "secret"), new Uint8Array(64));
      make(at("w.bin"), join(other, "secret"));
      expect(() => readExternal({ location: "w.bin" }).bytes()).toThrow(message);
    } finally {
      rmSync(other, { recursive: true });
    }
  });

  it("does not follow a link to a folder, but may itself be reached through one", () => {
    const tensor = readExternal({ location: "w.bin" });
    symlinkSync(folder, at("again"));
    expect(() => readExternal({ location: "again/w.bin" }).bytes()).toThrow(refused("onnx/external-data"));
    const alias = `${folder}-alias`;
    symlinkSync(folder, alias);
    try {
      writeFileSync(at("m.onnx"), externalModel({ location: "w.bin" }));
      expect(readModelFile(join(alias, "m.onnx")).graph.constant("w")!.bytes()).toEqual(tensor.bytes());
    } finally {
      rmSync(alias);
    }
  });
});

describe("a model whose tensors stand elsewhere", () => {
  const location = { location: "w.bin", offset: "8" };
  const branch = (initializer: Uint8Array) =>
    bytes(6, nodeOf("Mul", ["x", "v"], ["b"]), text(2, "b"), initializer, bytes(12, text(1, "b")));
  const inBranch = attributeOf("then_branch", attributeType.graph, branch(bytes(5, outside("v", location))));
  const inline = bytes(5, tensorOf("v", 1, [2], bytes(9, littleEndian(Float32Array.of(3, 4)))));
  const sparse = bytes(
    15,
    bytes(1, outside("w", location)),
    bytes(2, tensorOf("", 7, [2], bytes(7, Uint8Array.of(0, 1)))),
    number(3, 2),
  );
  const around = concat(text(2, "g"), floatValue(11, "x"), floatValue(12, "y"));

  it.each<readonly [where: string, graph: Uint8Array]>([
    ["as initializers", concat(nodeOf("Mul", ["x", "w"], ["y"]), bytes(5, outside("w", location)))],
    [
      "as constants",
      concat(
        nodeOf("Constant", [], ["w"], attributeOf("value", attributeType.tensor, bytes(5, outside("", location)))),
        nodeOf("Mul", ["x", "w"], ["y"]),
      ),
    ],
    [
      "in a body",
      concat(
        bytes(5, tensorOf("c", 9, [], bytes(9, Uint8Array.of(1)))),
        nodeOf("If", ["c"], ["y"], inBranch, attributeOf("else_branch", attributeType.graph, branch(inline))),
      ),
    ],
    ["and are sparse", concat(nodeOf("Mul", ["x", "w"], ["y"]), sparse)],
  ])("takes them along when it is written elsewhere: %s", async (_where, graph) => {
    writeFileSync(at("w.bin"), littleEndian(Float32Array.of(1, 2, 3, 4)));
    writeFileSync(at("m.onnx"), modelOf(concat(graph, around)));
    const model = readModelFile(at("m.onnx"));
    mkdirSync(at("other"));
    writeModelFile(at("other", "same.onnx"), model);
    writeModelFile(at("other", "rebuilt.onnx"), withGraph(model, { ...model.graph }));
    rmSync(at("w.bin"));
    for (const name of ["same.onnx", "rebuilt.onnx"]) {
      expect([...(await runFile(at("other", name), Float32Array.of(1, 10)))]).toEqual([3, 40]);
    }
  });

  it("is refused where they stand in a place that is only copied", () => {
    const node = bytes(
      7,
      text(4, "Constant"),
      attributeOf("value", attributeType.tensor, bytes(5, outside("", location))),
    );
    const graph = concat(nodeOf("F", ["x"], ["y"], text(7, "d")), around);
    const inFunction = modelOf(graph, bytes(25, text(1, "F"), text(10, "d"), node));
    const inTraining = modelOf(graph, bytes(20, bytes(1, bytes(5, outside("w", location)))));
    const inList = modelOf(
      concat(nodeOf("F", ["x"], ["y"], attributeOf("t", 9, bytes(10, outside("", location)))), around),
    );
    for (const file of [inFunction, inTraining, inList]) {
      writeFileSync(at("m.onnx"), file);
      expect(() => readModelFile(at("m.onnx"))).toThrow(refused("onnx/unsupported"));
    }
  });
});
