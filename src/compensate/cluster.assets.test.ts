import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import { divergenceOfLogarithms, logSoftmax } from "../evaluate/outputs.js";
import { assignPoints, kMeans, sizesOf } from "../math/k-means.js";
import { type PrincipalComponents, principalComponents, projectOnto } from "../math/principal-components.js";
import { float64Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { applyLines, clustersByScores, fitLines, partOfLines, scoresOf } from "./cluster-affine.js";

/** What the oracle's own page asks of float64 solutions and of outputs. */
const tolerance = 1e-9;

describe.skipIf(!sharedFolder).each(["cat-small", "cat-wide"])("clusters of outputs against %s", (name) => {
  const arrays = sharedFolder ? readNpz(readFileSync(sharedPath("oracles", `${name}.npz`))) : new Map<string, Tensor>();
  const numbers = (field: string) => float64Values(arrays.get(field) as Tensor);
  const integers = (field: string) => integerValues(arrays.get(field) as Tensor);
  /** One of a stack of arrays. */
  const part = (field: string, index: number, of: number) => {
    const all = numbers(field);
    return all.subarray((index * all.length) / of, ((index + 1) * all.length) / of);
  };
  const columns = arrays.get("pca_mean")?.shape[0] ?? 0;
  const [count, dimensions] = arrays.get("centers")?.shape ?? [0, 0];
  const rows = () => ({ columns, float: numbers("z_fp"), current: numbers("z_q") });
  const clusters = () => ({ assignment: Int32Array.from(integers("assign")), count });
  const components = (): PrincipalComponents => ({
    mean: numbers("pca_mean"),
    count: dimensions,
    directions: numbers("pca_components"),
    variances: numbers("pca_eigenvalues"),
  });

  it("finds the principal components", () => {
    const found = principalComponents(numbers("z_q"), columns, dimensions);
    const given = components();
    expect(found.count).toBe(dimensions);
    // The file's are rounded to float32.
    expectClose(found.mean, given.mean, 1e-7);
    for (let d = 0; d < dimensions; d++) {
      expect(Math.abs(found.variances[d] / given.variances[d] - 1)).toBeLessThan(1e-6);
      let cosine = 0;
      for (let i = 0; i < columns; i++) {
        cosine += found.directions[i * dimensions + d] * given.directions[i * dimensions + d];
      }
      expect(cosine).toBeGreaterThan(1 - 1e-6);
    }
  });

  it.each([
    ["z_q", "assign"],
    ["z_q_test", "assign_test"],
  ])("puts %s into the same clusters, by distance and by scores", (values, assign) => {
    const expected = integers(assign);
    const positions = projectOnto(numbers(values), components());
    const scores = scoresOf(components(), numbers("centers"));
    expect([...assignPoints(positions, dimensions, numbers("centers")).assignment]).toEqual(expected);
    expect([...clustersByScores(numbers(values), columns, scores)]).toEqual(expected);
    if (values === "z_q") expect(sizesOf(Int32Array.from(expected), count)).toEqual(integers("counts"));
  });

  it("has the scores of the reference, but for what is the same for all clusters", () => {
    const { weight, bias } = scoresOf(components(), numbers("centers"));
    const differences = (values: Float64Array) => values.map((value, i) => value - values[i - (i % count)]);
    expectClose(differences(weight), differences(numbers("score_weight")), tolerance);
    expectClose(differences(bias), differences(numbers("score_bias")), tolerance);
  });

  it("fits the same lines with every weight of the common one", () => {
    for (const [i, tau] of numbers("taus").entries()) {
      const { slopes, offsets } = fitLines(rows(), clusters(), "affine", tau);
      expectClose(slopes as Float64Array, part("gamma", i, 3), tolerance);
      expectClose(offsets, part("beta", i, 3), tolerance);
    }
  });

  it("fits the same line for all rows", () => {
    const one = { assignment: new Int32Array(rows().float.length / columns), count: 1 };
    const { slopes, offsets } = fitLines(rows(), one, "affine", 0);
    expectClose(slopes as Float64Array, numbers("gamma_global"), tolerance);
    expectClose(offsets, numbers("beta_global"), tolerance);
    const test = numbers("z_q_test");
    const corrected = applyLines(test, new Int32Array(test.length / columns), { slopes, offsets });
    expectClose(corrected, numbers("corrected_test_global"), isSingle("corrected_test_global") ? 1e-6 : tolerance);
  });

  it("gives the same outputs and divergences", () => {
    const [taus, alphas] = [numbers("taus"), numbers("alphas")];
    const assignment = Int32Array.from(integers("assign_test"));
    const [test, float] = [numbers("z_q_test"), numbers("z_fp_test")];
    expect(meanDivergence(float, test)).toBeCloseTo(numbers("kl_test_before")[0], 9);
    for (const [i, tau] of taus.entries()) {
      const lines = fitLines(rows(), clusters(), "affine", tau);
      for (const [j, alpha] of alphas.entries()) {
        const corrected = applyLines(test, assignment, partOfLines(lines, alpha));
        const expected = part("corrected_test", i * alphas.length + j, taus.length * alphas.length);
        expectClose(corrected, expected, isSingle("corrected_test") ? 1e-6 : tolerance);
        const divergence = numbers("kl_test")[i * alphas.length + j];
        // Where the file holds the outputs in float32, the reference took the divergence of those.
        const rounded = isSingle("corrected_test") ? corrected.map(Math.fround) : corrected;
        expect(Math.abs(meanDivergence(float, rounded) - divergence)).toBeLessThan(tolerance * (1 + divergence));
      }
    }
  });

  it("finds clusters that are as tight within 1 %", () => {
    const positions = projectOnto(numbers("z_q"), components());
    const given = assignPoints(positions, dimensions, numbers("centers"));
    const found = kMeans(positions, dimensions, { clusters: count, seed: 0 });
    expect(found.inertia).toBeLessThan(1.01 * given.inertia);
  });

  function isSingle(field: string): boolean {
    return arrays.get(field)?.type === "float32";
  }

  function meanDivergence(float: Float64Array, other: Float64Array): number {
    const count = float.length / columns;
    let sum = 0;
    for (let row = 0; row < count; row++) {
      const of = (values: Float64Array) => logSoftmax(values.subarray(row * columns, (row + 1) * columns));
      sum += divergenceOfLogarithms(of(float), of(other));
    }
    return sum / count;
  }
});

/** Relative to the largest value of the whole array, as the oracle's page has it. */
function expectClose(actual: Float64Array, expected: Float64Array, most: number): void {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const difference = expected.reduce((largest, value, i) => Math.max(largest, Math.abs(value - actual[i])), 0);
  expect(actual).toHaveLength(expected.length);
  expect(difference / scale).toBeLessThan(most);
}
