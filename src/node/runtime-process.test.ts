import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { makeEndlessModel } from "../../test/engine-models.js";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Engine } from "../engine/engine.js";
import { makeNode } from "../graph/node.js";
import { float32Values } from "../tensor/tensor.js";
import { writeModelFile } from "./model-file.js";
import { createRuntimeEngine, type RuntimeOptions } from "./runtime-engine.js";

const { model, feeds } = makeTestModel({
  feeds: { x: someFloats([2, 3]) },
  nodes: [makeNode("Relu", ["x"], ["y"])],
  outputs: ["y"],
});
const failure = (code: string, message: unknown = expect.anything()) => expect.objectContaining({ code, message });

/** Engines of a test put their temporary files here, and the runtime its own if it could. */
let folder: string;
const engines: Engine[] = [];
function create(options: RuntimeOptions = {}): Engine {
  const engine = createRuntimeEngine({ threads: 1, ...options });
  engines.push(engine);
  return engine;
}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
  for (const name of ["TMPDIR", "XDG_CACHE_HOME"]) vi.stubEnv(name, folder);
  // With one of these the runtime keeps quiet by itself.
  for (const name of ["ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "TF_BUILD"]) vi.stubEnv(name, undefined);
});
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.close()));
  vi.unstubAllEnvs();
  const left = readdirSync(folder);
  rmSync(folder, { recursive: true, force: true });
  expect(left).toEqual([]);
});

/** The newest child of this process that runs models. */
function runtimePid(): number {
  const pids = execFileSync("pgrep", ["-P", String(process.pid), "-f", "runtime-process"], { encoding: "utf8" });
  return Math.max(...pids.trim().split("\n").map(Number));
}

const isRunning = (pid: number) => existsSync(`/proc/${pid}`);

/** The process reads the question and sends its answer before it sees that nobody is there any more. */
const killedWhileAnswered = `
  const { execSync } = await import("node:child_process");
  const [pid] = execSync("pgrep -P " + process.pid + " -f runtime-process").toString().split("\\n");
  process.kill(pid, "SIGSTOP");
  engine.release([]);
  execSync("(sleep 0.2; kill -CONT " + pid + ") >&- 2>&- &");
  process.kill(process.pid, "SIGKILL")`;

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await sleep(10);
  expect(condition()).toBe(true);
}

describe("a runtime whose process dies", () => {
  it("fails what is under way, keeps its sessions closed, and opens new ones", async () => {
    const engine = create();
    const idle = await engine.open(model);
    const session = await engine.open(makeEndlessModel());
    const run = session.run(feeds);
    const waiting = idle.run(feeds);
    process.kill(runtimePid(), "SIGKILL");
    for (const promise of [run, waiting]) {
      await expect(promise).rejects.toThrow(failure("engine/crashed", expect.stringContaining("SIGKILL")));
    }
    await expect(idle.run(feeds)).rejects.toThrow(failure("engine/crashed"));
    await Promise.all([session.close(), idle.close()]);
    const again = await engine.open(model);
    expect((await again.run(feeds)).outputs.size).toBe(1);
  });

  it("does not take a tensor that the dead process held for one of the next", async () => {
    const engine = create();
    const lost = await engine.hold(feeds);
    const session = await engine.open(model);
    process.kill(runtimePid(), "SIGKILL");
    await expect(session.run(lost)).rejects.toThrow(failure("engine/crashed"));
    const again = await engine.open(model);
    const held = await engine.hold(new Map([["x", someFloats([2, 3], 7)]]));
    await expect(again.run(lost)).rejects.toThrow(failure("engine/run", expect.stringContaining("released")));
    await engine.release(lost.values());
    expect((await again.run(held)).outputs.size).toBe(1);
  });

  it("says where the program itself does not start", async () => {
    vi.stubEnv(
      "NODE_OPTIONS",
      `--import=data:text/javascript,${encodeURIComponent("throw new Error('no such library')")}`,
    );
    await expect(create().open(model)).rejects.toThrow(
      failure("engine/unavailable", expect.stringContaining("no such library")),
    );
  });

  it("names the folder of temporary files where that is missing", () => {
    const missing = join(folder, "missing");
    vi.stubEnv("TMPDIR", missing);
    expect(() => create()).toThrow(expect.objectContaining({ code: "engine/unavailable", place: { file: missing } }));
  });

  it("says so while it starts", async () => {
    const opening = create().open(model);
    const failed = expect(opening).rejects.toThrow(failure("engine/crashed"));
    process.kill(runtimePid(), "SIGKILL");
    await failed;
  });
});

describe("cancelling", () => {
  it("ends the process, what is under way and what is asked for later", async () => {
    const controller = new AbortController();
    const engine = create({ signal: controller.signal });
    const session = await engine.open(makeEndlessModel());
    const run = session.run(feeds);
    const pid = runtimePid();
    controller.abort();
    await expect(run).rejects.toThrow(failure("engine/cancelled"));
    await expect(session.run(feeds)).rejects.toThrow(failure("engine/cancelled"));
    await expect(engine.open(model)).rejects.toThrow(failure("engine/cancelled"));
    await session.close();
    await until(() => !isRunning(pid));
  });

  it("may come before the first model", async () => {
    await expect(create({ signal: AbortSignal.abort() }).open(model)).rejects.toThrow(failure("engine/cancelled"));
  });

  it("leaves Ctrl-C, which reaches the whole group, to the tool", async () => {
    const session = await create().open(model);
    for (const signal of ["SIGINT", "SIGTERM"]) process.kill(runtimePid(), signal);
    expect((await session.run(feeds)).outputs.size).toBe(1);
  });
});

describe("what it leaves behind", () => {
  it("keeps a file a session, and none of a model that was refused", async () => {
    const engine = create();
    const session = await engine.open(model);
    const files = () => readdirSync(folder).flatMap((name) => readdirSync(join(folder, name)));
    const bad = makeTestModel({
      feeds: { x: someFloats([1]) },
      nodes: [makeNode("Fancy", ["x"], ["y"])],
      outputs: ["y"],
    });
    await expect(engine.open(bad.model)).rejects.toThrow(failure("engine/refused"));
    expect(files()).toHaveLength(1);
    await session.close();
    expect(files()).toEqual([]);
  });

  it("lets the runtime keep no record of the machine and of its models", async () => {
    await create().open(model);
    expect(readdirSync(folder)).toEqual([expect.stringMatching(/^recoup-/)]);
  });

  it("has no process left once it is closed", async () => {
    const engine = create();
    await engine.open(model);
    const pid = runtimePid();
    await engine.close();
    expect(isRunning(pid)).toBe(false);
  });

  /** A program that opens a model, says so, and then does as told. */
  async function runProgram(then: string): Promise<void> {
    const path = join(folder, "m.onnx");
    writeModelFile(path, model);
    const dist = resolve("dist", "node");
    const program = `
      import { readModelFile } from ${JSON.stringify(join(dist, "model-file.js"))};
      import { createRuntimeEngine } from ${JSON.stringify(join(dist, "runtime-engine.js"))};
      const engine = createRuntimeEngine();
      await engine.open(readModelFile(${JSON.stringify(path)}));
      ${then};`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "ignore" });
    await new Promise((done) => child.once("close", done));
    rmSync(path);
    await until(() => readdirSync(folder).length === 0);
  }

  it.each([
    ["ends without closing it", "process.exit(0)"],
    ["breaks down", "throw new Error('broken')"],
    ["is killed", "process.kill(process.pid, 'SIGKILL')"],
    ["is killed while it is answered", killedWhileAnswered],
  ])("has no files left where the tool %s", async (_about, then) => {
    await runProgram(then);
  });
});

it("sends 50 MB there and back", async () => {
  const x = someFloats([12_500_000]);
  const large = makeTestModel({ feeds: { x }, nodes: [makeNode("Neg", ["x"], ["y"])], outputs: ["y"] });
  const session = await create().open(large.model);
  const y = float32Values((await session.run(large.feeds)).outputs.get("y")!);
  const values = float32Values(x);
  expect(y).toHaveLength(values.length);
  for (const i of [0, 1, 6_250_000, 12_499_999]) expect(y[i]).toBe(-values[i]);
});
