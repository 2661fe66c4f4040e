import { defineStep } from "../step/open-step.js";
import { blockOptions } from "./block-options.js";
import { findBlockSites } from "./block-sites.js";
import { blockStep, type Kind, linear } from "./block-step.js";

const options = {
  ...blockOptions,
  alpha: {
    kind: "number",
    help: "how far the logarithm bends, 0 is linear; plain: ln(1 + |x|); input: of the input only; auto: what serves a block",
    default: "auto",
    least: 0,
    most: 10,
    words: ["auto", "plain", "input"],
  },
} as const;

/**
 * Nonlinear block compensation: as `qwt`, but input and error go through a signed logarithm before the regression, and the
 * prediction back through its inverse, held to the largest error that was seen. Few huge values then do not rule the fit.
 * What `auto` chooses per block is what is best on samples held back, the linear form unless another is clearly better.
 *
 * @see NBC, arXiv:2605.16423; docs/methods/nbc.md for the form of the logarithm
 */
export const nonlinearBlockCompensation = defineStep({
  name: "nbc",
  summary:
    "nonlinear block compensation: as qwt, with input and error on a logarithmic scale where that serves a block",
  outcome: "blocks compensated",
  addsOperators: () => true,
  options,
  sites(context, given) {
    const { usable, unusable } = findBlockSites(context, given);
    return { usable: usable.map((site) => ({ ...site, kinds: kindsOf(given.alpha) })), unusable };
  },
  ...blockStep,
  // What is best for each block need not be best for all of them together.
  simpler({ alpha }, forms) {
    const isLinear = forms !== undefined && [...forms].every((form) => form === linear.name);
    return alpha !== "auto" || isLinear ? [] : [{ alpha: 0 }];
  },
});

function kindsOf(alpha: number | "auto" | "plain" | "input"): readonly Kind[] {
  switch (alpha) {
    case "auto":
      return [linear, logarithmic(0.3), logarithmic(1), ofInput(1)];
    case "plain":
      return [{ name: "logarithmic, plain", curves: () => ({ input: 1, error: 1 }) }];
    case "input":
      return [ofInput(1)];
    default:
      // A tiny alpha would lose what it computes to the rounding of float32.
      return [alpha < 1e-3 ? linear : logarithmic(alpha)];
  }
}

function logarithmic(alpha: number): Kind {
  return {
    name: `logarithmic ${alpha}`,
    curves: ({ squares }) => ({ input: unitOf(alpha, squares.input), error: unitOf(alpha, squares.error) }),
  };
}

function ofInput(alpha: number): Kind {
  return { name: "logarithmic in the input", curves: ({ squares }) => ({ input: unitOf(alpha, squares.input) }) };
}

/** In units of the root mean square; where there is nothing but zeros any unit does. */
function unitOf(alpha: number, meanSquare: number): number {
  return meanSquare > 0 ? alpha / Math.sqrt(meanSquare) : alpha;
}
