import { afterAll, describe, expect, it } from "vitest";
import { makeResidualNet } from "../test/networks.js";
import { quantizeTestModel } from "../test/quantizing.js";
import type { Engine, RunMode } from "./engine/engine.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";
import { float32Tensor, float32Values } from "./tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** An engine that turns all outputs round in one mode. */
function wrongIn(mode: RunMode): Engine {
  return {
    ...engine,
    name: "wrong",
    hold: (tensors) => engine.hold(tensors),
    release: (tensors) => engine.release(tensors),
    close: async () => {},
    async open(model, options) {
      const session = await engine.open(model, options);
      if (options?.mode !== mode) return session;
      return {
        ...session,
        async run(feeds, fetch) {
          const { outputs, elapsedMs } = await session.run(feeds, fetch);
          const turned = [...outputs].map(
            ([name, tensor]) =>
              [
                name,
                float32Tensor(
                  tensor.shape,
                  float32Values(tensor).map((x) => -x),
                ),
              ] as const,
          );
          return { outputs: new Map(turned), elapsedMs };
        },
      };
    },
  };
}

describe("quantizeModel", () => {
  it("gives no model that the runtime makes something else of than the file says", async () => {
    await expect(quantizeTestModel(wrongIn("shipped"), makeResidualNet())).rejects.toMatchObject({
      code: "export/unfaithful",
      message: expect.stringMatching(/^at its default options wrong computes something else.* -6\.0 dB/),
    });
  });

  it("says that nothing was tried, where a recipe leaves something open and there are too few samples", async () => {
    const { report } = await quantizeTestModel(engine, makeResidualNet(), { auto: true });
    expect(report.trials).toEqual([]);
    expect(report.warnings).toEqual([expect.stringContaining("trials need 8 samples, this run has 1")]);
  });

  it("has nothing to say about kernels that do what the file says", async () => {
    expect((await quantizeTestModel(engine, makeResidualNet())).report.warnings).toEqual([]);
  });
});
