import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { encodeNpy } from "../src/data/npy.js";
import { writeModelFile } from "../src/node/index.js";
import { recoup, recoupUntil } from "./command-line.js";
import { someFloats } from "./models.js";
import { makeResidualNet } from "./networks.js";

const folder = mkdtempSync(join(tmpdir(), "recoup-resume-"));
const at = (...parts: readonly string[]) => join(folder, ...parts);
const [model, data, output] = [at("model.onnx"), at("data.npy"), at("out.onnx")];
const checkpoint = `${output}.checkpoint`;
const recipe = ["--weights", "3", "--rounding", "gptq", "--target", "float", "--steps", "bc"];
const common = ["quantize", model, "--data", data, ...recipe];
const run = [...common, "-o", output];
/** A run with another value of a flag. */
const withFlag = (args: readonly string[], flag: string, value: string) =>
  args.map((arg, i) => (args[i - 1] === flag ? value : arg));

const blocksIn = (place: string) => readdirSync(place).filter((name) => /^block-\d{4}\.recoup$/.test(name));
const block = (number: number) => join(checkpoint, `block-${String(number).padStart(4, "0")}.recoup`);
/** Everything in a folder, to be compared. */
const contentOf = (place: string) =>
  readdirSync(place).map((name) => [name, readFileSync(join(place, name), "base64")]);

beforeAll(async () => {
  const net = makeResidualNet(6);
  const [{ shape }] = net.feeds.values();
  writeModelFile(model, net.model);
  writeModelFile(at("other.onnx"), makeResidualNet(5).model);
  writeFileSync(data, encodeNpy(someFloats([40, ...shape.slice(1)], 300)));
  writeFileSync(at("other.npy"), encodeNpy(someFloats([40, ...shape.slice(1)], 301)));
  mkdirSync(at("tmp"));
  expect(await recoup(...common, "-o", at("plain.onnx"))).toMatchObject({ exitCode: 0 });
});
afterAll(() => rmSync(folder, { recursive: true }));

function expectPlainModel() {
  expect(readFileSync(output).equals(readFileSync(at("plain.onnx")))).toBe(true);
  expect(existsSync(checkpoint)).toBe(false);
}

describe("recoup quantize --resume", () => {
  beforeEach(() => {
    for (const left of [output, checkpoint]) rmSync(left, { recursive: true, force: true });
  });

  it.each([1, 4])("goes on behind a process that was killed after block %d", async (number) => {
    await recoupUntil(block(number), "SIGKILL", at("tmp"), run);
    const blocks = blocksIn(checkpoint).length;
    expect(blocks).toBeGreaterThanOrEqual(number);
    expect(existsSync(output)).toBe(false);
    const { exitCode, stderr } = await recoup(...run, "--resume");
    expect(exitCode).toBe(0);
    expect(stderr).toContain(`${checkpoint}: goes on behind ${blocks} finished block`);
    expect(stderr).not.toContain("calibrate: ");
    expectPlainModel();
  });

  it("goes on behind Ctrl-C, which says how", async () => {
    const { exitCode, stderr } = await recoupUntil(block(2), "SIGINT", at("tmp"), run);
    expect(exitCode).toBe(130);
    const [, count] = /checkpoint keeps (\d+) finished blocks: .* --resume /.exec(stderr) ?? [];
    expect(blocksIn(checkpoint)).toHaveLength(Number(count));
    expect(await recoup(...run, "--resume")).toMatchObject({ exitCode: 0 });
    expectPlainModel();
  });

  it("starts from the beginning where nothing is there", async () => {
    const { exitCode, stderr } = await recoup(...run, "--resume");
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^warning: .*out\.onnx\.checkpoint holds no finished block: the run starts from the begin/m);
    expectPlainModel();
  });
});

describe("a checkpoint", () => {
  beforeAll(async () => {
    rmSync(output, { force: true });
    await recoupUntil(block(3), "SIGKILL", at("tmp"), run);
    cpSync(checkpoint, at("three"), { recursive: true });
  });
  beforeEach(() => {
    for (const left of [output, checkpoint]) rmSync(left, { recursive: true, force: true });
    cpSync(at("three"), checkpoint, { recursive: true });
  });

  it.each<readonly [about: string, args: readonly string[], line: RegExp]>([
    [
      "other weights",
      withFlag(run, "--weights", "4"),
      /checkpoint: formats\[0\]\.weight\.bits: is 4 now, was 3 \[checkpoint\/m/,
    ],
    ["other steps", withFlag(run, "--steps", "none"), /checkpoint: steps: is \[\] now, was \[\{"use":"bc",.* \[/],
    [
      "another range",
      [...run, "--range", "minmax"],
      /checkpoint: formats\[0\]\.activation\.range: is minmax now, was mse/,
    ],
    ["another seed", [...run, "--seed", "7"], /checkpoint: seed: is 7 now, was 0/],
    [
      "other data",
      ["quantize", model, "--data", at("other.npy"), ...recipe, "-o", output],
      /checkpoint: data: are other/,
    ],
    [
      "another model",
      ["quantize", at("other.onnx"), "--data", data, ...recipe, "-o", output],
      /: model: is another one/,
    ],
  ])("of a run with %s is refused and left alone", async (_about, args, line) => {
    const before = contentOf(checkpoint);
    const { exitCode, stdout, stderr } = await recoup(...args, "--resume");
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toMatch(line);
    // Before any work.
    expect(stderr.split("\n").filter((text) => text !== "")).toHaveLength(1);
    expect(contentOf(checkpoint)).toEqual(before);
    expect(existsSync(output)).toBe(false);
  });

  it.each<readonly [about: string, file: string, change: (bytes: Buffer) => Uint8Array]>([
    ["garbage", "run.recoup", () => Buffer.from("this is no checkpoint\n".repeat(50))],
    ["empty", "ranges.recoup", () => new Uint8Array()],
    ["truncated", "block-0002.recoup", (bytes) => bytes.subarray(0, bytes.length - 50)],
    ["changed", "block-0003.recoup", (bytes) => bytes.map((byte, i) => (i > 0.9 * bytes.length ? byte : 255 - byte))],
  ])("that is %s is one line, exit code 2", async (_about, file, change) => {
    writeFileSync(join(checkpoint, file), change(readFileSync(join(checkpoint, file))));
    const before = contentOf(checkpoint);
    const { exitCode, stderr } = await recoup(...run, "--resume");
    expect(exitCode).toBe(2);
    const [line, ...others] = stderr.split("\n").filter((text) => text !== "");
    expect(line).toContain(`out.onnx.checkpoint/${file}: `);
    expect(line).toMatch(/(: |; )without --resume the run starts over \[checkpoint\/malformed\]$/);
    expect(line).not.toMatch(/zip/);
    expect(others).toEqual([]);
    expect(contentOf(checkpoint)).toEqual(before);
  });

  it("goes on without a damaged piece that is deleted, as the error says", async () => {
    writeFileSync(block(2), "damaged");
    expect((await recoup(...run, "--resume")).stderr).toMatch(
      /block-0002\.recoup: .*: delete it, and --resume does again/,
    );
    rmSync(block(2));
    expect(await recoup(...run, "--resume")).toMatchObject({ exitCode: 0 });
    expectPlainModel();
  });

  it("is replaced by a run that does not resume, when that has something to keep", async () => {
    const other = withFlag(run, "--weights", "4");
    await recoupUntil(block(9), "SIGKILL", at("tmp"), withFlag(other, "--data", at("none.npy")));
    expect(contentOf(checkpoint)).toEqual(contentOf(at("three")));
    rmSync(block(1));
    await recoupUntil(block(1), "SIGKILL", at("tmp"), other);
    expect(await recoup(...run, "--resume")).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("formats[0].weight.bits: is 3 now, was 4"),
    });
    expect(await recoup(...run)).toMatchObject({ exitCode: 0 });
    expectPlainModel();
  });

  it("is no place for a report", async () => {
    rmSync(checkpoint, { recursive: true });
    const { exitCode, stderr } = await recoup(...run, "--report", checkpoint);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("is to be written twice");
  });

  it("that cannot be kept costs a warning", async () => {
    rmSync(checkpoint, { recursive: true });
    writeFileSync(checkpoint, "a file in its place");
    const { exitCode, stderr } = await recoup(...run);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^warning: .*out\.onnx\.checkpoint: cannot be written \(EEXIST\): /m);
    expect(readFileSync(output).equals(readFileSync(at("plain.onnx")))).toBe(true);
    expect(readFileSync(checkpoint, "utf8")).toBe("a file in its place");
  });
});
