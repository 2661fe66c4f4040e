import type { OptionsOf } from "../step/options.js";

/** What a user may set of a step that corrects blocks. */
export const blockOptions = {
  blocks: {
    kind: "choice",
    help: "what is corrected: whole blocks, or every part between two places where one activation is left",
    default: "block",
    choices: ["block", "part"],
  },
  rho: {
    kind: "number",
    help: "share of the float network's own output in the target, the rest is the float block on the quantized input; auto: 0.5, and trials try 0 beside it",
    default: "auto",
    least: 0,
    most: 1,
    words: ["auto"],
  },
  ridge: {
    kind: "number",
    help: "ridge as a share of the input's variance; ten times as much where rows are few or outliers rule",
    default: 0.01,
    least: 0,
    most: 100,
  },
  token: {
    kind: "number",
    help: "how much the token that the head reads counts in the fit; auto is the root of the number of tokens",
    default: "auto",
    least: 1,
    most: 1e6,
    words: ["auto"],
  },
  weights: {
    kind: "choice",
    help: "how tokens count in the fit: all the same, or by one over the variance of their target",
    default: "none",
    choices: ["none", "variance"],
  },
  rank: {
    kind: "number",
    help: "rank of the matrix; auto is what the budget allows",
    default: "auto",
    least: 1,
    most: 1e6,
    isWhole: true,
    words: ["auto", "full"],
  },
  budget: {
    kind: "number",
    help: "bytes that all corrections may add, as a share of those of the weights",
    default: 0.1,
    least: 0,
    most: 100,
  },
  spend: {
    kind: "choice",
    help: "evenly: each block its share of the budget; best: where a byte lowers the error most, looked for in a first pass; auto: best where the budget does not pay for all full matrices",
    default: "auto",
    choices: ["auto", "evenly", "best"],
  },
  storage: {
    kind: "choice",
    help: "how the matrices are stored",
    default: "int8",
    choices: ["int8", "float16", "float32"],
  },
  kernel: {
    kind: "number",
    help: "kernel of the correction of maps",
    default: 1,
    least: 1,
    most: 7,
    isOdd: true,
  },
  groups: {
    kind: "number",
    help: "groups of channels in the correction of maps",
    default: 1,
    least: 1,
    most: 4096,
    isWhole: true,
  },
  relu: {
    kind: "switch",
    help: "repeat the Relu or Clip that ends a block behind its correction",
    default: true,
  },
} as const;

export type BlockOptions = OptionsOf<typeof blockOptions>;
