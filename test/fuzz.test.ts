import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const script = fileURLToPath(new URL("../scripts/fuzz.mjs", import.meta.url));

function fuzz(...args: readonly string[]): Promise<{ readonly exitCode: number; readonly lines: readonly string[] }> {
  return new Promise((resolve) => {
    // Without the standard's tests: what is mutated stands in the repository.
    execFile(process.execPath, [script, "--shared", "none", ...args], (error, stdout) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code), lines: stdout.trim().split("\n") });
    });
  });
}

/** The counts of what became of the models. */
const outcomes = (lines: readonly string[]) => lines.filter((line) => /^ +\d+ \w/.test(line));

describe("the fuzzer", () => {
  it("finds nothing in some hundred models, of which some are quantized, and does the same again", async () => {
    const [one, two] = [await fuzz("--iterations", "400"), await fuzz("--iterations", "400")];
    expect(one.exitCode).toBe(0);
    expect(one.lines.at(-1)).toBe("0 findings");
    expect(outcomes(one.lines).some((line) => line.endsWith(" quantized"))).toBe(true);
    expect(outcomes(one.lines)).toEqual(outcomes(two.lines));
  });

  it("repeats a single iteration", async () => {
    const { exitCode, lines } = await fuzz("--only", "17", "--seed", "3");
    expect({ exitCode, count: outcomes(lines).length }).toEqual({ exitCode: 0, count: 1 });
  });
});
