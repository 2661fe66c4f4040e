import { afterAll, expect, it } from "vitest";
import { raiseOpset } from "../src/clean/opset/raise-opset.js";
import { makeNode } from "../src/graph/node.js";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModelParts } from "./models.js";

/** A model of an old operator set, which must compute the same in newer ones. */
export interface OpsetCase extends Omit<TestModelParts, "outputs"> {
  readonly about: string;
  readonly opset: number;
  /** `y` where nothing else is said. */
  readonly outputs?: readonly string[];
  /** Nodes after raising to 25; 1 where nothing else is said. */
  readonly nodeCount?: number;
  /** The last operator set in which the runtime has a kernel. */
  readonly lastRunnable?: number;
}

export const x = someFloats([2, 3, 4]);
export const image = someFloats([1, 2, 4, 6]);

export const float = (value: number) => ({ kind: "float", value }) as const;
export const floats = (value: readonly number[]) => ({ kind: "floats", value }) as const;

/** One node that reads `x` and writes `y`. */
export function oneNode(
  about: string,
  opset: number,
  opType: string,
  attributes: Parameters<typeof makeNode>[3] = {},
): OpsetCase {
  return { about, opset, feeds: { x }, nodes: [makeNode(opType, ["x"], ["y"], attributes)] };
}

export function testRaising(cases: readonly OpsetCase[]): void {
  const engine = createRuntimeEngine({ threads: 1 });
  afterAll(() => engine.close());

  it.each(cases)("raises and keeps what is computed: $about", async (given) => {
    const irVersion = given.opset < 12 ? 5 : 8;
    const { model, feeds } = makeTestModel({ outputs: ["y"], irVersion, ...given });
    const before = await runModel(engine, model, feeds);
    for (const target of [13, 21, 25].filter((version) => version > given.opset)) {
      const raised = raiseOpset(model, target);
      expect(raised.opsets.get("")).toBe(target);
      if (target === 25) expect(raised.graph.nodes).toHaveLength(given.nodeCount ?? 1);
      if (target > (given.lastRunnable ?? 25)) continue;
      expect(largestDifference(before, await runModel(engine, raised, feeds))).toBeLessThan(1e-6);
    }
  });
}

export function testRefusing(cases: readonly OpsetCase[]): void {
  it.each(cases)("refuses $about", (given) => {
    const { model } = makeTestModel({ outputs: ["y"], ...given });
    expect(() => raiseOpset(model, 25)).toThrow(expect.objectContaining({ code: "onnx/unsupported" }));
  });
}
