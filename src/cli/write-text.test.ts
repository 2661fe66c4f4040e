import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { writeText } from "./write-text.js";

let folder: string;
const at = (name: string) => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-text-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

it("takes the place of a link, and leaves what it leads to", () => {
  writeFileSync(at("model.onnx"), "whole");
  symlinkSync("model.onnx", at("report.json"));
  writeText(at("report.json"), "{ }");
  expect(readFileSync(at("report.json"), "utf8")).toBe("{ }");
  expect(readFileSync(at("model.onnx"), "utf8")).toBe("whole");
  expect(readdirSync(folder).sort()).toEqual(["model.onnx", "report.json"]);
});

it("says which file cannot be written", () => {
  expect(() => writeText(at("no/report.json"), "")).toThrow(
    expect.objectContaining({ code: "file/unwritable", place: { file: at("no/report.json") } }),
  );
});
