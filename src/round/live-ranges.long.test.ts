import { afterAll, describe, expect, it } from "vitest";
import { nearest } from "../../test/fake-quantize.js";
import { someFloats, type TestModel } from "../../test/models.js";
import {
  makeBranches,
  makeChain,
  makeNeck,
  makeResidualNet,
  makeTransformer,
  makeTwoInputs,
  NetworkWriter,
} from "../../test/networks.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import { fromList, type PreparedRefinement, prepareRefinement } from "../../test/refining.js";
import { fetchValue } from "../../test/slow-refinement.js";
import { observe } from "../calibrate/observe.js";
import type { Feeds } from "../engine/engine.js";
import type { Model } from "../graph/model.js";
import type { Range } from "../math/distribution.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { selectedInputs } from "../operators/selecting.js";
import { estimateRanges } from "../quantize/estimate-ranges.js";
import { chooseActivationGrid, refineGrid } from "../quantize/grid.js";
import { uniteRanges } from "../quantize/group-activations.js";
import type { QuantizedGroup } from "../quantize/quantize.js";
import type { RecipeInput } from "../recipe/recipe.js";
import type { Refined } from "../refinement.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

type Activation = Exclude<NonNullable<RecipeInput["formats"]>[number]["activation"], "float" | undefined>;

function recipeFor(activation: Activation, more: RecipeInput = {}): RecipeInput {
  return { formats: [{ weight: { bits: 3 }, activation: { bits: 4, ...activation } }], ...more };
}

/** Everything at once: weights are rounded and biases moved before a range is looked for. */
function refinedRecipe(range: string): RecipeInput {
  const weight = { bits: 3, rounding: { use: "gptq", target: "float" } } as const;
  return { formats: [{ weight, activation: { bits: 4, range } }], steps: ["bc"] };
}

/**
 * What lies on the border between two codes falls to either side where the runtime sums in another order, and at 4 bits that shows
 * in ranges: in the samples of some other seeds something does.
 */
function samplesLike({ feeds }: TestModel, count = 5): readonly Feeds[] {
  return Array.from(
    { length: count },
    (_, i): Feeds => new Map([...feeds].map(([name, { shape }]) => [name, someFloats(shape, 70 + i)])),
  );
}

/** The groups whose ranges were looked for again, as they were before and are afterwards. */
function liveGroups({ task }: PreparedRefinement, { steps, groups }: Refined) {
  const sites = steps.filter(({ name }) => name === "ranges").flatMap((step) => step.sites);
  const solved = new Set(sites.flatMap((site) => (site.kind === "solved" ? [site.label] : [])));
  return task.quantized.groups.flatMap((before, i) => {
    const isLive = before.sites.some(({ value }) => solved.has(value));
    return isLive ? [{ before, after: groups[i] as QuantizedGroup }] : [];
  });
}

/** The range of a group as the estimator finds it on what a finished network computes there. */
async function rangeIn(model: Model, group: QuantizedGroup, prepared: PreparedRefinement): Promise<Range> {
  const { task, calibration, batches } = prepared;
  const values = new Set(group.sites.map(({ value }) => value));
  const isSelected = (value: string) => {
    const producer = task.float.graph.producer(value);
    const sources = producer && selectedInputs(producer, task.float.graph);
    return sources?.every((source) => values.has(source)) ?? false;
  };
  const sites = group.sites.filter(({ value }) => !isSelected(value));
  const details = new Map(sites.map(({ value }) => [value, calibration.details.get(value)!]));
  const observation = await observe(engine, model, details, fromList(batches), () => {});
  return uniteRanges([...estimateRanges(task.float.graph, sites, observation.result()).values()]);
}

function expectClose(found: Range, expected: Range): void {
  const width = expected.high - expected.low;
  expect(Math.abs(found.low - expected.low)).toBeLessThan(1e-3 * width);
  expect(Math.abs(found.high - expected.high)).toBeLessThan(1e-3 * width);
}

function scaleOf(tensor: Tensor | undefined): number {
  return tensor === undefined ? Number.NaN : float32Values(tensor)[0];
}

/** The network holds the grids of all groups: the coarse one, and the fine one where floats are read too. */
function expectGrids({ model, groups }: Refined): void {
  const { initializers } = model.graph;
  for (const { parameters, format, spacing, range } of groups as readonly QuantizedGroup[]) {
    const grid = chooseActivationGrid(range, format.bits, format.symmetric, spacing);
    for (const { scale, zeroPoint, isFine } of parameters) {
      const expected = isFine ? refineGrid(grid) : grid;
      expect(scaleOf(initializers.get(scale))).toBe(expected.scale);
      expect(Number(integerValues(initializers.get(zeroPoint) as Tensor)[0])).toBe(expected.zeroPoint);
    }
  }
}

/** What the range of a group was looked for again in, and what became of it. */
async function expectAgreement(make: () => TestModel, recipe: RecipeInput): Promise<void> {
  const given = make();
  const prepared = await prepareRefinement(engine, given, recipe, samplesLike(given));
  const refined = await prepared.refine();
  const live = liveGroups(prepared, refined);
  expect(live.length).toBeGreaterThan(0);
  for (const { before, after } of live) {
    expect(after.sites).toBe(before.sites);
    expectClose(after.range, await rangeIn(refined.model, after, prepared));
  }
  expect(live.some(({ before, after }) => before.range.high !== after.range.high)).toBe(true);
  expectGrids(refined);
}

const networks = [
  ["a chain", makeChain],
  ["a residual network", makeResidualNet],
  ["parallel branches", makeBranches],
  ["a neck with skips", makeNeck],
  ["a transformer", makeTransformer],
  ["two inputs", makeTwoInputs],
] as const;

describe("live ranges are those that an estimator finds on what the finished network computes", () => {
  it.each(networks)("in %s", async (_about, make) => {
    await expectAgreement(make, recipeFor({ range: "minmax" }));
  });

  it.each(networks)("in %s, with rounded weights and moved biases", async (_about, make) => {
    await expectAgreement(make, refinedRecipe("percentile"));
  });

  it.each(["mse", "moving-average", "aciq", "kl"])("by %s", async (range) => {
    await expectAgreement(makeChain, refinedRecipe(range));
  });

  it.each([
    ["symmetric grids", { symmetric: true }],
    ["2 bits", { bits: 2 }],
    ["8 bits", { bits: 8, rangeFrom: "quantized" }],
  ] as const)("on %s", async (_about, activation) => {
    await expectAgreement(makeChain, recipeFor(activation));
  });
});

describe("live ranges", () => {
  it("are left alone where they shall come from the float network", async () => {
    for (const activation of [{ rangeFrom: "float" }, { bits: 8 }] as const) {
      const given = makeChain();
      const prepared = await prepareRefinement(engine, given, recipeFor(activation), samplesLike(given));
      const refined = await prepared.refine();
      expect(refined.steps).toEqual([]);
      expect(refined.groups).toBe(prepared.task.quantized.groups);
    }
  });

  it("leave what is fed as it is, and are what the report says", async () => {
    const given = makeTwoInputs();
    const samples = samplesLike(given);
    const prepared = await prepareRefinement(engine, given, recipeFor({}), samples);
    const refined = await prepared.refine();
    const [ranges] = refined.steps;
    expect(ranges).toMatchObject({ name: "ranges", outcome: "grids of activations fitted again" });
    const labels = ranges.sites.map(({ label }) => label);
    const { report } = await quantizeTestModel(engine, given, recipeFor({}), samples);
    expect(report.activations.filter(({ bits }) => bits === 4)).toHaveLength(labels.length + 2);
    prepared.task.quantized.groups.forEach((before, i) => {
      const after = refined.groups[i];
      const [{ value }] = before.sites;
      expect(labels.includes(value)).toBe(!["x", "z"].includes(value));
      expect(after.range.high === before.range.high).toBe(["x", "z"].includes(value));
      expect(report.activations[i]).toEqual({ values: [value], bits: 4, spacing: "uniform", ...after.range });
    });
    expect(report.steps).toEqual(refined.steps);
  });

  it("tell the errors of the values on both grids", async () => {
    const given = makeChain();
    const samples = samplesLike(given);
    const prepared = await prepareRefinement(engine, given, recipeFor({ bits: 3 }), samples);
    const refined = await prepared.refine();
    const sites = refined.steps[0].sites;
    for (const { before, after } of liveGroups(prepared, refined)) {
      const [{ value }] = before.sites;
      const tensors = await fetchValue(engine, refined.model, value, samples);
      const values = tensors.flatMap((tensor) => [...float32Values(tensor)]);
      const [expectedBefore, expectedAfter] = [before, after].map(({ range }) => {
        const { scale, zeroPoint } = chooseActivationGrid(range, 3, false);
        const errors = values.map((x) => x - (limit(nearest(x / scale) + zeroPoint, 7) - zeroPoint) * scale);
        return errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length;
      });
      const site = sites.find(({ label }) => label === value);
      if (site?.kind !== "solved") throw new Error(`${value} was not solved`);
      // The distribution holds values in half precision.
      expect(site.errorBefore / expectedBefore).toBeCloseTo(1, 1);
      expect(site.errorAfter / expectedAfter).toBeCloseTo(1, 1);
      expect(site.errorAfter).toBeLessThanOrEqual(1.001 * site.errorBefore);
    }
  });

  it("give values that floats are read of too a fine grid that the coarse one is a part of", async () => {
    const given = makeResidualNet();
    const samples = samplesLike(given);
    const prepared = await prepareRefinement(engine, given, recipeFor({}), samples);
    const refined = await prepared.refine();
    const both = liveGroups(prepared, refined).filter(({ after }) => after.parameters.some(({ isFine }) => isFine));
    expect(both.length).toBeGreaterThan(0);
    for (const { after } of both) {
      const grid = chooseActivationGrid(after.range, 4, false);
      const fine = refineGrid(grid);
      for (const tensor of await fetchValue(engine, refined.model, after.sites[0].value, samples)) {
        for (const value of float32Values(tensor)) {
          const read =
            (limit(nearest(Math.fround(value / fine.scale)) + fine.zeroPoint, 255) - fine.zeroPoint) * fine.scale;
          const codes = [value, read].map((x) => limit(nearest(Math.fround(x / grid.scale)) + grid.zeroPoint, 15));
          expect(codes[1]).toBe(codes[0]);
        }
      }
    }
  });

  it("wait for the deepest of the values that share a grid", async () => {
    // The last input of the Concat in the order of the nodes is the one that is computed at once.
    const net = new NetworkWriter();
    let deep = "x";
    for (let i = 0; i < 3; i++) deep = net.relu(net.conv(deep, `deep${i}`, [3, i === 0 ? 2 : 3]));
    const near = net.relu(net.conv("x", "near", [3, 2]));
    net.conv(net.relu(net.conv(net.node("Concat", [deep, near], "both", { axis: 1 }), "joined", [3, 6])), "y", [2, 3]);
    await expectAgreement(() => net.finish({ x: someFloats([1, 2, 6, 6], 9) }, ["y"]), refinedRecipe("minmax"));
  });

  it("tell of values that share a grid across blocks", async () => {
    const net = new NetworkWriter();
    const stem = net.relu(net.conv("x", "stem", [3, 2]));
    let value = net.node("MaxPool", [stem], "pool", { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
    for (let i = 0; i < 2; i++) {
      let inner = value;
      for (let k = 0; k < 6; k++) inner = net.relu(net.conv(inner, `c${i}${k}`, [3, k === 0 ? 3 + 3 * i : 3], 1));
      value = net.node("Concat", [value, inner], `joined${i}`, { axis: 1 });
    }
    net.conv(value, "y", [2, 9], 1);
    const given = net.finish({ x: someFloats([1, 2, 6, 6], 9) }, ["y"]);
    const { report } = await quantizeTestModel(engine, given, refinedRecipe("mse"), samplesLike(given));
    expect(report.blocks).toBeGreaterThan(1);
    const ranges = report.steps.find(({ name }) => name === "ranges")?.sites ?? [];
    expect(ranges.length).toBeGreaterThan(5);
    for (const site of ranges) {
      if (site.kind === "skipped") expect(site.reason).toBe("it shares its grid with values of other blocks");
    }
    expect(ranges.some(({ kind }) => kind === "skipped")).toBe(true);
  });

  it.each([
    ["zeros", [1, 2, 6, 6], 0],
    ["one constant", [1, 2, 6, 6], 3],
  ])("are found for %s", async (_about, shape, value) => {
    const given = makeChain();
    const samples = [1, 2].map(() => new Map([["x", float32Tensor(shape, new Array(72).fill(value))]]));
    const { report, model } = await quantizeTestModel(engine, given, refinedRecipe("mse"), samples);
    for (const { low, high } of report.activations) expect(high - low).toBeGreaterThanOrEqual(0);
    for (const tensor of (await runShipped(engine, model, given.feeds)).values()) {
      expect(float32Values(tensor).every(Number.isFinite)).toBe(true);
    }
  });

  it("stay what they were where a value was empty on every sample", async () => {
    const net = new NetworkWriter();
    net.linear(net.relu(net.linear("x", "first", [6, 4])), "y", [4, 3]);
    const given = net.finish({ x: someFloats([1, 6]) }, ["y"]);
    const empty: Feeds = new Map([["x", float32Tensor([0, 6], [])]]);
    const { report } = await quantizeTestModel(engine, given, recipeFor({}), [empty, empty]);
    expect(report.steps).toMatchObject([
      { name: "ranges", sites: [{ kind: "skipped", reason: "its values were empty on every sample" }] },
    ]);
  });
});

function limit(code: number, most: number): number {
  return Math.min(Math.max(code, 0), most);
}
