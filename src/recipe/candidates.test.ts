import { describe, expect, it } from "vitest";
import { defaultOf, type NetworkKind, roundsOf } from "./candidates.js";
import { presets } from "./presets.js";
import { parseRecipe, type Recipe, type RecipeInput } from "./recipe.js";
import { textOfStep } from "./settings.js";

const cnn: NetworkKind = { hasProducts: false, isQuantized: true, isRoundable: true };
const transformer: NetworkKind = { ...cnn, hasProducts: true };

/** Every recipe that would be tried if the first of each round won. */
function allOf(recipe: Recipe, kind: NetworkKind): readonly Recipe[] {
  const start = defaultOf(recipe, kind);
  return roundsOf(recipe, kind).flatMap((round) => round.candidates(start).map((candidate) => candidate.recipe));
}

const low: RecipeInput = { formats: [{ weight: { bits: 3 }, activation: { bits: 4 } }], auto: true };

describe("roundsOf", () => {
  it.each<readonly [about: string, recipe: RecipeInput]>([
    [
      "everything is given",
      { formats: [{ weight: { bits: 4, rounding: { use: "gptq", target: "float" } } }], steps: ["bc"] },
    ],
    ["nothing is rounded by inputs", {}],
  ])("tries nothing where %s", (_about, recipe) => {
    expect(roundsOf(parseRecipe(recipe), cnn)).toEqual([]);
  });

  it.each([
    ["a convolutional network", cnn],
    ["a transformer", transformer],
    ["a network with activations in float", { ...cnn, isQuantized: false }],
  ])("leaves nothing open, and keeps the bits: %s", (_about, kind) => {
    for (const recipe of allOf(parseRecipe(low), kind)) {
      expect(recipe.auto).toBe(false);
      expect(roundsOf({ ...recipe, steps: [] }, kind)).toEqual([]);
      expect(recipe.formats).toMatchObject([{ weight: { bits: 3 }, activation: { bits: 4 } }]);
      // What a model's metadata holds is a recipe again.
      expect(parseRecipe(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
    }
  });

  it("leaves a rounding to nearest in the recipe that it takes, as every other default", () => {
    const recipe = parseRecipe({ auto: true });
    const [{ recipe: nearest }] = roundsOf(recipe, cnn)[0].candidates(recipe);
    expect(nearest).toEqual(parseRecipe({ steps: ["bc"] }));
    expect(nearest.formats).toMatchObject([{ weight: { rounding: { use: "rtn" } } }]);
  });

  it("has names that tell the candidates of a round apart", () => {
    for (const round of roundsOf(parseRecipe(low), transformer)) {
      const names = round.candidates(defaultOf(parseRecipe(low), transformer)).map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  it("tries another target of a block step, where the recipe leaves it open, in its place, whether it stayed or not", () => {
    const recipe = parseRecipe({ steps: [{ use: "bc" }, { use: "qwt" }, { use: "cat" }] });
    const [, without, otherwise, ...others] = roundsOf(recipe, cnn);
    expect(others).toEqual([]);
    const [left] = without.candidates(recipe);
    expect(left.name).toBe("without qwt");
    for (const best of [recipe, left.recipe]) {
      const [other, ...rest] = otherwise.candidates(best);
      expect(rest).toEqual([]);
      expect(other.name).toBe("with qwt:rho=0");
      expect(other.recipe).toEqual(parseRecipe({ steps: [{ use: "bc" }, { use: "qwt", rho: 0 }, { use: "cat" }] }));
    }
  });

  it("leaves a step out of what an open target of GPTQ was chosen for", () => {
    const formats = [{ weight: { bits: 4, rounding: { use: "gptq" } } }] as const;
    const recipe = parseRecipe({ formats, steps: [{ use: "bc" }, { use: "qwt" }, { use: "cat" }] });
    const [targets, without, otherwise] = roundsOf(recipe, cnn);
    for (const { recipe: chosen } of targets.candidates(recipe)) {
      const [left] = without.candidates(chosen);
      expect(left.recipe).toEqual({ ...chosen, steps: parseRecipe({ steps: [{ use: "bc" }, { use: "cat" }] }).steps });
      expect(otherwise.candidates(left.recipe).map(({ recipe: { steps } }) => steps.map(({ use }) => use))).toEqual([
        ["bc", "qwt", "cat"],
      ]);
    }
  });

  it("tries the linear form of a nonlinear compensation that took another one somewhere", () => {
    const recipe = parseRecipe({ steps: [{ use: "bc" }, { use: "nbc" }, { use: "cat" }] });
    const rounds = roundsOf(recipe, cnn);
    expect(rounds.map(({ isCheaper = false }) => isCheaper)).toEqual([false, true, false, false, true]);
    const [, simplified, without, otherwise, otherwiseSimplified] = rounds;
    const bent = { nbc: ["linear", "logarithmic in the input"] };
    expect(simplified.candidates(recipe, {})).toEqual([]);
    expect(simplified.candidates(recipe, { nbc: ["linear"] })).toEqual([]);
    const [{ name, recipe: linear }, ...others] = simplified.candidates(recipe, bent);
    expect(others).toEqual([]);
    expect(name).toBe("with nbc:alpha=0");
    expect(linear).toEqual(parseRecipe({ steps: [{ use: "bc" }, { use: "nbc", alpha: 0 }, { use: "cat" }] }));
    const [left] = without.candidates(linear);
    expect(left.recipe).toEqual(parseRecipe({ steps: ["bc", "cat"] }));
    // The other target comes in the form that is there, and where none is in that of the recipe.
    const targetsBeside = (best: Recipe) => otherwise.candidates(best).map(({ name }) => name);
    expect(targetsBeside(linear)).toEqual(["with nbc:rho=0:alpha=0"]);
    expect(targetsBeside(recipe)).toEqual(["with nbc:rho=0"]);
    expect(targetsBeside(left.recipe)).toEqual(["with nbc:rho=0"]);
    // What took its place is open in the same way.
    const [replaced] = otherwise.candidates(left.recipe);
    expect(otherwiseSimplified.candidates(replaced.recipe, bent).map(({ name }) => name)).toEqual([
      "with nbc:rho=0:alpha=0",
    ]);
    for (const best of [recipe, linear, left.recipe]) expect(otherwiseSimplified.candidates(best, bent)).toEqual([]);
  });

  it("tries the other form and the other target of each of two nonlinear compensations once", () => {
    const recipe = parseRecipe({ steps: ["nbc", "bc", "nbc"] });
    const tried = roundsOf(recipe, cnn).flatMap((round) => round.candidates(recipe, { nbc: ["logarithmic 1"] }));
    expect(tried.map(({ recipe: { steps } }) => steps.map(textOfStep).join(" "))).toEqual([
      "nbc bc nbc",
      "nbc:alpha=0 bc nbc",
      "bc nbc",
      "nbc:rho=0 bc nbc",
      "nbc bc nbc:alpha=0",
      "nbc bc",
      "nbc bc nbc:rho=0",
    ]);
  });

  it("tries no other form of a nonlinear compensation than the recipe says", () => {
    expect(roundsOf(parseRecipe({ steps: [{ use: "nbc", alpha: 1, rho: 0.5 }] }), cnn)).toHaveLength(2);
  });

  it("tries no other target of a block step than the recipe says", () => {
    expect(roundsOf(parseRecipe({ steps: [{ use: "qwt", rho: 0.5 }] }), cnn)).toHaveLength(2);
  });

  it.each([
    ["a convolutional network", low, cnn, ["percentile ranges", "with qwt", "with qwt:rho=0"], 1],
    ["attention", low, transformer, ["with qwt", "percentile ranges"], 0],
    ["attention at 8 bits", { auto: true } as const, transformer, ["with qwt", "with qwt:rho=0"], 2],
  ])("tries what is usual on networks of a kind before what is not: %s", (_about, given, kind, order, certainty) => {
    const recipe = parseRecipe(given);
    const rounds = roundsOf(recipe, kind).map(({ candidates, certainty }) => ({
      certainty,
      names: candidates(defaultOf(recipe, kind)).map(({ name }) => name),
    }));
    const tried = [...order, "percentile ranges", "with qwt:rho=0"];
    expect(rounds.flatMap(({ names }) => names).filter((name) => tried.includes(name))).toEqual(order);
    const blocks = rounds.filter(({ names }) => names.some((name) => name.startsWith("with qwt")));
    for (const round of blocks) expect(round.certainty).toBe(certainty);
  });

  it("replaces a linear compensation by one with another target or form, and keeps the target that was found", () => {
    const start = defaultOf(parseRecipe(low), cnn);
    const offered = (steps: RecipeInput["steps"]) =>
      roundsOf(parseRecipe(low), cnn)
        .flatMap(({ candidates }) => candidates({ ...start, steps: parseRecipe({ steps }).steps }))
        .filter(({ name }) => /qwt|nbc/.test(name))
        .map(({ recipe }) => recipe.steps.map(textOfStep).join(" "));
    expect(offered(["bc"])).toEqual(["bc qwt", "bc qwt:rho=0"]);
    expect(offered(["bc", "qwt"])).toEqual(expect.arrayContaining(["bc qwt:rho=0", "bc nbc"]));
    expect(offered(["bc", { use: "qwt", rho: 0 }])).toContain("bc nbc:rho=0");
  });

  it("gives the edges 8 bits where others get few, unless the recipe says", () => {
    expect(defaultOf(parseRecipe(low), cnn).edges).toBe(8);
    expect(defaultOf(parseRecipe({ ...low, edges: 4 }), cnn).edges).toBe(4);
    expect(defaultOf(parseRecipe({ auto: true }), cnn).edges).toBeUndefined();
  });
});

describe("presets", () => {
  it.each(presets.map((preset) => [preset.name, preset] as const))(
    "%s is a recipe, and says what for",
    (name, preset) => {
      expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
      expect(preset.summary).toMatch(/^.{30,110}[^.]$/);
      expect(parseRecipe(preset.recipe).auto).toBe(false);
    },
  );

  it("have names of their own", () => {
    expect(new Set(presets.map(({ name }) => name)).size).toBe(presets.length);
  });
});
