import { afterAll } from "vitest";
import { others, testStep } from "../test/step-contract.js";
import { stepNamed } from "../test/walking.js";
import { compensations } from "./compensate/index.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

for (const step of compensations) testStep(engine, step, others);

const perPosition = stepNamed("bc");
testStep(
  engine,
  {
    ...perPosition,
    name: "bc-by-position",
    open: (context) => perPosition.open(context, { bias: "position" }),
  },
  others,
);
