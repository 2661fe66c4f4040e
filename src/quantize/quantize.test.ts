import { afterAll, describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, runModel, someFloats, yes } from "../../test/models.js";
import { quantizeTestModel } from "../../test/quantizing.js";
import type { Graph } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { RecipeInput } from "../recipe/recipe.js";
import { float32Tensor, float32Values, int64Tensor, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const initializers = {
  w: someFloats([4, 3, 3, 3], 2),
  w_bias: someFloats([4], 3),
  v: someFloats([4, 4, 3, 3], 4),
  fc: someFloats([4, 5], 5),
  fc_bias: someFloats([5], 6),
};

/** A small classifier; the features behind the first Relu are an output too. */
const classifier = makeTestModel({
  feeds: { x: someFloats([1, 3, 8, 8]) },
  shapes: { x: ["batch", 3, 8, 8] },
  nodes: [
    makeNode("Conv", ["x", "w", "w_bias"], ["a"], {}, "stem/Conv"),
    makeNode("Relu", ["a"], ["features"]),
    makeNode("Conv", ["features", "v"], ["b"], {}, "body/Conv"),
    makeNode("Relu", ["b"], ["c"]),
    makeNode("GlobalAveragePool", ["c"], ["d"]),
    makeNode("Flatten", ["d"], ["e"]),
    makeNode("MatMul", ["e", "fc"], ["f"], {}, "head/MatMul"),
    makeNode("Add", ["f", "fc_bias"], ["y"]),
  ],
  initializers,
  outputs: ["y", "features"],
});

function definedValues(graph: Graph): ReadonlySet<string> {
  return new Set(graph.nodes.flatMap((node) => node.outputs));
}

describe("a quantized model", () => {
  it("has the inputs and outputs of the original", async () => {
    const { model } = await quantizeTestModel(engine, classifier);
    expect(model.graph.inputs).toEqual(classifier.model.graph.inputs);
    expect(model.graph.outputs).toEqual(classifier.model.graph.outputs);
    const { outputs } = { outputs: await runModel(engine, model, classifier.feeds) };
    expect([...outputs].map(([name, tensor]) => [name, tensor.shape])).toEqual([
      ["y", [1, 5]],
      ["features", [1, 4, 6, 6]],
    ]);
  });

  it("calls by its old name whatever keeps its meaning", async () => {
    const { model } = await quantizeTestModel(engine, classifier);
    const values = definedValues(model.graph);
    // The MatMul and the Add of its bias are one node now.
    for (const name of ["a", "features", "b", "c", "d", "e", "y"]) expect(values).toContain(name);
    for (const weight of ["w", "v", "fc"]) expect(model.graph.initializers.has(weight)).toBe(false);
    const names = model.graph.nodes.map((node) => node.name).filter((name) => name !== "");
    expect(names).toEqual(expect.arrayContaining(["stem/Conv", "body/Conv", "head/MatMul"]));
  });

  it("finds free names beside those that are taken", async () => {
    const { model, feeds } = classifier;
    const taken = makeTestModel({
      feeds: { x: feeds.get("x")! },
      nodes: [
        ...model.graph.nodes,
        makeNode("Neg", ["y"], ["w_quantized"]),
        makeNode("Neg", ["y"], ["features_scale"]),
      ],
      initializers,
      outputs: ["y", "features", "w_quantized", "features_scale"],
    });
    const outcome = await quantizeTestModel(engine, taken);
    expect(outcome.model.graph.producer("w_quantized")?.opType).toBe("Neg");
    expect((await runModel(engine, outcome.model, taken.feeds)).size).toBe(4);
  });

  it("has in its report what was kept in float, and why", async () => {
    const { report } = await quantizeTestModel(engine, classifier);
    const remarks = report.layers.map(({ name, activation, remarks }) => [name, activation, remarks.length]);
    expect(remarks).toEqual([
      ["stem/Conv", "float", 1],
      ["body/Conv", 8, 0],
      ["head/MatMul", 8, 0],
    ]);
  });

  it("says which layer's weight stays in the file in float too, and for whom", async () => {
    const test = makeTestModel({
      feeds: { x: someFloats([2, 4]), i: int64Tensor([2], [0, 3]) },
      nodes: [
        makeNode("MatMul", ["x", "fc"], ["y"]),
        makeNode("Gather", ["fc", "i"], ["columns"], { axis: 1 }, "look-up"),
        makeNode("MatMul", ["x", "other"], ["z"]),
        makeNode("MatMul", ["x", "third"], ["u"]),
      ],
      initializers: { fc: initializers.fc, other: someFloats([4, 5], 7), third: someFloats([4, 5], 8) },
      outputs: ["y", "columns", "z", "u", "third"],
    });
    const { model, report } = await quantizeTestModel(engine, test, { formats: [{ weight: { bits: 4 } }] });
    expect(["fc", "other", "third"].map((weight) => model.graph.initializers.has(weight))).toEqual([true, false, true]);
    expect(report.layers.map(({ name, remarks }) => [name, remarks])).toEqual([
      ["y", ["fc stays in the file in float too, read by look-up"]],
      ["z", []],
      ["u", ["third stays in the file in float too, as an output of the model"]],
    ]);
  });

  it("has in its report the bits of the grid that a layer reads, and why they differ", async () => {
    const test = makeTestModel({
      feeds: { x: someFloats([2, 4]) },
      nodes: [makeNode("MatMul", ["x", "fc"], ["y"]), makeNode("MatMul", ["x", "other"], ["z"])],
      initializers: { fc: initializers.fc, other: someFloats([4, 5], 7) },
      outputs: ["y", "z"],
    });
    const formats = [{ match: "y", activation: { bits: 4 } }, { activation: { bits: 8 } }] as const;
    const { report } = await quantizeTestModel(engine, test, { formats: [...formats] });
    expect(report.activations).toMatchObject([{ values: ["x"], bits: 8 }]);
    expect(report.layers.map(({ name, activation, remarks }) => [name, activation, remarks])).toEqual([
      ["y", 8, ["activations have 8 bits instead of 4: something else that is on the grid of its input needs them"]],
      ["z", 8, []],
    ]);
  });

  it("has a warning for each pattern of the recipe that names nothing", async () => {
    const nodes = [
      makeNode("Identity", ["x"], ["x0"], {}, "entry"),
      makeNode("MatMul", ["x0", "fc"], ["y"], {}, "head"),
    ];
    const parts = { feeds: { x: someFloats([2, 4]) }, nodes, initializers: { fc: initializers.fc }, outputs: ["y"] };
    const recipe = { formats: [{ match: ["haed*", "head"] }, {}], skip: ["fx", "entry"] };
    const { report } = await quantizeTestModel(engine, makeTestModel(parts), recipe);
    expect(report.warnings).toEqual([
      "the pattern haed* matches no node",
      "the pattern fx matches no node",
      "the pattern entry matches only nodes that cleaning takes away or renames",
    ]);
  });

  const skips: readonly (readonly [pattern: string, left: readonly string[]])[] = [
    ["stem/*", ["body/Conv", "head/MatMul"]],
    ["op:Conv", ["head/MatMul"]],
    ["op:MatMul", ["stem/Conv", "body/Conv"]],
    ["*Mul", ["stem/Conv", "body/Conv"]],
    ["v", ["stem/Conv", "head/MatMul"]],
    ["b", ["stem/Conv", "head/MatMul"]],
    ["op:Gemm", ["stem/Conv", "body/Conv", "head/MatMul"]],
  ];
  it.each(skips)("leaves out what %s names", async (pattern, left) => {
    const { model, report } = await quantizeTestModel(engine, classifier, { skip: [pattern] });
    expect(report.layers.map(({ name }) => name)).toEqual(left);
    for (const { name, reason } of report.skipped) {
      expect(left).not.toContain(name);
      expect(reason).toContain(pattern);
    }
    expect(report.skipped).toHaveLength(3 - left.length);
    expect((await runModel(engine, model, classifier.feeds)).size).toBe(2);
  });

  it("is not made where every layer is inside a body, which the error says", async () => {
    const body = makeBody(["b"], [makeNode("MatMul", ["x", "fc"], ["b"])]);
    const test = makeTestModel({
      feeds: { x: someFloats([2, 4]), c: yes },
      nodes: [makeIf("y", body, body)],
      initializers: { fc: initializers.fc },
      outputs: ["y"],
    });
    await expect(quantizeTestModel(engine, test)).rejects.toMatchObject({
      code: "quantize/nothing-to-do",
      message: expect.stringContaining("layers inside If are not quantized: it holds 2"),
    });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])("is not made of a weight that holds %d", async (bad) => {
    const fc = float32Values(initializers.fc).slice();
    fc[7] = bad;
    const test = makeTestModel({
      feeds: { x: someFloats([2, 4]) },
      nodes: [makeNode("MatMul", ["x", "fc"], ["y"])],
      initializers: { fc: float32Tensor([4, 5], fc) },
      outputs: ["y"],
    });
    await expect(quantizeTestModel(engine, test, { formats: [{ activation: "float" }] })).rejects.toMatchObject({
      code: "model/not-finite",
      place: { field: "fc" },
    });
  });

  it("says how much of a weight is left", async () => {
    const sqnrOf = async (weight: Tensor, recipe: RecipeInput) => {
      const nodes = [makeNode("MatMul", ["x", "fc"], ["y"])];
      const test = makeTestModel({
        feeds: { x: someFloats([2, 4]) },
        nodes,
        initializers: { fc: weight },
        outputs: ["y"],
      });
      return (await quantizeTestModel(engine, test, recipe)).report.layers[0].weightSqnrDb;
    };
    const few = await sqnrOf(initializers.fc, { formats: [{ weight: { bits: 4 } }] });
    const many = await sqnrOf(initializers.fc, { formats: [{ weight: { bits: 8 } }] });
    // Six decibels a bit, and here as many bits more.
    expect(many - few).toBeGreaterThan(20);
    expect(many - few).toBeLessThan(28);
  });
});
