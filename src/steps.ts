import { compensations } from "./compensate/index.js";
import { preparations } from "./prepare/index.js";
import type { AnyStep } from "./step/open-step.js";

/** Every step, in the order of help. Preparations run before ranges are looked for, whatever stands before them. */
export const steps: readonly AnyStep[] = [...preparations, ...compensations];
