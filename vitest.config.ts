import { defineConfig } from "vitest/config";

/** The quick tests: they need nothing but a clone. */
export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/*.assets.test.ts", "**/*.long.test.ts"],
    // Tests that run onnxruntime themselves report nothing to its makers.
    env: { ORT_DISABLE_TELEMETRY: "1" },
    // On a machine that does other work too a whole run takes its time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Nothing in here changes what another file sees, so files need no process of their own.
    isolate: false,
    maxWorkers: "100%",
  },
});
