import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Block } from "../blocks/blocks.js";
import type { Tap } from "../calibrate/statistic.js";
import type { Feeds } from "../engine/engine.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { buildGraph, type Node } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { OpenSite, OpenStep } from "../step/open-step.js";
import { float32Tensor } from "../tensor/tensor.js";
import { findCarried } from "./carried.js";
import { walk } from "./walk.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** x → a → b → c, a block each. */
const nodes = [
  makeNode("MatMul", ["x", "w"], ["a"]),
  makeNode("MatMul", ["a", "w"], ["b"]),
  makeNode("MatMul", ["b", "w"], ["c"]),
];
const { model } = makeTestModel({
  feeds: { x: someFloats([2, 3]) },
  nodes,
  outputs: ["c"],
  initializers: { w: someFloats([3, 3], 2) },
});
const blocks = nodes.map((node): Block => ({ nodes: [node], inputs: [node.inputs[0]], outputs: node.outputs }));

const siteAt = (value: string, taps: readonly Tap[]) => ({ label: value, value, taps }) as unknown as OpenSite;
const stepWith = (...sites: readonly OpenSite[]): OpenStep => ({
  name: "test",
  outcome: "looked at",
  unusable: [],
  sites,
});
const float = (value: string): Tap => ({ from: "float", value });
const current = (value: string): Tap => ({ from: "current", value });

const nothing = { float: [], current: [] };

describe("findCarried", () => {
  const carriedOf = (step: OpenStep, more: readonly Node[] = []) =>
    findCarried(blocks, buildGraph({ ...model.graph, nodes: [...model.graph.nodes, ...more] }), [step]);

  it("carries what a site looks back at, from the block behind it to that of the site", () => {
    expect(carriedOf(stepWith(siteAt("c", [float("a"), float("c")])))).toEqual([
      nothing,
      { float: ["a"], current: [] },
      { float: ["a"], current: [] },
    ]);
  });

  it("carries nothing for a site that looks at its own block", () => {
    expect(carriedOf(stepWith(siteAt("b", [float("b"), current("b")])))).toEqual([nothing, nothing, nothing]);
  });

  it("carries what is fed from the beginning, and no further than it is looked at", () => {
    expect(carriedOf(stepWith(siteAt("b", [current("x")])))).toEqual([
      { float: [], current: ["x"] },
      { float: [], current: ["x"] },
      nothing,
    ]);
  });

  it("knows where values lie that only the changed network has", () => {
    const more = [makeNode("Relu", ["a"], ["rounded"]), makeNode("Add", ["rounded", "b"], ["both"])];
    expect(carriedOf(stepWith(siteAt("c", [current("rounded")])), more)).toEqual([
      nothing,
      { float: [], current: ["rounded"] },
      { float: [], current: ["rounded"] },
    ]);
    // The later of what it is computed from decides.
    expect(carriedOf(stepWith(siteAt("c", [current("both")])), more)).toEqual([
      nothing,
      nothing,
      { float: [], current: ["both"] },
    ]);
  });

  it("carries no constants: they are computed again", () => {
    const more = [makeNode("Relu", ["w"], ["positive"])];
    expect(carriedOf(stepWith(siteAt("c", [current("positive")])), more)).toEqual([nothing, nothing, nothing]);
  });

  it("carries for all sites of all steps", () => {
    const two = stepWith(siteAt("b", [float("x")]), siteAt("c", [current("a")]));
    expect(findCarried(blocks, model.graph, [two, stepWith(siteAt("c", [current("x")]))])).toEqual([
      { float: ["x"], current: ["x"] },
      { float: ["x"], current: ["a", "x"] },
      { float: [], current: ["a", "x"] },
    ]);
  });
});

describe("a walk with a site that looks back", () => {
  it("shows it what both networks computed there", async () => {
    const rounded = withGraph(
      model,
      buildGraph({
        ...model.graph,
        initializers: new Map([["w", float32Tensor([3, 3], [1, 0, 0, 0, 1, 0, 0, 0, 1])]]),
      }),
    );
    const x = float32Tensor([2, 3], [1, 2, 3, 4, 5, 6]);
    const seen: string[] = [];
    const taps = [float("x"), current("a"), current("c")];
    const site: OpenSite = {
      label: "c",
      value: "c",
      taps,
      measure: (share) => [
        share({
          key: "look back",
          taps,
          probe: (names) => ({ nodes: [], initializers: new Map(), outputs: names }),
          update: (tensors) =>
            seen.push(JSON.stringify(tensors.map(({ shape }) => shape)), ...tensors.map((t) => String(t.bytes()))),
          merge: () => {},
          encode: () => new Uint8Array(),
          mergeEncoded: () => {},
          result: () => undefined,
        }),
      ],
      advance: () => ({ kind: "skipped", reason: "it only looks" }),
      restore: () => ({ label: "nothing" }),
      weightRanges: () => new Map(),
    };
    const batches = [{ id: "0", feeds: new Map([["x", x]]) as Feeds }];
    const types = await inferValueTypes(engine, model);
    await walk({ engine, float: model, current: rounded, types, blocks, batches }, [stepWith(site)]);
    // With the identity for a weight the current network passes on what it is fed.
    expect(seen).toEqual([
      JSON.stringify([
        [2, 3],
        [2, 3],
        [2, 3],
      ]),
      ...Array<string>(3).fill(String(x.bytes())),
    ]);
  });
});
