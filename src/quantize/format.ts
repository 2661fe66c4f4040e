import type { Range } from "../math/distribution.js";
import type { Spacing } from "./spacing.js";

/** How many values share a scale. Groups are runs of `groupSize` input columns of one output channel. */
export type Granularity =
  | { readonly kind: "per-tensor" }
  | { readonly kind: "per-channel" }
  | { readonly kind: "per-group"; readonly groupSize: number };

/** Levels in use; how they are stored is another matter. */
export type Bits = 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** The grid that a weight is rounded to. */
export interface WeightFormat {
  readonly bits: Bits;
  readonly granularity: Granularity;
  /** True: codes -n … n around zero. False: all 2^bits codes between the smallest and the largest value. */
  readonly symmetric: boolean;
  /** Name of a range estimator; all values fit where none is given. */
  readonly range?: string;
  /** Ends that a preparation has found, a pair for each row or one for the whole weight: the estimator then has no say. */
  readonly ends?: readonly Range[];
  /** To nearest where nothing is given. */
  readonly rounding?: Rounding;
}

/** How the codes of a weight are chosen on its grid. */
export type Rounding =
  /** Round to nearest. */
  { readonly use: "rtn" } | GptqRounding;

/** Column by column, each making up for what rounding the earlier ones did to the layer's output. */
export interface GptqRounding {
  readonly use: "gptq";
  /** The input for which the layer shall give, from its quantized input, what the float weight gives. */
  readonly target: RoundingTarget | "auto";
  /** Which columns come first: those whose input is largest, or those that stand first. */
  readonly order: "activation" | "natural";
  /** Whether groups get their grids beforehand, or each when its turn comes. */
  readonly groups: "static" | "dynamic";
  /** Added to the diagonal of the Gram matrix, as a share of its mean. */
  readonly damping: number;
}

/**
 * `same`: the quantized input itself. `unquantized`: the layer's own input before it is quantized. `float`: its input in the
 * float network.
 */
export type RoundingTarget = "same" | "unquantized" | "float";

/** The grid that activations are rounded to: static, one scale per tensor. */
export interface ActivationFormat {
  readonly bits: Bits;
  readonly symmetric: boolean;
  /** Name of a range estimator; all values fit where none is given. */
  readonly range?: string;
  /** In which network ranges are looked for: the float one, or the one that is quantized up to there. */
  readonly rangeFrom?: "float" | "quantized";
  /** How the levels lie where a product of activations reads what comes out of a Softmax; uniform where none is given. */
  readonly softmax?: Spacing;
}

/** How codes below 8 bits stand in the file. */
export type Storage =
  /** Bit-packed bytes that ordinary operators unpack when a session is created: small file, integer kernels. */
  | "packed"
  /** One byte a code. */
  | "int8"
  /** ONNX's own 4-bit and 2-bit types: small file and small in memory, but no integer kernels. */
  | "onnx";
