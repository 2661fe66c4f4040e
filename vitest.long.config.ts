import { defineConfig } from "vitest/config";

/** The long tests: whole runs, and checks on models and data that are too large for the repository (see test/shared.ts). */
export default defineConfig({
  test: {
    include: ["src/**/*.assets.test.ts", "src/**/*.long.test.ts", "test/**/*.assets.test.ts", "test/**/*.long.test.ts"],
    // Tests that run onnxruntime themselves report nothing to its makers.
    env: { ORT_DISABLE_TELEMETRY: "1" },
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // One file at a time: the models use all cores themselves.
    fileParallelism: false,
  },
});
