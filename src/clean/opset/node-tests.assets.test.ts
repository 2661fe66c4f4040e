import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, runModel } from "../../../test/models.js";
import { sharedFolder, sharedPath } from "../../../test/shared.js";
import type { Feeds } from "../../engine/engine.js";
import { RecoupError } from "../../errors.js";
import type { Value } from "../../graph/graph.js";
import { opsetOf } from "../../graph/model.js";
import { readModelFile } from "../../node/model-file.js";
import { createRuntimeEngine } from "../../node/runtime-engine.js";
import { noExternalData } from "../../onnx/external-data.js";
import { readTensor } from "../../onnx/tensor.js";
import { raiseOpset } from "./raise-opset.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const folder = (...parts: readonly string[]) => sharedPath("onnx-node-tests", ...parts);

interface Expected {
  readonly status: string;
}

/** The standard's tests that the runtime passes as they are. */
function passingTests(): readonly string[] {
  if (sharedFolder === undefined || !existsSync(folder("expected.json"))) return [];
  const expected: Readonly<Record<string, Expected>> = JSON.parse(readFileSync(folder("expected.json"), "utf8"));
  return readdirSync(folder()).filter((name) => expected[name]?.status === "pass");
}

/** Not converted, each for the reason given. */
const refused: Readonly<Record<string, string>> = {
  test_not_2d: "operator set 1",
  test_scan_sum: "a Scan over a batch",
};

/** The runtime computes Swish 24 by the standard's definition, but only in a model of operator set 24. */
const withoutKernel: readonly string[] = ["test_swish"];

function readValues(name: string, kind: "input" | "output", values: readonly Value[]): Feeds {
  const read = values.flatMap((value, i) => {
    const path = folder(name, "test_data_set_0", `${kind}_${i}.pb`);
    if (!existsSync(path)) return [];
    const { tensor } = readTensor(readFileSync(path), path, noExternalData);
    return tensor.type === "string" ? [] : [[value.name, tensor] as const];
  });
  return new Map(read);
}

describe.skipIf(sharedFolder === undefined)("the standard's node tests (needs the folder RECOUP_SHARED)", () => {
  it.each([13, 21, 25])(
    "compute the same in operator set %i",
    async (target) => {
      const different: string[] = [];
      let compared = 0;
      for (const name of passingTests()) {
        const model = readModelFile(folder(name, "model.onnx"));
        if (opsetOf(model) >= target) continue;
        const feeds = readValues(name, "input", model.graph.inputs);
        const outputs = readValues(name, "output", model.graph.outputs);
        if (feeds.size < model.graph.inputs.length || outputs.size < model.graph.outputs.length) continue;
        try {
          const computed = await runModel(engine, raiseOpset(model, target), feeds);
          const difference = largestDifference(outputs, computed);
          if (difference > 1e-3) different.push(`${name}: differs by ${difference}`);
          compared++;
        } catch (error) {
          if (!(error instanceof RecoupError)) throw error;
          const isExpected = error.code === "onnx/unsupported" ? name in refused : withoutKernel.includes(name);
          if (!isExpected) different.push(`${name}: ${error.toLine()}`);
        }
      }
      expect(different).toEqual([]);
      expect(compared).toBeGreaterThan(20);
    },
    120_000,
  );
});
