import { afterAll, describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { makeResidualNet, makeStemless, makeTransformer, NetworkWriter } from "../../test/networks.js";
import { roundWeights, stepNamed, walkThrough } from "../../test/walking.js";
import type { Feeds } from "../engine/engine.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { AnyStep } from "../step/open-step.js";
import { blockStep, linear } from "./block-step.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** No bytes for a matrix: what is left is the constant. */
const constants: AnyStep = {
  ...stepNamed("qwt"),
  open: (context) => stepNamed("qwt").open(context, { budget: 0 }),
};

const fullMatrices: AnyStep = {
  ...stepNamed("qwt"),
  open: (context) => stepNamed("qwt").open(context, { rank: "full", storage: "float32" }),
};

async function compensate(make: typeof makeTransformer, step = constants) {
  const { model: float, feeds } = make();
  const [[name, { shape }]] = feeds;
  const samples = Array.from({ length: 24 }, (_, i): Feeds => new Map([[name, someFloats(shape, 40 + i)]]));
  const current = roundWeights(float);
  const { model, records } = await walkThrough(engine, float, current, samples, step);
  const changed = [...model.graph.initializers].filter(
    ([key, tensor]) => current.graph.initializers.get(key) !== tensor,
  );
  const solved = records.flatMap((record) => (record.kind === "solved" ? [record.remark ?? ""] : []));
  return { current, model, solved, changed: changed.map(([key]) => key) };
}

describe("a block that no correction helps", () => {
  const errors = (judged: number) => ({ judged, raw: judged });
  const outcomeOf = (...after: readonly number[]) => {
    const options = after.map((_, rank) => ({ kind: 0, rank, bytes: rank }) as never);
    const round = { found: [] as never, solution: { kind: "try" as const, options } };
    const trial = { kind: "trial" as const, before: errors(2), after: after.map(errors) };
    return blockStep.solve({ kinds: [linear] } as never, [trial], [round]);
  };

  it("tells what the best of them would make of its error", () => {
    const reason = "on samples held back its error would be 1.100 times what it is";
    expect(outcomeOf(2.4, 2.2)).toEqual({ kind: "skipped", reason });
    expect(outcomeOf(Number.NaN, 2.2)).toEqual({ kind: "skipped", reason });
  });

  it("tells that none of them is finite", () => {
    const reason = "on samples held back its error would not be finite";
    expect(outcomeOf(Number.POSITIVE_INFINITY, Number.NaN)).toEqual({ kind: "skipped", reason });
  });
});

describe("a block that begins with what the network is fed", () => {
  it.each(["qwt", "nbc"])("is corrected as others are: %s", async (name) => {
    const step = stepNamed(name);
    const full: AnyStep = { ...step, open: (context) => step.open(context, { rank: "full", storage: "float32" }) };
    const { model, solved } = await compensate(makeStemless, full);
    expect(solved[0]).toMatch(/, full, /);
    expect(model.graph.producer("block0")?.opType).toBe("Add");
    expect(model.graph.consumers("x").map(({ opType }) => opType)).toContain("MatMul");
    expect(model.graph.nodes.filter(({ inputs }) => inputs.includes("x")).length).toBeGreaterThan(2);
  });
});

describe("a budget that blocks share by what they gain", () => {
  it("is kept to, and spent on some blocks more than on others", async () => {
    const budget = 0.2;
    const step = stepNamed("qwt");
    const sharing: AnyStep = {
      ...step,
      open: (context) => step.open(context, { budget, spend: "best", blocks: "part" }),
    };
    const { current, solved } = await compensate(makeTransformer, sharing);
    const bytes = solved.map((remark) => Number(/(\d+) bytes$/.exec(remark)?.[1]));
    const weights = [...current.graph.initializers.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    expect(Math.max(...bytes)).toBeGreaterThan(16);
    expect(bytes.reduce((sum, own) => sum + own, 0)).toBeLessThanOrEqual(budget * weights);
  });
});

describe("a budget of which nothing is said how to spend it", () => {
  const spending = async (options: Record<string, number | string>) => {
    const step = stepNamed("qwt");
    const opening: AnyStep = { ...step, open: (context) => step.open(context, { blocks: "part", ...options }) };
    return (await compensate(makeTransformer, opening)).solved;
  };

  it("is spent where it gains most as long as it is a limit", async () => {
    const spent = await spending({ budget: 0.1 });
    expect(spent).toEqual(await spending({ budget: 0.1, spend: "best" }));
    expect(spent).not.toEqual(await spending({ budget: 0.1, spend: "evenly" }));
  });

  it("pays for every full matrix where it can, and for constants where it can do no more", async () => {
    expect(await spending({ budget: 100 })).toEqual(await spending({ budget: 100, spend: "evenly" }));
    expect(await spending({ budget: 0 })).toEqual(await spending({ budget: 0, spend: "evenly" }));
  });
});

/** Residual blocks of 6 tokens in 4 channels, which may have a convolution over the tokens, and the mean of all tokens behind them. */
function makeTokens(isConvolved: boolean) {
  const net = new NetworkWriter();
  let value = net.linear("x", "embedded", [5, 4]);
  for (let i = 0; i < 2; i++) {
    let wide = net.linear(value, `wide${i}`, [4, 8]);
    if (isConvolved) {
      const turned = net.node("Transpose", [wide], `turned${i}`, { perm: [0, 2, 1] });
      const kernel = net.weight(`kernel${i}`, [8, 1, 3]);
      const mixed = net.node("Conv", [turned, kernel], `mixed${i}`, { group: 8, pads: [1, 1] });
      wide = net.node("Transpose", [mixed], `back${i}`, { perm: [0, 2, 1] });
    }
    value = net.node("Add", [net.linear(net.relu(wide), `narrow${i}`, [8, 4]), value], `block${i}`);
  }
  net.linear(net.node("ReduceMean", [value], "pooled", { axes: [1], keepdims: 0 }), "y", [4, 3]);
  return net.finish({ x: someFloats([1, 6, 5], 97) }, ["y"]);
}

const makeMixed = () => makeTokens(true);

describe("a block of tokens with a convolution inside", () => {
  it("is corrected along its channels, not its tokens", async () => {
    const { model, solved } = await compensate(makeMixed, fullMatrices);
    expect(solved).toHaveLength(2);
    const added = model.graph.nodes.filter(({ outputs }) => outputs[0].includes("_correction"));
    expect(added.map(({ opType }) => opType)).not.toContain("Conv");
    expect(added.filter(({ opType }) => opType === "MatMul")).toHaveLength(2);
  });

  it("has its constant in the bias of its last layer", async () => {
    const { current, model, solved, changed } = await compensate(makeMixed);
    expect(solved.length).toBeGreaterThan(0);
    expect(model.graph.nodes.length).toBe(current.graph.nodes.length);
    for (const name of changed) expect(name).toMatch(/^narrow\d_b$/);
  });
});

describe("a block whose tokens are averaged behind it", () => {
  it("is not judged behind a normalization", async () => {
    const { solved } = await compensate(() => makeTokens(false), fullMatrices);
    expect(solved).toHaveLength(2);
    for (const remark of solved) expect(remark).not.toContain("normalization");
  });
});

describe("a correction that is a constant alone", () => {
  it("goes into the bias of the layer that ends a residual branch", async () => {
    const { current, model, solved, changed } = await compensate(makeTransformer);
    expect(solved.length).toBeGreaterThan(0);
    for (const remark of solved) expect(remark).toMatch(/^linear, constant, in the bias of a layer, .* 0 bytes$/);
    expect(model.graph.nodes.length).toBe(current.graph.nodes.length);
    expect(changed).toHaveLength(solved.length);
    for (const name of changed) expect(name).toMatch(/^narrow\d_b$/);
  });

  it("is added where an activation function ends the block", async () => {
    const { current, model, solved } = await compensate(makeResidualNet);
    expect(solved.length).toBeGreaterThan(0);
    for (const remark of solved) expect(remark).toMatch(/^linear, constant, ridge .* 16 bytes$/);
    // An Add and the Relu again.
    expect(model.graph.nodes.length).toBe(current.graph.nodes.length + 2 * solved.length);
  });
});
