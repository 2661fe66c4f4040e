import { describe, expect, it } from "vitest";
import type { StepRule } from "./recipe/recipe.js";
import { resolveStep, textOfStep } from "./recipe/settings.js";
import type { FormsTaken } from "./step/forms.js";
import { tryVariants } from "./variants.js";

/** Errors over samples; one for all of them where there is no scatter. */
type Errors = number | readonly number[];

/** Tries steps that lead to the errors of a table; what is not in it is far worse. */
async function choose(asked: readonly string[], table: Readonly<Record<string, Errors>>, forms: FormsTaken = {}) {
  const variantOf = (steps: readonly StepRule[]) => {
    const name = steps.map(textOfStep).join();
    const errors = table[name] ?? 100;
    const samples = (typeof errors === "number" ? [errors, errors] : errors).map((error) => ({
      kl: error,
      error,
      others: [],
    }));
    return { name, steps, samples, forms: Object.keys(forms).some((use) => name.includes(use)) ? forms : {} };
  };
  const { tried, best } = await tryVariants({
    asked: asked.map((use) => (use.includes(":") ? resolveStep(use) : { use })),
    given: variantOf([]),
    rank: 2,
    open: { use: "ranges", estimators: ["mse", "minmax"] },
    tryOut: async (steps) => variantOf(steps),
  });
  return { tried: tried.map(({ name }) => name), best: best.name };
}

describe("tryVariants", () => {
  it("leaves out one step after the other until nothing is better", async () => {
    const table = {
      "": 10,
      "bc,affine,qwt,cat": 8,
      "bc,affine,cat": 5,
      "bc,affine,qwt": 7,
      "bc,affine": 4,
      bc: 6,
      affine: 5,
    };
    const { tried, best } = await choose(["bc", "affine", "qwt", "cat"], table);
    const [three, two] = [
      ["affine,qwt,cat", "bc,qwt,cat", "bc,affine,cat", "bc,affine,qwt"],
      ["affine,cat", "bc,cat", "bc,affine"],
    ];
    // Of the best two steps each is left out too; block compensation has another target that is tried beside them.
    expect(tried).toEqual([
      "",
      "bc,affine,qwt,cat",
      ...three,
      ...two,
      "affine",
      "bc",
      expect.stringContaining("rho=0"),
    ]);
    expect(tried.at(-1)).toMatch(/^bc,affine,qwt:.*rho=0/);
    expect(best).toBe("bc,affine");
  });

  it("stops where every step that is left helps", async () => {
    const { tried, best } = await choose(["bc", "affine", "cat"], { "": 10, "bc,affine,cat": 5, "affine,cat": 6 });
    expect(tried).toEqual(["", "bc,affine,cat", "affine,cat", "bc,cat", "bc,affine"]);
    expect(best).toBe("bc,affine,cat");
  });

  it.each([
    ["by less than a hundredth", [5, 5], [4.97, 4.97], "bc"],
    ["by more than a hundredth", [5, 5], [4.9, 4.9], "bc,cat"],
    // 1 less on average; the standard error of 1.6 and 0.4 is 0.6, that of 1.4 and 0.6 is 0.4.
    ["by no more than chance may", [5, 5], [3.4, 4.6], "bc"],
    ["by more than chance may", [5, 5], [3.6, 4.4], "bc,cat"],
    ["on one of many samples", [5, 5, 5, 5], [1, 5, 5, 5], "bc"],
    ["on the only sample", [5], [1], "bc"],
  ] as const)("keeps what adds operators where it lowers the error: %s", async (_about, without, beside, expected) => {
    const given = without.map(() => 10);
    const { best } = await choose(["bc", "cat"], { "": given, bc: without, "bc,cat": beside });
    expect(best).toBe(expected);
  });

  it("takes any gain of what adds none", async () => {
    expect((await choose(["bc"], { "": [10, 10], bc: [4, 15.9] })).best).toBe("bc");
    expect((await choose(["bc"], { "": [10, 10], bc: [4, 16] })).best).toBe("");
    const table = { "": 10, "bc,affine": 4.99, affine: 5, bc: 6 };
    expect((await choose(["bc", "affine"], table)).best).toBe("bc,affine");
  });

  it("leaves out what adds none where that is no chance", async () => {
    const table = { "": [10, 10], "bc,affine": [5, 5], bc: [4, 5.9], affine: [3.9, 6.2] };
    expect((await choose(["bc", "affine"], table)).best).toBe("bc,affine");
    expect((await choose(["bc", "affine"], { ...table, affine: [4, 5] })).best).toBe("bc,affine");
    expect((await choose(["bc", "affine"], { ...table, affine: [4, 4.9] })).best).toBe("affine");
  });

  it("takes what is surely better even where another way was gone", async () => {
    const table = { "": 10, "bc,qwt,cat": 8, "qwt,cat": 3, "bc,cat": 5, "bc,qwt": 7, bc: 6 };
    expect((await choose(["bc", "qwt", "cat"], table)).best).toBe("qwt,cat");
  });

  it("gives the model back where what adds operators is not surely better than that", async () => {
    expect((await choose(["cat"], { "": [5, 5], cat: [2, 6] })).best).toBe("");
  });

  it("goes on from the best estimator that a step leaves open", async () => {
    const table = { "": 10, "ranges:range=mse,bc": 5, "ranges:range=minmax,bc": 4, bc: 3 };
    const { tried, best } = await choose(["ranges", "bc"], table);
    expect(tried).toEqual(["", "ranges:range=mse,bc", "ranges:range=minmax,bc", "bc", "ranges:range=minmax"]);
    expect(best).toBe("bc");
  });

  it("tries the other estimators again where steps are gone", async () => {
    const table = {
      ...{ "": 10, "ranges:range=mse,bc,cat": 4, "ranges:range=minmax,bc,cat": 5, "ranges:range=mse,bc": 4 },
      "ranges:range=minmax,bc": 3,
    };
    const { tried, best } = await choose(["ranges", "bc", "cat"], table);
    expect(tried.at(-1)).toBe("ranges:range=minmax,bc");
    expect(best).toBe("ranges:range=minmax,bc");
  });

  it("tries a simpler form among the steps that are left", async () => {
    const table = { "": 10, "bc,nbc,cat": 5, "bc,nbc": 4 };
    const { tried, best } = await choose(["bc", "nbc", "cat"], table, { nbc: ["logarithmic 1"] });
    const simpler = tried.filter((name) => name.includes("alpha=0"));
    expect(simpler).toHaveLength(1);
    expect(simpler[0]).toMatch(/^bc,nbc:[^,]*alpha=0[^,]*$/);
    expect(best).toBe("bc,nbc");
  });

  it.each([
    ["stays where the costlier one is better by chance", [4, 4], [2, 5.9], "bc,nbc:rho=0.5:alpha=0"],
    ["stays where the costlier one is hardly better", [4, 4], [3.97, 3.97], "bc,nbc:rho=0.5:alpha=0"],
    ["gives way to what is surely better", [4, 4], [3.9, 3.9], "bc,nbc:rho=0.5"],
  ])("takes the simpler of two forms: %s", async (_about, linear, bent, expected) => {
    const table = { "": [10, 10], bc: [8, 8], "bc,nbc:rho=0.5:alpha=0": linear, "bc,nbc:rho=0.5": bent };
    const { best } = await choose(["bc", "nbc:rho=0.5"], table, { nbc: ["logarithmic 1"] });
    expect(best).toBe(expected);
  });

  it("holds another target against its simpler form too", async () => {
    const table = {
      ...{ "": [10, 10], bc: [8, 8], "bc,nbc:alpha=0": [6, 6], "bc,nbc": [4, 4] },
      ...{ "bc,nbc:rho=0": [3, 3], "bc,nbc:rho=0:alpha=0": [3, 3] },
    };
    const { best } = await choose(["bc", "nbc:rho=auto"], table, { nbc: ["logarithmic 1"] });
    expect(best).toBe("bc,nbc:rho=0:alpha=0");
  });

  it("tries nothing where nothing is asked for", async () => {
    expect(await choose([], { "": 10 })).toEqual({ tried: [""], best: "" });
  });
});
