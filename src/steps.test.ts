import { afterAll, describe, expect, it } from "vitest";
import { testPreparation } from "../test/preparation-contract.js";
import { biasVariants, testStep } from "../test/step-contract.js";
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

for (const step of [...compensations, ...biasVariants]) testStep(engine, step);
for (const step of preparations) testPreparation(engine, step);
