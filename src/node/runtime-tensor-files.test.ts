import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Engine, HeldTensor } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import { makeNode } from "../graph/node.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { createRuntimeEngine } from "./runtime-engine.js";

/** Tensors of 24 bytes. */
const [a, b, c] = [1, 2, 3].map((seed) => someFloats([2, 3], seed));
const { model } = makeTestModel({
  feeds: { x: a },
  nodes: [makeNode("Neg", ["x"], ["y"]), makeNode("Exp", ["x"], ["z"])],
  outputs: ["y", "z"],
});

let parent: string;
let engine: Engine;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "recoup-test-"));
  vi.stubEnv("TMPDIR", parent);
});
afterEach(async () => {
  await engine.close();
  vi.unstubAllEnvs();
  const left = readdirSync(parent);
  rmSync(parent, { recursive: true, force: true });
  expect(left).toEqual([]);
});

function create(memoryBytes?: number): void {
  engine = createRuntimeEngine({ threads: 1, memoryBytes });
}

const folder = () => join(parent, readdirSync(parent)[0]);
const files = () => readdirSync(folder()).filter((name) => name.endsWith(".tensor"));
const hold = async (tensor: Tensor) => (await engine.hold(new Map([["x", tensor]]))).get("x")!;
const feeds = (tensor: HeldTensor) => new Map([["x", tensor]]);
const failure = async (promise: Promise<unknown>) => {
  const error = await promise.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(RecoupError);
  return error as RecoupError;
};

async function expectNegated(held: HeldTensor, tensor: Tensor): Promise<void> {
  const session = await engine.open(model);
  const { outputs } = await session.run(feeds(held));
  expect(float32Values(outputs.get("y")!)).toEqual(float32Values(tensor).map((value) => -value));
  await session.close();
}

describe("held tensors", () => {
  it("go to files where memory has no room for them, and come back from there", async () => {
    create(50);
    const held = [await hold(a), await hold(b), await hold(c)];
    expect(files()).toHaveLength(1);
    expect(readFileSync(join(folder(), files()[0]))).toEqual(Buffer.from(c.bytes()));
    for (const [i, tensor] of [a, b, c].entries()) await expectNegated(held[i], tensor);
  });

  it("of a run go there too", async () => {
    create(24);
    const session = await engine.open(model);
    const results = await session.runAndHold(new Map([["x", a]]), ["y", "z"]);
    expect(files()).toHaveLength(1);
    const outputs = (await session.run(new Map([["x", a]]))).outputs;
    for (const [name, tensor] of results) await expectNegated(tensor, outputs.get(name)!);
  });

  it("stay in memory by default", async () => {
    create();
    await hold(a);
    expect(files()).toEqual([]);
  });

  it("leave no file when they are released, and make room in memory", async () => {
    create(24);
    const [first, second, third] = [await hold(a), await hold(b), await hold(c)];
    expect(files()).toHaveLength(2);
    await engine.release([second]);
    expect(files()).toHaveLength(1);
    await expectNegated(third, c);
    await engine.release([first, second]);
    await hold(a);
    expect(files()).toHaveLength(1);
    await hold(b);
    expect(files()).toHaveLength(2);
  });

  it("leave no file when the engine is closed", async () => {
    create(0);
    await hold(a);
    expect(files()).toHaveLength(1);
    await engine.close();
    expect(readdirSync(parent)).toEqual([]);
  });

  it("leave no file when the process dies and the next one starts", async () => {
    create(0);
    await hold(a);
    const pids = execFileSync("pgrep", ["-P", String(process.pid), "-f", folder()], { encoding: "utf8" });
    process.kill(Number(pids), "SIGKILL");
    await failure(hold(b));
    await hold(c);
    expect(files()).toHaveLength(1);
  });
});

describe("a temporary folder that fails", () => {
  const advice = /set TMPDIR to another folder or raise --memory/;

  it("is named with what to do where it is gone, and what has room in memory is still held", async () => {
    create(24);
    const session = await engine.open(model);
    const gone = folder();
    rmSync(gone, { recursive: true });
    const error = await failure(engine.hold(new Map(Object.entries({ a, b }))));
    expect(error).toMatchObject({ code: "engine/unavailable", place: { file: gone }, exitCode: 1 });
    expect(error.message).toMatch(/^held tensors .*\(ENOENT\)/);
    expect(error.message).toMatch(advice);
    const results = await session.runAndHold(new Map([["x", a]]), ["y"]);
    expect(results.size).toBe(1);
    expect(await failure(session.runAndHold(new Map([["x", a]]), ["y"]))).toMatchObject({ code: "engine/unavailable" });
  });

  it.skipIf(!existsSync("/dev/full"))("says where it is full, and leaves nothing half written", async () => {
    create(0);
    const first = await hold(a);
    const number = Number.parseInt(files()[0], 10);
    symlinkSync("/dev/full", join(folder(), `${number + 2}.tensor`));
    const error = await failure(engine.hold(new Map(Object.entries({ b, c }))));
    expect(error).toMatchObject({ code: "engine/unavailable", place: { file: folder() } });
    expect(error.message).toMatch(/\(ENOSPC\)/);
    expect(error.message).toMatch(advice);
    expect(files()).toEqual([`${number}.tensor`]);
    await expectNegated(first, a);
    await expectNegated(await hold(b), b);
  });

  it.each([
    ["removed", (path: string) => rmSync(path), "ENOENT"],
    ["cut short", (path: string) => truncateSync(path, 20), "the file ended early"],
  ])("says where a file was %s", async (_about, harm, reason) => {
    create(0);
    const held = await hold(a);
    const session = await engine.open(model);
    harm(join(folder(), files()[0]));
    const error = await failure(session.run(feeds(held)));
    expect(error).toMatchObject({ code: "engine/unavailable", place: { file: folder() } });
    expect(error.message).toContain(reason);
    expect((await session.run(new Map([["x", b]]))).outputs.size).toBe(2);
  });
});
