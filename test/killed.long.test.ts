import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { encodeNpy } from "../src/data/npy.js";
import { createRandom } from "../src/math/random.js";
import { readModelFile, writeModelFile } from "../src/node/model-file.js";
import { someFloats } from "./models.js";
import { makeResidualNet } from "./networks.js";

const program = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "recoup-killed-"));
const at = (...parts: readonly string[]) => join(folder, ...parts);
const moments = 20;

/** A model, and one that an earlier run has made of it. */
const net = makeResidualNet(6);
const [{ shape }] = net.feeds.values();
const data = at("data.npy");
const [input, output] = [at("work", "model.onnx"), at("work", "out.onnx")];
const common = ["quantize", input, "-o", output, "--data", data, "--steps", "bc", "--external-data"];
const before = [...common, "--weights", "8"];
const after = [...common, "--weights", "4"];

/** Everything that stands in the folder of the models, temporary files but for their names. */
type Files = ReadonlyMap<string, string>;
let [old, fresh]: Files[] = [];
/** How long a whole run takes, in milliseconds. */
let wholeMs = 0;

/** What counts: the model and the tensors that it reads. */
function result(): Files {
  const { graph } = readModelFile(output);
  return new Map(
    [...graph.initializers].map(([name, tensor]) => [name, Buffer.from(tensor.bytes()).toString("base64")]),
  );
}

async function run(args: readonly string[], end?: { readonly signal: NodeJS.Signals; readonly ms: number }) {
  const child = spawn(process.execPath, [program, ...args], {
    stdio: "ignore",
    env: { ...process.env, TMPDIR: at("tmp") },
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  if (end) {
    await Promise.race([setTimeout(end.ms), ended]);
    child.kill(end.signal);
  }
  return ended;
}

/** The runtime's process cleans up behind the one that was killed. */
async function untilClean(place: string): Promise<readonly string[]> {
  for (let tries = 0; tries < 100 && readdirSync(place).length > 0; tries++) await setTimeout(50);
  return readdirSync(place);
}

beforeAll(async () => {
  for (const name of ["work", "tmp"]) mkdirSync(at(name));
  writeModelFile(input, net.model);
  writeFileSync(data, encodeNpy(someFloats([40, ...shape.slice(1)], 300)));
  expect(await run(before)).toBe(0);
  old = result();
  cpSync(at("work"), at("earlier"), { recursive: true });
  const start = performance.now();
  expect(await run(after)).toBe(0);
  wholeMs = performance.now() - start;
  fresh = result();
  expect(fresh).not.toEqual(old);
});
afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(() => {
  for (const name of ["work", "tmp"]) rmSync(at(name), { recursive: true });
  cpSync(at("earlier"), at("work"), { recursive: true });
  mkdirSync(at("tmp"));
});

const random = createRandom(1);
/** The last ones fall where files are written. */
const share = (i: number) => (i % 4 === 3 ? 0.9 + random.below(1000) / 5000 : random.below(1000) / 1000);
const cases = Array.from({ length: moments }, (_, i) => share(i));

describe("a run that is killed", () => {
  it.each(cases)("at %d of its time leaves a whole model, the earlier one or its own", async (part) => {
    const source = readFileSync(input);
    await run(after, { signal: "SIGKILL", ms: part * wholeMs });
    const found = result();
    expect([old, fresh]).toContainEqual(found);
    expect(readFileSync(input).equals(source)).toBe(true);
    const names = readdirSync(at("work"));
    const known = /^(model\.onnx|out\.onnx|out\.onnx(\.2)?\.data|out\.onnx\.checkpoint|\.recoup-\d+-[0-9a-f]{8}\.tmp)$/;
    for (const name of names) expect(name).toMatch(known);
    expect(await untilClean(at("tmp"))).toEqual([]);
    if (part > 0.9) {
      // The next run has no trouble with what is left.
      expect(await run(after)).toBe(0);
      expect(result()).toEqual(fresh);
    }
  });
});

describe("a run that is asked to end", () => {
  it.each([
    ["SIGINT", 130, 0.2],
    ["SIGINT", 130, 0.6],
    ["SIGTERM", 143, 0.4],
    ["SIGTERM", 143, 0.8],
  ] as const)("by %s says so by exit code %d and leaves no temporary file", async (signal, exitCode, part) => {
    const code = await run(after, { signal, ms: part * wholeMs });
    expect([exitCode, 0]).toContain(code);
    // The model is written before it is held against the original, which may break off too.
    expect(code === 0 ? [fresh] : [old, fresh]).toContainEqual(result());
    expect(readdirSync(at("work")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(await untilClean(at("tmp"))).toEqual([]);
  });
});
