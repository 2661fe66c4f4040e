import { afterAll, describe, expect, it } from "vitest";
import { testStep } from "../../test/step-contract.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { compensations } from "./index.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

describe("compensations", () => {
  it("have names of their own", () => {
    expect(new Set(compensations.map(({ name }) => name)).size).toBe(compensations.length);
  });
});

for (const step of compensations) testStep(engine, step);
