import type { Node } from "../src/graph/graph.js";
import { makeNode } from "../src/graph/node.js";
import { float32Tensor, float32Values, type Tensor } from "../src/tensor/tensor.js";
import { someFloats } from "./models.js";

/** A BatchNormalization with the parameters of `statistics`, named for its output. */
export function normalize(input: string, output: string, extra: Parameters<typeof makeNode>[3] = {}): Node {
  const attributes = { epsilon: { kind: "float", value: 1e-3 } as const, ...extra };
  return makeNode(
    "BatchNormalization",
    [input, "gain", "shift", "mean", "variance"],
    [output],
    attributes,
    `bn_${output}`,
  );
}

export function statistics(channels: number): Readonly<Record<string, Tensor>> {
  return {
    gain: someFloats([channels], 11),
    shift: someFloats([channels], 12),
    mean: someFloats([channels], 13),
    variance: float32Tensor(
      [channels],
      float32Values(someFloats([channels], 14)).map((value) => 1.5 + value),
    ),
  };
}
