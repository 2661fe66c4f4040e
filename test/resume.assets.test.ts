import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { recoup, recoupUntil } from "./command-line.js";
import { sharedFolder, sharedPath } from "./shared.js";

const folder = mkdtempSync(join(tmpdir(), "recoup-resume-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe.skipIf(sharedFolder === undefined)(
  "SqueezeNet, killed again and again (needs the folder RECOUP_SHARED)",
  () => {
    it.each([
      ["of a given target", ["--target", "float", "--samples", "8"]],
      // Enough samples for trials: the first kill is in the second of them.
      ["of an open target", ["--samples", "16"]],
    ])("ends as in one go: GPTQ %s and bias compensation", async (_about, flags) => {
      const source = ["quantize", sharedPath("assets", "models", "squeezenet1_1", "model.onnx")];
      const recipe = ["--weights", "4", "--rounding", "gptq", "--steps", "bc", ...flags];
      const common = [...source, "--data", sharedPath("assets", "imagenet", "calib"), ...recipe];
      const [plain, output] = [join(folder, "plain.onnx"), join(folder, "out.onnx")];
      const checkpoint = `${output}.checkpoint`;
      mkdirSync(join(folder, "tmp"), { recursive: true });
      expect(await recoup(...common, "-o", plain)).toMatchObject({ exitCode: 0 });
      const pieces = flags.includes("--target") ? ["block-0001", "block-0009"] : ["try-02-block-0005", "block-0009"];
      for (const piece of pieces) {
        const left = [...common, "-o", output, "--resume"];
        await recoupUntil(join(checkpoint, `${piece}.recoup`), "SIGKILL", join(folder, "tmp"), left);
        expect(existsSync(output)).toBe(false);
      }
      const blocks = readdirSync(checkpoint).filter((name) => name.includes("block-")).length;
      const { exitCode, stderr } = await recoup(...common, "-o", output, "--resume");
      expect(exitCode).toBe(0);
      expect(stderr).toContain(`goes on behind ${blocks} finished blocks`);
      expect(readFileSync(output).equals(readFileSync(plain))).toBe(true);
      expect(existsSync(checkpoint)).toBe(false);
      rmSync(output);
    });
  },
);
