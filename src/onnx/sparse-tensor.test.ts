import { afterAll, describe, expect, it } from "vitest";
import { runModel } from "../../test/models.js";
import {
  bytes,
  concat,
  floatValue,
  graphField,
  hex,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  tensorOf,
  text,
} from "../../test/wire.js";
import { extractGraph } from "../graph/extract.js";
import { makeModel, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { refuseNotANumber } from "../graph/not-a-number.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import { encodeModel, joinChunks, readModel } from "./model.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Values 5 and -6 in a tensor of zeros. */
function sparse(indices: readonly number[], indicesShape: readonly number[], dims: readonly number[]): Uint8Array {
  const values = tensorOf("w", 1, [2], bytes(9, littleEndian(Float32Array.of(5, -6))));
  const at = tensorOf("", 7, indicesShape, bytes(9, littleEndian(BigInt64Array.from(indices, BigInt))));
  return bytes(graphField.sparseInitializer, bytes(1, values), bytes(2, at), ...dims.map((size) => number(3, size)));
}

/** y = x + w */
function modelWith(initializer: Uint8Array): Uint8Array {
  const add = nodeOf("Add", ["x", "w"], ["y"]);
  return modelOf(concat(add, text(2, "g"), initializer, floatValue(11, "x", 3), bytes(12, text(1, "y"))));
}

const feeds = new Map([["x", float32Tensor([3], [1, 2, 3])]]);

describe("sparse initializers", () => {
  it.each([
    ["flat indices", sparse([1, 5], [2], [2, 3]), [0, 5, 0, 0, 0, -6]],
    ["an index per axis", sparse([0, 1, 1, 2], [2, 2], [2, 3]), [0, 5, 0, 0, 0, -6]],
  ])("fills in %s as the runtime does", async (_about, initializer, dense) => {
    const model = readModel(modelWith(initializer));
    const tensor = model.graph.constant("w")!;
    expect(tensor).toMatchObject({ type: "float32", shape: [2, 3], sizeBytes: 24 });
    expect([...float32Values(tensor)]).toEqual(dense);
    const output = (await runModel(engine, model, feeds)).get("y")!;
    expect([...float32Values(output)]).toEqual(dense.map((value, i) => value + 1 + (i % 3)));
    expect(() => refuseNotANumber(model.graph)).not.toThrow();
  });

  const stored = sparse([1, 5], [2], [2, 3]);
  const model = readModel(modelWith(stored));

  it("stays as it is where nobody changes it", () => {
    const changed = withGraph(model, { ...model.graph });
    expect(hex(joinChunks(encodeModel(changed).chunks))).toContain(hex(stored));
  });

  it("goes with its last reader", () => {
    const patch = { label: "t", remove: model.graph.nodes, add: [makeNode("Identity", ["x"], ["y"])] };
    const written = joinChunks(encodeModel(withGraph(model, applyPatch(model.graph, patch))).chunks);
    expect(hex(written)).not.toContain(hex(stored));
    expect(readModel(written).graph.initializers.size).toBe(0);
  });

  it("is written dense in a graph it was not read with, and under another name", async () => {
    const part = makeModel(extractGraph(model.graph, [], model.graph.outputs), model);
    const initializers = new Map([["v", model.graph.constant("w")!]]);
    const nodes = [makeNode("Add", ["x", "v"], ["y"])];
    const renamed = withGraph(
      model,
      applyPatch(model.graph, { label: "t", remove: model.graph.nodes, add: nodes, initializers }),
    );
    for (const other of [part, renamed]) {
      expect(hex(joinChunks(encodeModel(other).chunks))).not.toContain(hex(stored));
      const output = (await runModel(engine, other, feeds)).get("y")!;
      expect([...float32Values(output)]).toEqual([1, 7, 3, 1, 2, -3]);
    }
  });

  it.each([
    ["an index past the end", sparse([1, 6], [2], [2, 3])],
    ["a negative index", sparse([-1, 5], [2], [2, 3])],
    ["an index past the end of its axis", sparse([0, 1, 0, 3], [2, 2], [2, 3])],
    ["fewer indices than values", sparse([1], [1], [2, 3])],
    ["indices of another rank", sparse([1, 2, 3, 4, 5, 6], [2, 3], [2, 3])],
  ])("refuses %s when the elements are asked for", (_about, initializer) => {
    const tensor = readModel(modelWith(initializer)).graph.constant("w")!;
    expect(() => tensor.bytes()).toThrow(expect.objectContaining({ code: "onnx/tensor", place: { field: "w" } }));
  });

  it("refuses a size that nobody has memory for when the elements are asked for", () => {
    const tensor = readModel(modelWith(sparse([1, 5], [2], [2 ** 20, 2 ** 20]))).graph.constant("w")!;
    expect(() => tensor.bytes()).toThrow(expect.objectContaining({ code: "onnx/limit", place: { field: "w" } }));
  });

  it("refuses one without values or with an impossible shape", () => {
    const without = bytes(graphField.sparseInitializer, number(3, 2));
    expect(() => readModel(modelWith(without))).toThrow(expect.objectContaining({ code: "onnx/malformed" }));
    expect(() => readModel(modelWith(sparse([1, 5], [2], [-2])))).toThrow(
      expect.objectContaining({ code: "onnx/tensor" }),
    );
  });
});
