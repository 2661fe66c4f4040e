import { afterAll, describe, expect, it } from "vitest";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import { encodeModel, joinChunks, readModel } from "../src/onnx/model.js";
import { someFloats } from "./models.js";
import { quantizeTestModel } from "./quantizing.js";
import {
  bytes,
  concat,
  entry,
  fieldsOf,
  floatValue,
  graphField,
  initializerOf,
  modelOf,
  nodeOf,
  tensorField,
  text,
} from "./wire.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const trainingField = 20;

/** y = Max(Relu(x · w1) · w2, b), and how one of its constants is trained. */
function modelTraining(trained: string, size: number): Uint8Array {
  const weight = (name: string, rows: number, columns: number) =>
    initializerOf(name, 1, [rows, columns], bytes(tensorField.rawData, someFloats([rows, columns], columns).bytes()));
  const graph = concat(
    nodeOf("MatMul", ["x", "w1"], ["h"]),
    nodeOf("Relu", ["h"], ["r"]),
    nodeOf("MatMul", ["r", "w2"], ["p"]),
    nodeOf("Max", ["p", "b"], ["y"]),
    text(graphField.name, "network"),
    weight("w1", 8, 16),
    weight("w2", 16, 4),
    initializerOf("b", 1, [4], bytes(tensorField.rawData, someFloats([4], 9).bytes())),
    bytes(graphField.input, unlimited("x", 8)),
    floatValue(graphField.output, "y", 4),
  );
  const node = nodeOf("Neg", [trained], ["new"]);
  const algorithm = bytes(2, node, text(graphField.name, "algorithm"), floatValue(graphField.output, "new", size));
  return modelOf(graph, bytes(trainingField, algorithm, entry(4, trained, "new")));
}

/** The body of an input `["n", size]`. */
function unlimited(name: string, size: number): Uint8Array {
  const sizes = concat(bytes(1, text(2, "n")), bytes(1, Uint8Array.of(8, size)));
  return concat(text(1, name), bytes(2, bytes(1, Uint8Array.of(8, 1), bytes(2, sizes))));
}

async function quantized(trained: string, size: number) {
  const model = readModel(modelTraining(trained, size));
  const feeds = new Map([["x", someFloats([1, 8], 3)]]);
  const result = await quantizeTestModel(engine, { model, feeds }, {}, [feeds]);
  const written = joinChunks(encodeModel(result.model).chunks);
  return { warnings: result.report.warnings, fields: fieldsOf(written).map(({ field }) => field) };
}

describe("a model that says how it is trained", () => {
  it("says so no more where its weights are codes, and the report tells", async () => {
    const { warnings, fields } = await quantized("w1", 128);
    expect(fields).not.toContain(trainingField);
    expect(warnings).toEqual([expect.stringMatching(/training information was left out: it reads w1, which/)]);
  });

  it("says so still where what is trained stays as it is", async () => {
    const { warnings, fields } = await quantized("b", 4);
    expect(fields).toContain(trainingField);
    expect(warnings).toEqual([]);
  });
});
