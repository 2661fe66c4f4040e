import type { AnyStep } from "../step/step.js";
import { biasCompensation } from "./bias.js";
import { clusterCompensation } from "./cluster.js";

/** Every compensation, in the order of help. To add one is a file and a line here. */
export const compensations: readonly AnyStep[] = [biasCompensation, clusterCompensation];
