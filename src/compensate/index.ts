import type { AnyStep } from "../step/open-step.js";
import { channelCompensation } from "./affine.js";
import { biasCompensation } from "./bias.js";
import { clusterCompensation } from "./cluster.js";
import { nonlinearBlockCompensation } from "./nbc.js";
import { blockCompensation } from "./qwt.js";

/** Every compensation, in the order of help. To add one is a file and a line here. */
export const compensations: readonly AnyStep[] = [
  biasCompensation,
  channelCompensation,
  blockCompensation,
  nonlinearBlockCompensation,
  clusterCompensation,
];
