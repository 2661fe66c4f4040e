import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModel } from "../../test/models.js";
import { type PatchForm, patchesOf } from "../../test/patches.js";
import { testStatistic } from "../../test/statistic-contract.js";
import type { NamedFeeds } from "../engine/batch.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import type { InputForm, Layer } from "../operators/layer.js";
import { toRows } from "../tensor/rows.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor, float32Values, float64Values, type Tensor } from "../tensor/tensor.js";
import { collect } from "./collect.js";
import { CrossStatistic } from "./cross.js";
import { GramStatistic } from "./gram.js";
import type { InputSite } from "./input-matrix.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

type Rows = readonly (readonly (readonly number[])[])[];

interface Case {
  readonly about: string;
  readonly node: readonly [opType: string, attributes: Readonly<Record<string, number | string | readonly number[]>>];
  readonly input: readonly number[];
  readonly weight: readonly number[];
  /** Whether the weight is the first operand. */
  readonly isLeft?: boolean;
  /** The rows of X, by group. */
  readonly rowsOf: (input: Tensor) => Rows;
}

const vectors = (input: Tensor): Rows => patchesOf(input, { kernel: [], stride: 1, pad: 0, groups: 1 });
/** Vectors along the axis before the last. */
const columns = (input: Tensor): Rows => {
  const [rows, width] = input.shape.slice(-2);
  const values = float64Values(input);
  const count = values.length / (rows * width);
  const found: number[][] = [];
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < width; c++) {
      found.push(Array.from({ length: rows }, (_, r) => values[(i * rows + r) * width + c]));
    }
  }
  return [found];
};
const patches =
  (form: Partial<PatchForm>) =>
  (input: Tensor): Rows =>
    patchesOf(input, { kernel: [3, 3], stride: 1, pad: 0, groups: 1, ...form });

const cases: readonly Case[] = [
  { about: "MatMul of vectors in rows", node: ["MatMul", {}], input: [2, 5, 3], weight: [3, 4], rowsOf: vectors },
  { about: "MatMul of one vector", node: ["MatMul", {}], input: [3], weight: [3, 4], rowsOf: vectors },
  { about: "MatMul of four axes", node: ["MatMul", {}], input: [2, 2, 3, 5], weight: [5, 2], rowsOf: vectors },
  {
    about: "MatMul with the weight on the left",
    node: ["MatMul", {}],
    input: [2, 3, 5],
    weight: [4, 3],
    isLeft: true,
    rowsOf: columns,
  },
  { about: "Gemm", node: ["Gemm", {}], input: [5, 3], weight: [3, 4], rowsOf: vectors },
  { about: "Gemm with transB", node: ["Gemm", { transB: 1 }], input: [5, 3], weight: [4, 3], rowsOf: vectors },
  { about: "Gemm with transA", node: ["Gemm", { transA: 1 }], input: [3, 5], weight: [3, 4], rowsOf: columns },
  {
    about: "Gemm with the weight on the left",
    node: ["Gemm", {}],
    input: [3, 5],
    weight: [4, 3],
    isLeft: true,
    rowsOf: columns,
  },
  {
    about: "Gemm with the weight on the left, both transposed",
    node: ["Gemm", { transA: 1, transB: 1 }],
    input: [5, 3],
    weight: [3, 4],
    isLeft: true,
    rowsOf: vectors,
  },
  { about: "Conv", node: ["Conv", {}], input: [2, 3, 6, 5], weight: [4, 3, 3, 3], rowsOf: patches({}) },
  {
    about: "Conv 1×1",
    node: ["Conv", {}],
    input: [2, 3, 4, 5],
    weight: [4, 3, 1, 1],
    rowsOf: patches({ kernel: [1, 1] }),
  },
  {
    about: "Conv with stride and padding",
    node: ["Conv", { strides: [2, 2], pads: [1, 1, 1, 1] }],
    input: [2, 3, 6, 5],
    weight: [4, 3, 3, 3],
    rowsOf: patches({ stride: 2, pad: 1 }),
  },
  {
    about: "Conv with padding on some sides",
    node: ["Conv", { pads: [0, 1, 2, 0] }],
    input: [1, 2, 5, 4],
    weight: [4, 2, 3, 3],
    rowsOf: patches({ pad: [0, 1, 2, 0] }),
  },
  {
    about: "Conv with dilation",
    node: ["Conv", { dilations: [2, 2] }],
    input: [1, 2, 7, 6],
    weight: [3, 2, 3, 3],
    rowsOf: patches({ dilation: 2 }),
  },
  {
    about: "grouped Conv",
    node: ["Conv", { group: 2, pads: [1, 1, 1, 1] }],
    input: [2, 4, 4, 5],
    weight: [6, 2, 3, 3],
    rowsOf: patches({ groups: 2, pad: 1 }),
  },
  {
    about: "depthwise Conv",
    node: ["Conv", { group: 3, strides: [2, 2] }],
    input: [2, 3, 5, 5],
    weight: [3, 1, 3, 3],
    rowsOf: patches({ groups: 3, stride: 2 }),
  },
  {
    about: "Conv of one axis, auto_pad SAME_UPPER",
    node: ["Conv", { auto_pad: "SAME_UPPER", strides: [2] }],
    input: [2, 3, 6],
    weight: [4, 3, 3],
    rowsOf: patches({ kernel: [3], stride: 2, pad: [0, 1] }),
  },
  {
    about: "Conv of one axis, auto_pad SAME_LOWER",
    node: ["Conv", { auto_pad: "SAME_LOWER" }],
    input: [2, 3, 6],
    weight: [4, 3, 4],
    rowsOf: patches({ kernel: [4], pad: [2, 1] }),
  },
  {
    about: "Conv with auto_pad VALID",
    node: ["Conv", { auto_pad: "VALID", strides: [2, 2] }],
    input: [1, 2, 6, 5],
    weight: [4, 2, 3, 3],
    rowsOf: patches({ stride: 2 }),
  },
  {
    about: "Conv of three axes",
    node: ["Conv", { pads: [1, 1, 1, 1, 1, 1] }],
    input: [1, 2, 3, 4, 3],
    weight: [3, 2, 2, 3, 2],
    rowsOf: patches({ kernel: [2, 3, 2], pad: 1 }),
  },
];

describe.each(cases)("what a layer reads: $about", (one) => {
  it("has the Gram matrix of its rows, and their products with what the output lacks", async () => {
    for (const shapes of ["fixed", "dynamic"] as const) {
      const { model, batches, site, layer, weight } = await prepare(one, shapes);
      const gram = new GramStatistic(site);
      const cross = new CrossStatistic(site, layer, weight, { from: "current", value: "t" });
      await collect(engine, model, [gram, cross], (tap) => tap.value, batches);
      const found = slowly(one, layer, weight, batches);
      expect(gram.result().rows).toBe(found.rows);
      expectClose(gram.result().products, found.gram);
      expectClose(cross.result().products, found.cross);
    }
  });

  it("takes fewer rows where there are many, evenly", async () => {
    const { model, batches, site } = await prepare(one, "fixed");
    const rowsPerSample = slowly(one, undefined, undefined, batches).rows / batches.length;
    const gram = new GramStatistic({ ...site, rowsPerRun: Math.ceil(rowsPerSample / 2) });
    await collect(engine, model, [gram], (tap) => tap.value, batches);
    const { rows } = gram.result();
    expect(rows / batches.length).toBeLessThanOrEqual(Math.ceil(rowsPerSample / 2));
    expect(rows).toBeGreaterThanOrEqual(batches.length);
  });

  it("takes the same rows of the input and of the error", async () => {
    // Where as much again is wanted, the error is the output: its products with the input are those of the weight.
    const { model, batches, site, layer, weight } = await prepare(one, "dynamic");
    const doubled = batches.map(({ id, feeds }): NamedFeeds => {
      const x = feeds.get("x") as Tensor;
      const t = float32Tensor(
        x.shape,
        float32Values(x).map((value) => 2 * value),
      );
      return { id, feeds: new Map([...feeds, ["t", t]]) };
    });
    const few = { ...site, rowsPerRun: 2 };
    const gram = new GramStatistic(few);
    const cross = new CrossStatistic(few, layer, weight, { from: "current", value: "t" });
    await collect(engine, model, [gram, cross], (tap) => tap.value, doubled);
    const { products } = gram.result();
    const size = site.columns;
    const groups = products.length / size ** 2;
    const rows = toRows(float32Values(weight), weight.shape, layer.channelAxis);
    const perGroup = rows.length / groups;
    const expected = Float64Array.from(rows, (_, i) => {
      const [row, column, group] = [Math.floor(i / size), i % size, Math.floor(i / perGroup)];
      let sum = 0;
      for (let k = 0; k < size; k++) sum += rows[row * size + k] * products[(group * size + k) * size + column];
      return sum;
    });
    expectClose(cross.result().products, expected);
  });
});

const vectorSite: InputSite = {
  input: "y",
  rank: 3,
  columns: 3,
  form: { kind: "vectors", axis: -1 },
  rowsPerRun: 1000,
};
const patchForm: InputForm = {
  kind: "patches",
  groups: 2,
  kernel: [2],
  strides: [1],
  dilations: [1],
  padding: [1, 0],
};

testStatistic(engine, {
  about: "Gram matrix of vectors",
  make: () => new GramStatistic(vectorSite),
  slowly: (samples) => {
    const rows = samples.flatMap(({ current }) =>
      Array.from({ length: current.length / 3 }, (_, i) => current.slice(3 * i, 3 * i + 3)),
    );
    return { rows: rows.length, products: productsOf([rows], [rows]) };
  },
  seen: withoutHalves,
});

testStatistic(engine, {
  about: "Gram matrix of patches",
  make: () => new GramStatistic({ ...vectorSite, columns: 4, form: patchForm }),
  slowly: (samples) => {
    const inputs = samples.map(({ current }) => float32Tensor([current.length / 12, 4, 3], current));
    const groups = inputs.map((input) => patchesOf(input, { kernel: [2], stride: 1, pad: [1, 0], groups: 2 }));
    const rows = [0, 1].map((g) => groups.flatMap((group) => group[g]));
    return { rows: rows[0].length, products: productsOf(rows, rows) };
  },
  seen: withoutHalves,
});

const product: Layer = {
  node: makeNode("MatMul", ["y", "w"], ["z"]),
  weight: "w",
  weightInput: 1,
  channelAxis: 1,
  outputAxis: -1,
};

testStatistic(engine, {
  about: "products of input and error",
  make: () => new CrossStatistic(vectorSite, product, someFloats([3, 2], 5), { from: "float", value: "y" }),
  slowly: (samples) => {
    const weight = float64Values(someFloats([3, 2], 5));
    const inputs = samples.flatMap(({ current }) => rowsOfThree(current));
    const errors = samples
      .flatMap(({ float, current }) => rowsOfThree(float.map((value, i) => value - current[i])))
      .map((row) => [0, 1].map((o) => row.reduce((sum, value, k) => sum + value * weight[2 * k + o], 0)));
    return { products: productsOf([errors], [inputs]) };
  },
  seen: withoutHalves,
});

/** Which half a sample counts to depends on the run it is in. */
function withoutHalves(result: unknown): unknown {
  return { ...(result as Readonly<Record<string, unknown>>), halves: {} };
}

function rowsOfThree(values: readonly number[]): readonly (readonly number[])[] {
  return Array.from({ length: values.length / 3 }, (_, i) => values.slice(3 * i, 3 * i + 3));
}

async function prepare(
  { node: [opType, attributes], input, weight, isLeft = false }: Case,
  shapes: "fixed" | "dynamic",
) {
  const w = someFloats(weight, 9);
  const open = input.map((_, axis) => `d${axis}`);
  // The channels of a convolution are known in every model.
  const known = opType === "Conv" ? open.map((name, axis) => (axis === 1 ? input[1] : name)) : open;
  const given: TestModel = makeTestModel({
    feeds: { x: someFloats(input), t: someFloats(input, 2) },
    shapes: shapes === "dynamic" ? { x: known, t: known } : {},
    nodes: [makeNode(opType, isLeft ? ["w", "x"] : ["x", "w"], ["y"], attributes)],
    initializers: { w },
    outputs: ["y"],
  });
  const types = await inferValueTypes(engine, given.model);
  const [layer] = findLayers(given.model.graph, types).layers;
  const { inputForm: form } = layer;
  if (form === undefined) throw new Error("the layer has no form");
  const rowCount = weight[layer.channelAxis];
  const site: InputSite = {
    input: "x",
    rank: input.length,
    form,
    columns: elementCount(weight) / rowCount,
    rowsPerRun: 1000,
  };
  const batches = [1, 2].map((seed): NamedFeeds => {
    const feeds = new Map([
      ["x", someFloats(input, seed)],
      ["t", someFloats(input, seed + 5)],
    ]);
    return { id: `${seed}`, feeds };
  });
  // What the statistics look at must be computed from what is fed.
  const graph = given.model.graph;
  return { model: { ...given.model, graph }, batches, site, layer, weight: w };
}

function slowly(one: Case, layer: Layer | undefined, weight: Tensor | undefined, batches: readonly NamedFeeds[]) {
  const rowsOf = (name: string) => {
    const groups = batches.map(({ feeds }) => one.rowsOf(feeds.get(name) as Tensor));
    return groups[0].map((_, g) => groups.flatMap((group) => group[g]));
  };
  const inputs = rowsOf("x");
  const rows = inputs[0].length;
  const gram = productsOf(inputs, inputs);
  if (layer === undefined || weight === undefined) return { rows, gram, cross: new Float64Array() };
  const matrix = toRows(float32Values(weight), weight.shape, layer.channelAxis);
  const size = inputs[0][0].length;
  const perGroup = matrix.length / size / inputs.length;
  const wanted = rowsOf("t");
  const errors = inputs.map((group, g) =>
    group.map((row, i) =>
      Array.from({ length: perGroup }, (_, o) =>
        row.reduce((sum, value, k) => sum + (wanted[g][i][k] - value) * matrix[(g * perGroup + o) * size + k], 0),
      ),
    ),
  );
  return { rows, gram, cross: productsOf(errors, inputs) };
}

/** AᵀB of each group, one behind the other. */
function productsOf(left: Rows, right: Rows): Float64Array {
  return Float64Array.from(
    left.flatMap((rows, g) =>
      rows[0].flatMap((_, i) =>
        right[g][0].map((__, j) => rows.reduce((sum, row, r) => sum + row[i] * right[g][r][j], 0)),
      ),
    ),
  );
}

function expectClose(actual: Float64Array, expected: Float64Array): void {
  expect(actual.length).toBe(expected.length);
  const scale = Math.max(...expected.map(Math.abs));
  actual.forEach((value, i) => {
    expect(Math.abs(value - expected[i])).toBeLessThan(1e-5 * scale);
  });
}
