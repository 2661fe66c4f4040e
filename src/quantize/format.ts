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
}

/** The grid that activations are rounded to: static, one scale per tensor. */
export interface ActivationFormat {
  readonly bits: Bits;
  readonly symmetric: boolean;
  /** Name of a range estimator; all values fit where none is given. */
  readonly range?: string;
}

/** How codes below 8 bits stand in the file. */
export type Storage =
  /** Bit-packed bytes that ordinary operators unpack when a session is created: small file, integer kernels. */
  | "packed"
  /** One byte a code. */
  | "int8"
  /** ONNX's own 4-bit and 2-bit types: small file and small in memory, but no integer kernels. */
  | "onnx";
