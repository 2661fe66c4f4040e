import { afterAll, describe, expect, it } from "vitest";
import { testPreparation } from "../test/preparation-contract.js";
import { testStep } from "../test/step-contract.js";
import { stepNamed } from "../test/walking.js";
import { compensations } from "./compensate/index.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";
import { preparations } from "./prepare/index.js";
import { steps } from "./steps.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

describe("steps", () => {
  it("have names of their own", () => {
    expect(new Set(steps.map(({ name }) => name)).size).toBe(steps.length);
  });
});

for (const step of compensations) testStep(engine, step);
for (const step of preparations) testPreparation(engine, step);

const bias = stepNamed("bc");
const variants = {
  "bc-by-position": { bias: "position" },
  "bc-everywhere": { places: "all" },
  "bc-everywhere-local": { places: "all", target: "local" },
  "bc-everywhere-isolated": { places: "all", inputs: "float", bias: "position" },
};
for (const [name, options] of Object.entries(variants)) {
  testStep(engine, { ...bias, name, open: (context) => bias.open(context, options) });
}
