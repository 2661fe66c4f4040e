import { afterAll } from "vitest";
import { biasVariants, others, testStep } from "../test/step-contract.js";
import { compensations } from "./compensate/index.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

for (const step of [...compensations, ...biasVariants]) testStep(engine, step, others);
