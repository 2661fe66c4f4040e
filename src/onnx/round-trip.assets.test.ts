import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { fieldsOf, modelField, unwrap } from "../../test/wire.js";
import { withGraph } from "../graph/model.js";
import { readWholeFile } from "../node/whole-file.js";
import { encodeModel, joinChunks, readModel } from "./model.js";

function modelsUnder(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".onnx"))
    .map((name) => join(folder, name));
}

const files =
  sharedFolder === undefined ? [] : ["assets", "onnx-node-tests"].flatMap((part) => modelsUnder(sharedPath(part)));

describe.skipIf(sharedFolder === undefined)("models of many exporters (needs the folder RECOUP_SHARED)", () => {
  it("finds them", () => {
    expect(files.length).toBeGreaterThan(300);
  });

  it.each(files)("writes %s as it was read", (file) => {
    const bytes = readWholeFile(file);
    const model = readModel(bytes);
    expect(Buffer.compare(joinChunks(encodeModel(model).chunks), bytes)).toBe(0);
    const rebuilt = joinChunks(encodeModel(withGraph(model, { ...model.graph })).chunks);
    // Files whose nodes stand out of order come back in order, with the same records.
    if (Buffer.compare(rebuilt, bytes) !== 0) expect(recordsOf(rebuilt)).toEqual(recordsOf(bytes));
  });
});

/** The fields of the model, those of its graph one by one, in the order of their bytes. */
function recordsOf(file: Uint8Array): readonly string[] {
  return fieldsOf(file)
    .flatMap((part) => (part.field === modelField.graph ? fieldsOf(unwrap(part.raw)) : [part]))
    .map(({ raw }) => raw)
    .sort();
}
