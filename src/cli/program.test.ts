import { describe, expect, it } from "vitest";
import { createProgram } from "./program.js";

const model = "examples/digits/models/cnn/model.onnx";

describe("createProgram", () => {
  it("hands Ctrl-C on to inspect", async () => {
    const program = createProgram(AbortSignal.abort());
    await expect(program.parseAsync(["inspect", model], { from: "user" })).rejects.toMatchObject({
      code: "engine/cancelled",
    });
  });

  it("gives inspect what decides in quantize which layers are quantized and how", () => {
    const { commands } = createProgram(AbortSignal.abort());
    const optionsOf = (name: string) =>
      commands.find((command) => command.name() === name)?.options.map(({ flags, description }) => flags + description);
    const own = [
      "-o, --output",
      "--data",
      "--preprocess",
      "--samples",
      "--seed",
      "--steps",
      "--resume",
      "--report",
      "--json",
      "--memory",
      "--dry-run",
      "--from-statistics",
      "--external-data",
      "--no-external-data",
      "--no-check",
    ];
    const shared = optionsOf("quantize")?.filter((option) => !own.some((flag) => option.startsWith(flag)));
    expect(shared?.length).toBeGreaterThanOrEqual(9);
    expect(optionsOf("inspect")).toEqual(expect.arrayContaining(shared ?? []));
    expect(optionsOf("statistics")).toEqual(expect.arrayContaining(shared ?? []));
  });
});
