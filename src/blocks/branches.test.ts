import { afterAll, describe, expect, it } from "vitest";
import type { TestModel } from "../../test/models.js";
import { makeBranches, makeDecoder, makeResidualNet, makeTransformer } from "../../test/networks.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { findBranches } from "./branches.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

async function branchesOf({ model }: TestModel): Promise<readonly string[]> {
  const types = await inferValueTypes(engine, model);
  const layers = findLayers(model.graph, types).layers.map((layer) => layer.node);
  const branches = findBranches(model.graph, types, layers);
  return branches.map(({ kind, entry, output, sides }) => [kind, entry, output, ...sides].join(" "));
}

describe("findBranches", () => {
  it("finds attentions and perceptrons, from the residual stream to what is added to it", async () => {
    expect(await branchesOf(makeTransformer())).toEqual([
      "attention embedded proj0",
      "mlp attended0 narrow0",
      "attention layer0 proj1",
      "mlp attended1 narrow1",
    ]);
  });

  it("knows what both networks have in common", async () => {
    const [first, second] = await branchesOf(makeDecoder());
    expect(first).toMatch(/^attention embedded proj0 (cos|sin|mask)/);
    expect(second).toBe("mlp attended0 narrow0");
  });

  it("finds none where convolutions are added or joined", async () => {
    expect(await branchesOf(makeResidualNet())).toEqual([]);
    expect(await branchesOf(makeBranches())).toEqual([]);
  });
});
