import { describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { rowsOf, sumPairs } from "../../test/pair-sums.js";
import { multiply } from "../math/multiply.js";
import { float64Values } from "../tensor/tensor.js";
import type { BlockSite } from "./block-sites.js";
import { surveyRanks } from "./spend-ranks.js";

const [size, count] = [8, 64];
/** A matrix of int8 and a scale a row: what each rank takes besides the constant. */
const rank1 = size + size + 4 + 4 * size;

function siteOf(label: string, sharedBytes: number | undefined, groups = 1): BlockSite {
  const known = { label, inputChannels: size, outputChannels: size, groups, sharedBytes };
  return { ...known, form: { kind: "vectors" }, ridge: 0.01, storage: "int8", isRankFree: true } as never;
}

/** What is found of a block whose error is a share of its input along one direction, and noise besides. */
function foundOf(share: number, seed: number, target = 1) {
  const half = (own: number) => {
    const x = someFloats([count, size], own);
    const along = multiply(float64Values(x), float64Values(someFloats([size, 1], seed)), count, size, 1);
    const noise = float64Values(someFloats([count, size], own + 50));
    const e = noise.map((value, i) => share * along[Math.floor(i / size)] + 0.1 * value);
    return sumPairs(rowsOf(x), { columns: size, values: e });
  };
  return {
    kind: "sums" as const,
    rows: 2 * count,
    halves: [[half(seed), half(seed + 7)]],
    squares: { input: 1, error: 1, target },
    kurtosis: { input: 3, error: 3 },
    largest: new Float32Array(size),
  };
}

/** The ranks of blocks that share some bytes, besides those of their constants. */
function ranksOf(bytes: number, ...found: readonly ReturnType<typeof foundOf>[]) {
  const sites = found.map((_, i) => siteOf(`${i}`, bytes + found.length * 4 * size));
  const survey = surveyRanks(sites);
  for (const [i, site] of sites.entries()) survey?.look(site, [found[i]]);
  return survey?.settle().map(({ rankWanted }) => rankWanted);
}

describe("surveyRanks", () => {
  it("leaves blocks alone that have bytes of their own", () => {
    expect(surveyRanks([siteOf("a", undefined)])).toBeUndefined();
    expect(surveyRanks([])).toBeUndefined();
  });

  it("spends where a rank takes most of the error away, wherever it stands", () => {
    const [much, little, none] = [foundOf(1, 1), foundOf(0.3, 2), foundOf(0, 3)];
    expect(ranksOf(rank1, much, little, none)).toEqual([1, 0, 0]);
    expect(ranksOf(rank1, none, little, much)).toEqual([0, 0, 1]);
    expect(ranksOf(2 * rank1, none, little, much)).toEqual([0, 1, 1]);
    expect(ranksOf(rank1 - 1, none, little, much)).toEqual([0, 0, 0]);
  });

  it("counts errors as shares of what leaves the block", () => {
    expect(ranksOf(rank1, foundOf(1, 1, 100), foundOf(0.3, 2))).toEqual([0, 1]);
  });

  it("gives nothing to a block of which nothing can be told", () => {
    const site = siteOf("a", 1e6);
    expect(surveyRanks([site])?.settle()).toEqual([{ ...site, rankWanted: 0 }]);
    const broken = { ...foundOf(1, 1), squares: { input: 1, error: Number.NaN, target: 1 } };
    expect(ranksOf(1e6, broken)).toEqual([0]);
  });

  it("takes a matrix in groups whole or not at all", () => {
    const wide = (bytes: number) => {
      const site = siteOf("a", bytes, 2);
      const survey = surveyRanks([site]);
      survey?.look(site, [foundOf(1, 1)]);
      return survey?.settle()[0].rankWanted;
    };
    const [constant, matrix] = [4 * size, (size * size) / 2 + 4 * size];
    expect(wide(constant + matrix)).toBe("full");
    expect(wide(constant + matrix - 1)).toBe(0);
  });
});
