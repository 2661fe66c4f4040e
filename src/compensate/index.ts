import { biasCompensation } from "./bias.js";
import type { AnyStep } from "./step.js";

/** Every compensation, in the order of help. To add one is a file and a line here. */
export const compensations: readonly AnyStep[] = [biasCompensation];
