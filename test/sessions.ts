import type { Session } from "../src/engine/engine.js";
import { float32Tensor, float32Values, type Tensor } from "../src/tensor/tensor.js";

/**
 * A session of no model: it computes its output `y` from the values of its input `x`, in plain numbers.
 *
 * @param pack makes the output of the numbers
 */
export function makeSession(
  compute: (values: readonly number[]) => readonly number[],
  pack: (values: readonly number[]) => Tensor = (values) => float32Tensor([1, values.length], values),
): Session {
  return {
    inputs: [{ name: "x", type: { kind: "tensor", elementType: "float32" } }],
    outputs: [{ name: "y", type: { kind: "tensor", elementType: "float32" } }],
    loadMs: 1,
    async run(feeds) {
      const values = compute([...float32Values(feeds.get("x") as Tensor)]);
      return { outputs: new Map([["y", pack(values)]]), elapsedMs: 1 };
    },
    runAndHold: async () => new Map(),
    close: async () => {},
  };
}
