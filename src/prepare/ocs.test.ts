import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { NetworkWriter } from "../../test/networks.js";
import { prepare } from "../../test/preparation-contract.js";
import { weightForms } from "../../test/weight-forms.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { PreparedNetwork } from "../preparation.js";
import type { RecipeInput } from "../recipe/recipe.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** A layer whose input channels are outliers now and then, with every layer open to splitting. */
const split = (given: TestModel, more: object = {}, formats?: RecipeInput["formats"]) =>
  prepare(engine, given, { use: "ocs", first: true, ratio: 0.3, ...more }, formats);

function sitesOf({ steps }: PreparedNetwork) {
  return steps.flatMap((step) => step.sites);
}

async function expectSame(given: TestModel, { float }: PreparedNetwork): Promise<void> {
  const isHalf = [...given.model.graph.initializers.values()].some(({ type }) => type === "float16");
  const [before, after] = [
    await runModel(engine, given.model, given.feeds),
    await runModel(engine, float, given.feeds),
  ];
  expect(largestDifference(before, after)).toBeLessThan(isHalf ? 2e-3 : 1e-5);
}

/** Makes one input channel of a weight much larger. */
function withOutlier(tensor: Tensor, axis: number, channel: number): Tensor {
  const inner = tensor.shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const values = float32Values(tensor).map((value, i) =>
    Math.floor(i / inner) % tensor.shape[axis] === channel ? 8 * value : value,
  );
  return float32Tensor(tensor.shape, values);
}

const tensorFormat: RecipeInput["formats"] = [{ weight: { bits: 4, granularity: "tensor" } }];

describe("ocs", () => {
  describe.each([
    ["a scale per channel", undefined],
    ["one scale", tensorFormat],
  ] as const)("with %s", (_about, formats) => {
    it.each(weightForms)("keeps what a layer computes: $about", async (form) => {
      const given = makeTestModel(form);
      const prepared = await split(given, {}, formats);
      await expectSame(given, prepared);
      for (const site of sitesOf(prepared)) {
        if (site.kind === "skipped") expect(site.reason).not.toContain("taken back");
      }
    });
  });

  it("splits the channel that holds the outliers, and halves its weights", async () => {
    const w = withOutlier(someFloats([6, 5, 3, 3], 2), 1, 3);
    const nodes = [makeNode("Conv", ["x", "w"], ["y"], {}, "conv")];
    const given = makeTestModel({ feeds: { x: someFloats([1, 5, 6, 6]) }, nodes, outputs: ["y"], initializers: { w } });
    const prepared = await split(given, { ratio: 0.2, split: "naive" }, tensorFormat);
    const { graph } = prepared.float;
    const weight = graph.constant("w");
    expect(weight?.shape).toEqual([6, 6, 3, 3]);
    const at = (tensor: Tensor | undefined, o: number, c: number) =>
      float32Values(tensor as Tensor)[(o * (tensor?.shape[1] ?? 0) + c) * 9];
    expect(at(weight, 2, 3)).toBe(at(w, 2, 3) / 2);
    expect(at(weight, 2, 5)).toBe(at(w, 2, 3) / 2);
    expect(at(weight, 2, 1)).toBe(at(w, 2, 1));
    expect(sitesOf(prepared)).toEqual([
      expect.objectContaining({
        label: "conv",
        kind: "solved",
        remark: expect.stringContaining("54 more weights (20.0 %)"),
      }),
    ]);
    const [plan] = prepared.choice.layers;
    expect(plan.weight.ends).toHaveLength(1);
  });

  it("gives every group as many copies, beside its own channels", async () => {
    const w = withOutlier(someFloats([4, 3, 1, 1], 2), 1, 1);
    const nodes = [makeNode("Conv", ["x", "w"], ["y"], { group: 2 })];
    const given = makeTestModel({ feeds: { x: someFloats([1, 6, 3, 3]) }, nodes, outputs: ["y"], initializers: { w } });
    const prepared = await split(given, {}, tensorFormat);
    const gather = prepared.float.graph.nodes.find(({ opType }) => opType === "Gather");
    const list = prepared.float.graph.constant(gather?.inputs[1] ?? "");
    const [a, b, c, first, d, e, f, second] = integerValues(list as Tensor);
    expect([a, b, c, d, e, f]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([Math.floor(first / 3), Math.floor(second / 3)]).toEqual([0, 1]);
    await expectSame(given, prepared);
  });

  it.each(["LSTM", "GRU", "RNN"])(
    "duplicates hidden units of %s, in both directions and with given states",
    async (opType) => {
      const gates = { LSTM: 4, GRU: 3, RNN: 1 }[opType] ?? 1;
      const [hidden, directions] = [5, 2];
      const isLstm = opType === "LSTM";
      const initializers = {
        w: someFloats([directions, gates * hidden, 3], 2),
        r: withOutlier(someFloats([directions, gates * hidden, hidden], 3), 2, 4),
        b: someFloats([directions, 2 * gates * hidden], 4),
        c: someFloats([directions, 2, hidden], 5),
        ...(isLstm ? { p: someFloats([directions, 3 * hidden], 6) } : {}),
      };
      const inputs = ["x", "w", "r", "b", "", "h", ...(isLstm ? ["c", "p"] : [])];
      const outputs = ["y", "y_h", ...(isLstm ? ["y_c"] : [])];
      const attributes = { hidden_size: hidden, direction: "bidirectional" };
      const feeds = { x: someFloats([4, 2, 3]), h: someFloats([directions, 2, hidden], 7) };
      const used = Object.fromEntries(Object.entries(initializers).filter(([name]) => inputs.includes(name)));
      const given = makeTestModel({
        feeds,
        nodes: [makeNode(opType, inputs, outputs, attributes)],
        outputs,
        initializers: used,
      });
      for (const formats of [undefined, tensorFormat]) {
        const prepared = await split(given, {}, formats);
        expect(sitesOf(prepared).map(({ kind }) => kind)).toEqual(["solved", "solved"]);
        const node = prepared.float.graph.nodes.find((one) => one.opType === opType);
        expect(prepared.float.graph.constant("r")?.shape).toEqual([directions, gates * 7, 7]);
        expect(prepared.float.graph.constant("w")?.shape).toEqual([directions, gates * 7, 4]);
        expect(node?.attributes.get("hidden_size")).toEqual({ kind: "int", value: 7 });
        for (const { weight, layer } of prepared.choice.layers) {
          expect([1, gates * 7]).toContain(weight.ends?.length);
          expect(weight.ends?.length === 1).toBe(weight.granularity.kind === "per-tensor");
          expect(prepared.float.graph.constant(layer.weight)?.shape[1]).toBe(gates * 7);
        }
        await expectSame(given, prepared);
      }
    },
  );

  it("says why it leaves a layer alone", async () => {
    const net = new NetworkWriter();
    net.relu(net.conv("x", "stem", [4, 2]));
    net.node("Conv", ["stem_relu", net.weight("each", [4, 1, 3, 3])], "deep", { group: 4 });
    net.node("Conv", ["deep", net.weight("both", [4, 4, 1, 1])], "one");
    net.node("Mul", ["both", "one"], "other");
    const given = net.finish({ x: someFloats([1, 2, 8, 8]) }, ["one", "other"]);
    const sites = sitesOf(await prepare(engine, given, { use: "ocs" }));
    expect(Object.fromEntries(sites.map((site) => [site.label, site.kind === "skipped" && site.reason]))).toEqual({
      stem: expect.stringContaining("reads the network's input"),
      deep: expect.stringContaining("depthwise"),
      one: expect.stringContaining("something else reads both too"),
    });
  });

  it("lets all readers of a weight have the same copies", async () => {
    const w = withOutlier(someFloats([6, 6], 2), 0, 2);
    const nodes = [
      makeNode("MatMul", ["x", "w"], ["a"]),
      makeNode("Tanh", ["a"], ["b"]),
      makeNode("MatMul", ["b", "w"], ["y"]),
    ];
    const given = makeTestModel({ feeds: { x: someFloats([3, 6]) }, nodes, outputs: ["y"], initializers: { w } });
    const prepared = await split(given, {}, tensorFormat);
    const gathers = prepared.float.graph.nodes.filter(({ opType }) => opType === "Gather");
    expect(gathers.map(({ inputs }) => inputs[1])).toEqual(["w_channels", "w_channels"]);
    expect(sitesOf(prepared)).toHaveLength(1);
    await expectSame(given, prepared);
  });

  it("takes rows of the layer before instead of a copy where they are smaller than the list of channels", async () => {
    const net = new NetworkWriter();
    net.relu(net.conv("x", "first", [8, 2], 1));
    net.node("Conv", ["first_relu", net.weight("each", [8, 1, 3, 3]), net.weight("each_bias", [8])], "deep", {
      group: 8,
    });
    net.constant("w", withOutlier(someFloats([4, 8, 1, 1], 5), 1, 6));
    net.node("Conv", [net.relu("deep"), "w"], "y");
    const given = net.finish({ x: someFloats([1, 2, 6, 6]) }, ["y"]);
    for (const formats of [undefined, tensorFormat]) {
      const prepared = await split(given, { ratio: 0.1 }, formats);
      const { graph } = prepared.float;
      expect(graph.nodes.map(({ opType }) => opType).filter((opType) => opType === "Gather")).toHaveLength(1);
      expect(["first_w", "each", "w"].map((name) => graph.constant(name)?.shape)).toEqual([
        [9, 3, 1, 1],
        [9, 1, 3, 3],
        [4, 9, 1, 1],
      ]);
      const ends = prepared.choice.layers.find(({ layer }) => layer.weight === "first_w")?.weight.ends;
      if (formats === undefined) expect(ends?.[8]).toEqual(ends?.[6]);
      const remarks = sitesOf(prepared).flatMap((site) => (site.kind === "solved" ? [site.remark] : []));
      expect(remarks).toEqual([
        expect.stringMatching(/place$/),
        expect.stringMatching(/place; about 13 more where its input is computed$/),
      ]);
      await expectSame(given, prepared);
    }
  });

  it("spends the same budget where it lowers the error more", async () => {
    const net = new NetworkWriter();
    net.constant("plain", someFloats([16, 16], 5));
    net.constant("spiky", withOutlier(withOutlier(someFloats([16, 16], 6), 0, 3), 0, 9));
    net.node("MatMul", [net.node("Tanh", [net.node("MatMul", ["x", "plain"], "a")], "t"), "spiky"], "y");
    const given = net.finish({ x: someFloats([1, 16]) }, ["y"]);
    const { float } = await split(given, { ratio: 0.125, spend: "best" }, tensorFormat);
    const shapes = ["plain", "spiky"].map((name) => float.graph.constant(name)?.shape[0] as number);
    expect(shapes[0] + shapes[1]).toBeLessThanOrEqual(36);
    expect(shapes[1]).toBeGreaterThan(shapes[0]);
  });

  describe("of activations", () => {
    const halves = { of: "activations" };

    it.each(weightForms)("keeps what a layer computes: $about", async (form) => {
      const given = makeTestModel(form);
      const prepared = await split(given, halves);
      await expectSame(given, prepared);
      for (const site of sitesOf(prepared)) {
        if (site.kind === "skipped") expect(site.reason).not.toContain("taken back");
      }
    });

    it("halves the channel that reaches furthest, a quarter of a step beside the middle", async () => {
      const x = float32Tensor([2, 4], [1, -8, 0.5, 1, 0, 7, 1, -1]);
      const nodes = [makeNode("MatMul", ["x", "w"], ["y"])];
      const given = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { w: someFloats([4, 3], 2) } });
      const formats: RecipeInput["formats"] = [{ weight: { bits: 4 }, activation: { range: "minmax" } }];
      const prepared = await split(given, { ...halves, ratio: 0.25 }, formats);
      const { graph } = prepared.float;
      const values = (name: string) => [...float32Values(graph.constant(name) as Tensor)];
      expect(values("w_shares")).toEqual([1, 0.5, 1, 1, 0.5]);
      // Copies reach a quarter of a step further than halves do: of the first grid's step, then of the second's.
      const before = 15 / 255;
      const scale = (7.5 + before / 2) / 255;
      const after = (7.5 + scale / 2) / 255;
      const expected = [0, -scale / 4, 0, 0, scale / 4];
      values("w_offsets").forEach((offset, i) => {
        expect(offset).toBeCloseTo(expected[i], 6);
      });
      expect(values("w").slice(12)).toEqual(values("w").slice(3, 6));
      // What the rounded copies add up to, against the values, as much as the weights make of it.
      const w = float32Values(given.model.graph.constant("w") as Tensor);
      const errorOf = (step: number, isSplit: boolean) =>
        [1, -8, 0.5, 1, 0, 7, 1, -1].reduce((sum, value, i) => {
          const power = w.slice(3 * (i % 4), 3 * (i % 4) + 3).reduce((total, weight) => total + weight ** 2, 0);
          const parts = isSplit && i % 4 === 1 ? [value / 2 - scale / 4, value / 2 + scale / 4] : [value];
          const rounded = parts.reduce((total, part) => total + step * Math.round(part / step), 0);
          return sum + power * (value - rounded) ** 2;
        }, 0) / 2;
      expect(sitesOf(prepared)).toEqual([
        expect.objectContaining({
          kind: "solved",
          errorBefore: expect.closeTo(errorOf(before, false), 9),
          errorAfter: expect.closeTo(errorOf(after, true), 9),
        }),
      ]);
      await expectSame(given, prepared);
    });

    it("leaves an input alone whose grid cuts the outliers off anyway", async () => {
      // One value in a thousand lies far out: the smallest squared error is that of a grid that leaves it out.
      const values = Array.from({ length: 4000 }, (_, i) => Math.sin(7 * i));
      values[1234] = 6;
      const x = float32Tensor([1000, 4], values);
      const nodes = [makeNode("MatMul", ["x", "w"], ["y"])];
      const given = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { w: someFloats([4, 3], 2) } });
      const kindsWith = async (range: "mse" | "minmax") => {
        const formats = [{ weight: { bits: 4 as const }, activation: { bits: 4 as const, range } }];
        return sitesOf(await split(given, { ...halves, ratio: 0.25, split: "naive" }, formats));
      };
      expect(await kindsWith("mse")).toEqual([
        expect.objectContaining({ kind: "skipped", reason: expect.stringContaining("would not lower the error") }),
      ]);
      expect(await kindsWith("minmax")).toEqual([expect.objectContaining({ kind: "solved" })]);
    });

    it("leaves codes alone, of which halves are no finer", async () => {
      const net = new NetworkWriter();
      net.relu(net.conv("x", "stem", [4, 2]));
      net.node("GlobalAveragePool", [net.conv("stem_relu", "next", [4, 4])], "y");
      const given = net.finish({ x: someFloats([1, 2, 8, 8]) }, ["y"]);
      const reasons = async (bits: 4 | 8) => {
        const formats = [{ weight: { bits: 8 as const }, activation: { bits, range: "minmax" as const } }];
        return sitesOf(await prepare(engine, given, { use: "ocs", of: "activations" }, formats)).map((site) =>
          site.kind === "skipped" ? site.reason : "solved",
        );
      };
      expect(await reasons(8)).toContainEqual(expect.stringContaining("comes out of an integer kernel in 8 bits"));
      expect(await reasons(4)).not.toContainEqual(expect.stringContaining("integer kernel"));
    });
  });
});
