import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { runFile } from "../../test/run-file.js";
import { entry, hex } from "../../test/wire.js";
import { RecoupError } from "../errors.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { bytesFor } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { readModelFile, sizeOfModelFile, writeModelFile } from "./model-file.js";
import { readWholeFile } from "./whole-file.js";

let folder: string;
const at = (...names: readonly string[]) => join(folder, ...names);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const refused = (code: string) => expect.objectContaining({ code });

/** y = x + a + b, a of 4000 bytes and b of 4. */
function largeModel(): Model {
  const nodes = [makeNode("Add", ["x", "a"], ["s"]), makeNode("Add", ["s", "b"], ["y"])];
  const initializers = { a: someFloats([1000], 2), b: someFloats([1], 3) };
  return makeTestModel({ feeds: { x: someFloats([1000]) }, nodes, outputs: ["y"], initializers }).model;
}

/** A tensor that says its size and cannot be read. */
function unreadable(type: "float32", shape: readonly number[]): Tensor {
  const gone = () => {
    throw new RecoupError("onnx/external-data", "gone");
  };
  return { type, shape, sizeBytes: bytesFor(type, elementCount(shape)), bytes: gone };
}

describe("writeModelFile", () => {
  const x = float32Values(someFloats([1000]));

  it("writes one file, which is what it returns the size of", async () => {
    expect(writeModelFile(at("y.onnx"), largeModel())).toBe(readFileSync(at("y.onnx")).length);
    expect(readdirSync(folder)).toEqual(["y.onnx"]);
    expect(await runFile(at("y.onnx"), x)).toHaveLength(1000);
  });

  it.each([1e9, 0])("knows the size before it writes, with an inline limit of %i", (inlineLimit) => {
    const size = sizeOfModelFile(largeModel(), { inlineLimit });
    expect(readdirSync(folder)).toEqual([]);
    expect(size).toBe(writeModelFile(at("model.onnx"), largeModel(), { inlineLimit }));
  });

  it("puts large tensors of large models into a second file that stock onnxruntime reads", async () => {
    writeModelFile(at("one.onnx"), largeModel());
    const size = writeModelFile(at("two.onnx"), largeModel(), { inlineLimit: 4000 });
    expect(readdirSync(folder).sort()).toEqual(["one.onnx", "two.onnx", "two.onnx.data"]);
    expect(size).toBe(readFileSync(at("two.onnx")).length + readFileSync(at("two.onnx.data")).length);
    expect(readFileSync(at("two.onnx.data"))).toHaveLength(4000);
    expect(await runFile(at("two.onnx"), x)).toEqual(await runFile(at("one.onnx"), x));
    const again = readModelFile(at("two.onnx")).graph;
    expect(again.constant("a")!.bytes()).toEqual(readModelFile(at("one.onnx")).graph.constant("a")!.bytes());
  });

  it("keeps tensors in a second file that came from one, and writes them along into one file where it is told to", () => {
    writeModelFile(at("m.onnx"), largeModel(), { inlineLimit: 0 });
    const model = readModelFile(at("m.onnx"));
    writeModelFile(at("same.onnx"), model);
    writeModelFile(at("whole.onnx"), model, { inlineLimit: 1e9 });
    expect(readdirSync(folder).sort()).toEqual(
      ["m.onnx", "m.onnx.data", "same.onnx", "same.onnx.data", "whole.onnx"].sort(),
    );
    expect(readFileSync(at("same.onnx.data"))).toEqual(readFileSync(at("m.onnx.data")));
    rmSync(at("m.onnx.data"));
    for (const name of ["same.onnx", "whole.onnx"]) {
      expect(readModelFile(at(name)).graph.constant("a")!.bytes()).toEqual(largeModel().graph.constant("a")!.bytes());
    }
  });

  it("starts each large tensor where a runtime can map it", () => {
    const { graph } = largeModel();
    const initializers = new Map([...graph.initializers, ["a2", someFloats([1000], 9)]]);
    const nodes = [...graph.nodes, makeNode("Add", ["y", "a2"], ["z"])];
    const model = makeTestModel({
      feeds: { x: someFloats([1000]) },
      nodes,
      outputs: ["z"],
      initializers: Object.fromEntries(initializers),
    }).model;
    writeModelFile(at("y.onnx"), model, { inlineLimit: 0 });
    expect(hex(readFileSync(at("y.onnx")))).toContain(hex(entry(13, "offset", "4096")));
    expect(readFileSync(at("y.onnx.data"))).toHaveLength(4096 + 4000);
    expect(readModelFile(at("y.onnx")).graph.constant("a2")!.bytes()).toEqual(initializers.get("a2")!.bytes());
  });

  it("replaces the files that it reads from", () => {
    writeModelFile(at("m.onnx"), largeModel(), { inlineLimit: 0 });
    const before = largeModel().graph.constant("a")!.bytes();
    const { graph, ...rest } = readModelFile(at("m.onnx"));
    const initializers = new Map([["a2", someFloats([1000], 9)], ...graph.initializers]);
    writeModelFile(at("m.onnx"), { ...rest, graph: { ...graph, initializers } }, { inlineLimit: 0 });
    const after = readModelFile(at("m.onnx")).graph;
    expect(after.constant("a")!.bytes()).toEqual(before);
    expect(after.constant("a2")!.bytes()).toEqual(someFloats([1000], 9).bytes());
    expect(readdirSync(folder).sort()).toEqual(["m.onnx", "m.onnx.2.data"]);
    renameSync(at("m.onnx.2.data"), at("gone"));
    expect(() => after.constant("a")!.bytes()).toThrow(refused("onnx/external-data"));
  });

  it("never has the tensors of one model beside another", () => {
    const names = () => readdirSync(folder).sort();
    for (const data of ["m.onnx.data", "m.onnx.2.data", "m.onnx.data"]) {
      writeModelFile(at("m.onnx"), largeModel(), { inlineLimit: 0 });
      expect(names()).toEqual(["m.onnx", data].sort());
    }
    // Left by a run that was killed before the model took its name.
    writeFileSync(at("m.onnx.2.data"), "new tensors");
    const before = readFileSync(at("m.onnx.data"));
    expect(readModelFile(at("m.onnx")).graph.constant("a")!.bytes()).toEqual(largeModel().graph.constant("a")!.bytes());
    writeModelFile(at("m.onnx"), largeModel(), { inlineLimit: 0 });
    expect(readFileSync(at("m.onnx.2.data"))).toEqual(before);
    writeModelFile(at("m.onnx"), largeModel());
    expect(names()).toEqual(["m.onnx"]);
  });

  it("leaves alone what a model that it replaces does not read", () => {
    writeFileSync(at("m.onnx"), "a text");
    writeFileSync(at("m.onnx.2.data"), "something");
    writeModelFile(at("m.onnx"), largeModel());
    expect(readFileSync(at("m.onnx.2.data"), "utf8")).toBe("something");
  });

  it("leaves nothing behind in a folder that is missing, and says so", () => {
    expect(() => writeModelFile(at("no", "y.onnx"), largeModel(), { inlineLimit: 0 })).toThrow(
      expect.objectContaining({ code: "file/unwritable", place: { file: at("no", "y.onnx") } }),
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  it("says so where the folder is a file, and where the name is too long", () => {
    writeFileSync(at("file"), "");
    for (const path of [at("file", "y.onnx"), at(`${"n".repeat(300)}.onnx`)]) {
      expect(() => writeModelFile(path, largeModel())).toThrow(
        expect.objectContaining({ code: "file/unwritable", place: { file: path } }),
      );
    }
    expect(readdirSync(folder)).toEqual(["file"]);
  });

  it("writes the longest name that there is", () => {
    const name = `${"n".repeat(250)}.onnx`;
    writeModelFile(at(name), largeModel());
    expect(readdirSync(folder)).toEqual([name]);
  });

  it.each([
    ["one file", 1e9],
    ["two files", 0],
  ])("keeps what is there where the writing of %s breaks off", (_about, inlineLimit) => {
    writeFileSync(at("y.onnx"), "old");
    writeFileSync(at("y.onnx.data"), "old data");
    const model = largeModel();
    const initializers = new Map([...model.graph.initializers, ["broken", unreadable("float32", [300])]]);
    const broken = withGraph(model, { ...model.graph, initializers });
    expect(() => writeModelFile(at("y.onnx"), broken, { inlineLimit })).toThrow(refused("onnx/external-data"));
    expect(readdirSync(folder).sort()).toEqual(["y.onnx", "y.onnx.data"]);
    expect(readFileSync(at("y.onnx"), "utf8") + readFileSync(at("y.onnx.data"), "utf8")).toBe("oldold data");
  });

  it("keeps the second file where a folder stands in the first one's place", () => {
    mkdirSync(at("y.onnx"));
    writeFileSync(at("y.onnx.data"), "old data");
    expect(() => writeModelFile(at("y.onnx"), largeModel(), { inlineLimit: 0 })).toThrow(refused("file/unwritable"));
    expect(readFileSync(at("y.onnx.data"), "utf8")).toBe("old data");
    expect(readdirSync(folder).sort()).toEqual(["y.onnx", "y.onnx.data"]);
  });

  it("replaces a link, not what it leads to", () => {
    writeFileSync(at("target"), "precious");
    symlinkSync("target", at("y.onnx"));
    writeModelFile(at("y.onnx"), largeModel());
    expect(readFileSync(at("target"), "utf8")).toBe("precious");
  });

  it("has room for more than 4 GiB in the second file, and says where the first one ends", () => {
    const model = largeModel();
    const huge = unreadable("float32", [1.25e9]);
    const initializers = new Map([["huge", huge]]);
    expect(() => writeModelFile(at("y.onnx"), withGraph(model, { ...model.graph, initializers }))).toThrow("gone");
    const nodes = [makeNode("Constant", [], ["a"], { value: huge })];
    expect(() => writeModelFile(at("y.onnx"), withGraph(model, { ...model.graph, nodes }))).toThrow(
      refused("onnx/limit"),
    );
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("files that cannot be read", () => {
  it.each<readonly [what: string, code: string, make: (path: string) => void]>([
    ["a missing file", "file/not-found", () => {}],
    ["a folder", "file/unreadable", (path) => mkdirSync(path)],
    ["a named pipe", "file/unreadable", (path) => execFileSync("mkfifo", [path])],
    ["a link in a circle", "file/unreadable", (path) => symlinkSync(path, path)],
    ["an empty file", "onnx/not-a-model", (path) => writeFileSync(path, "")],
  ])("names %s", (_what, code, make) => {
    make(at("m.onnx"));
    expect(() => readModelFile(at("m.onnx"))).toThrow(expect.objectContaining({ code, place: { file: at("m.onnx") } }));
  });

  it("names a file that stands in the place of a folder", () => {
    writeFileSync(at("file"), "");
    expect(() => readWholeFile(at("file", "m.onnx"))).toThrow(refused("file/unreadable"));
  });
});
