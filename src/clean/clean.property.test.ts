import fc from "fast-check";
import { afterAll, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";
import { cleanModel } from "./index.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

interface Step {
  readonly kind: number;
  /** How far back the value stands that the step reads; mostly the one just written. */
  readonly back: number;
  readonly choice: number;
}

const steps = fc.array(fc.record({ kind: fc.nat(8), back: fc.constantFrom(0, 0, 0, 0, 1, 2), choice: fc.nat(5) }), {
  minLength: 1,
  maxLength: 12,
});

/** A network that grows by a node a step, from an image of 4 channels; every value nobody reads is an output. */
function build(plan: readonly Step[], isOpen: boolean): TestModel {
  const x = someFloats([2, 4, 3, 3]);
  const values: { readonly name: string; readonly shape: readonly number[] }[] = [{ name: "x", shape: x.shape }];
  const nodes: Node[] = [];
  const initializers: Record<string, Tensor> = {};
  const constant = (shape: readonly number[], change = (value: number) => value) => {
    const name = `k${Object.keys(initializers).length}`;
    const floats = float32Values(someFloats(shape, nodes.length + 2));
    initializers[name] = float32Tensor(shape, Float32Array.from(floats, change));
    return name;
  };
  for (const [i, { kind, back, choice }] of plan.entries()) {
    const { name: from, shape } = values[Math.max(0, values.length - 1 - back)];
    const to = `v${i}`;
    const write = (opType: string, inputs: readonly string[], result = shape, attributes = {}) => {
      nodes.push(makeNode(opType, inputs, [to], attributes));
      values.push({ name: to, shape: result });
    };
    const [batch, channels, ...rest] = shape;
    const order = [
      [0, 2, 3, 1],
      [0, 3, 1, 2],
      [0, 1, 2, 3],
    ][choice % 3];
    const perAxis = [channels, 1, 1];
    if (kind === 0) write("Conv", [from, constant([2 + choice, channels, 1, 1])], [batch, 2 + choice, ...rest]);
    else if (kind === 1) {
      const weight = constant([channels, 2, 1, 1]);
      write("ConvTranspose", [from, weight, constant([2])], [batch, 2, ...rest]);
    } else if (kind === 2) write("MatMul", [from, constant([shape[3], 4])], [...shape.slice(0, 3), 4]);
    else if (kind === 3) {
      const parameters = [0, 1, 2].map(() => constant([channels]));
      write("BatchNormalization", [from, ...parameters, constant([channels], (value) => 1.5 + value)]);
    } else if (kind === 4)
      write(
        "Transpose",
        [from],
        order.map((axis) => shape[axis]),
        { perm: order },
      );
    else if (kind === 5) write("Add", choice % 2 ? [constant(perAxis), from] : [from, constant([shape[3]])]);
    else if (kind === 6) {
      const factor = constant(choice % 2 ? perAxis : [], (value) => (choice > 3 ? 1 : 1.5 + value));
      write(choice < 3 ? "Mul" : "Div", [from, factor]);
    } else if (kind === 7) write(choice % 2 ? "Identity" : "Dropout", [from]);
    else if (elementCount(shape) > 0) {
      nodes.push(makeNode("Shape", [from], [`${to}_shape`]));
      write("Reshape", [from, `${to}_shape`]);
    }
  }
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const outputs = values.map((value) => value.name).filter((name) => name !== "x" && !read.has(name));
  const shapes = isOpen ? { x: ["batch", 4, 3, 3] } : undefined;
  return makeTestModel({ feeds: { x }, shapes, nodes, outputs, initializers });
}

it("keeps what any network computes, and leaves nothing for a second run", async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.boolean(), async (plan, isOpen) => {
      const { model, feeds } = build(plan, isOpen);
      const cleaned = (await cleanModel(model, { engine })).model;
      const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, cleaned, feeds)];
      expect(largestDifference(before, after)).toBeLessThan(1e-5);
      expect((await cleanModel(cleaned, { engine })).model).toBe(cleaned);
    }),
    { seed: 1, numRuns: 60 },
  );
}, 60_000);
