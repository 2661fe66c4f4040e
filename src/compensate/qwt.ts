import { defineStep } from "../step/open-step.js";
import { blockOptions } from "./block-options.js";
import { findBlockSites } from "./block-sites.js";
import { blockStep, linear } from "./block-step.js";

/**
 * Block compensation: adds to what leaves a block a linear function of what enters it, y + x W + b, with W and b the ridge
 * regression of the block's error on its input. Blocks are done in order, each on the inputs that the quantized and already
 * compensated network gives it. Vectors along the last axis are multiplied with W; maps are convolved with it, with the
 * stride of the block.
 *
 * @see QwT, arXiv:2411.13918, section 3; docs/methods/qwt.md
 */
export const blockCompensation = defineStep({
  name: "qwt",
  summary: "block compensation: adds to each block's output a linear function of its input, fitted by ridge regression",
  outcome: "blocks compensated",
  addsOperators: () => true,
  options: blockOptions,
  sites(context, options) {
    const { usable, unusable } = findBlockSites(context, options);
    return { usable: usable.map((site) => ({ ...site, kinds: [linear] })), unusable };
  },
  ...blockStep,
});
