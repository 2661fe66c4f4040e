import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { writeModelFile } from "./model-file.js";
import { checkDistinct, checkModelOutput, checkOutput, openModel, sha256OfFile } from "./model-source.js";

let folder: string;
const at = (...names: readonly string[]) => join(folder, ...names);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const { model } = makeTestModel({
  feeds: { x: someFloats([500]), b: someFloats([1]) },
  nodes: [makeNode("Sum", ["x", "w", "b"], ["y"])],
  outputs: ["y"],
  initializers: { w: someFloats([500]), b: someFloats([1]) },
});

describe("openModel", () => {
  it("counts the model and the file of its tensors", () => {
    const size = writeModelFile(at("m.onnx"), model, { inlineLimit: 0 });
    const source = openModel(at("m.onnx"));
    expect(source).toMatchObject({ path: at("m.onnx"), files: [at("m.onnx"), at("m.onnx.data")], bytes: size });
  });

  it("does not count a file that only has the right name", () => {
    const size = writeModelFile(at("m.onnx"), model);
    writeFileSync(at("m.onnx.data"), "of another model");
    expect(openModel(at("m.onnx"))).toMatchObject({ files: [at("m.onnx")], bytes: size });
  });

  it("names a file of tensors that is missing, before any work is done", () => {
    writeModelFile(at("m.onnx"), model, { inlineLimit: 0 });
    rmSync(at("m.onnx.data"));
    expect(() => openModel(at("m.onnx"))).toThrow(
      expect.objectContaining({ code: "onnx/external-data", message: expect.stringContaining("m.onnx.data") }),
    );
  });
});

it("gives the SHA-256 of a file", () => {
  writeFileSync(at("f"), "abc");
  expect(sha256OfFile(at("f"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect(() => sha256OfFile(at("missing"))).toThrow(expect.objectContaining({ code: "file/not-found" }));
});

describe("checkOutput", () => {
  const refused = (message: string) =>
    expect.objectContaining({ code: "file/unwritable", message: expect.stringContaining(message) });

  it("takes a new name, and a file that is there", () => {
    writeFileSync(at("in"), "in");
    writeFileSync(at("out"), "old");
    for (const name of ["new", "out"]) expect(() => checkOutput(at(name), [at("in")])).not.toThrow();
    expect(readFileSync(at("out"), "utf8")).toBe("old");
  });

  it("refuses a folder that is missing and a folder in the file's place", () => {
    mkdirSync(at("folder"));
    expect(() => checkOutput(at("no", "out"), [])).toThrow(refused(`${at("no")} does not exist`));
    expect(() => checkOutput(at("folder"), [])).toThrow(refused("is a folder"));
  });

  it.each([
    ["a folder that is a file", () => at("file", "out"), "file is no folder"],
    ["a folder below a file", () => at("file", "no", "out"), "does not exist"],
    ["the name of a folder", () => `${at("out")}/`, "name of a folder"],
    ["no name", () => "", "is a folder"],
    ["a name that is too long", () => at("n".repeat(300)), "ENAMETOOLONG"],
  ])("refuses %s", (_about, path, message) => {
    writeFileSync(at("file"), "");
    expect(() => checkOutput(path(), [])).toThrow(refused(message));
  });

  it.runIf(existsSync("/dev/stdout"))("refuses a place among devices, whatever seems to stand there", () => {
    symlinkSync("/dev", at("alias"));
    for (const path of ["/dev/stdout", "/dev/new.onnx", at("alias", "new.onnx"), "/proc/self/fd/1"]) {
      expect(() => checkOutput(path, []), path).toThrow(expect.objectContaining({ code: "file/unwritable" }));
    }
    expect(() => checkOutput("/dev/new.onnx", [])).toThrow(refused("among the system's devices"));
  });

  // Whoever administers the machine may write everywhere.
  it.runIf((process.getuid?.() ?? 0) > 0)(
    "refuses a folder that nobody may write into, before any work is done",
    () => {
      mkdirSync(at("closed"), { mode: 0o500 });
      expect(() => checkOutput(at("closed", "out"), [])).toThrow(refused("EACCES"));
    },
  );

  it("refuses an input, however it is spelled", () => {
    writeFileSync(at("in"), "in");
    symlinkSync(folder, at("alias"));
    linkSync(at("in"), at("twin"));
    for (const name of [at("in"), relative(process.cwd(), at("in")), at("alias", "in"), at("twin")]) {
      expect(() => checkOutput(name, [at("in")])).toThrow(refused("is an input too"));
    }
  });

  it("refuses what an input leads to, and takes a link to an input, which only the link's place is given to", () => {
    writeFileSync(at("in"), "in");
    symlinkSync("in", at("link"));
    expect(() => checkOutput(at("in"), [at("link")])).toThrow(refused("is an input too"));
    expect(() => checkOutput(at("link"), [at("in")])).not.toThrow();
  });

  it("refuses an input that is not there yet, behind a folder's other name", () => {
    symlinkSync(folder, at("alias"));
    expect(() => checkOutput(at("alias", "in"), [at("in")])).toThrow(refused("is an input too"));
  });

  it("refuses a model whose second file is an input", () => {
    expect(() => checkOutput(at("out"), [at("in"), at("out.data")])).not.toThrow();
    expect(() => checkModelOutput(at("in"), [at("in")])).toThrow(refused("is an input too"));
    expect(() => checkModelOutput(at("out"), [at("in"), at("out.data")])).toThrow(
      expect.objectContaining({ place: { file: at("out.data") } }),
    );
  });
});

describe("checkDistinct", () => {
  it("refuses a file that is to be written twice, however it is spelled", () => {
    symlinkSync(folder, at("alias"));
    expect(() => checkDistinct([at("a"), at("b"), at("c")])).not.toThrow();
    for (const twin of [at("a"), at("alias", "a"), relative(process.cwd(), at("a"))]) {
      expect(() => checkDistinct([at("a"), at("b"), twin])).toThrow(
        expect.objectContaining({ code: "file/unwritable", place: { file: twin } }),
      );
    }
  });
});
