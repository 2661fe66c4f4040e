import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine, Feeds, HeldTensor, OpenOptions, RunFeeds, RunResult, Session } from "../engine/engine.js";
import { withTaps } from "../engine/taps.js";
import { type ErrorCode, RecoupError } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { writeModelFile } from "./model-file.js";
import { openMail, TensorMail } from "./runtime-mail.js";
import type { Envelope, Mail, Named, Reply, Request, SentTensor } from "./runtime-messages.js";
import { removeTensorFiles } from "./runtime-tensor-files.js";
import { folderOfTensors } from "./tensors-in-place.js";

export interface RuntimeOptions {
  /** Threads a model runs on; the number of cores where it is not given. */
  readonly threads?: number;
  /** Bytes of held tensors that stay in memory, 256 MB where it is not given; what is held beyond goes to files. */
  readonly memoryBytes?: number;
  /** Ends the process that runs the models; what is under way fails with `engine/cancelled`. */
  readonly signal?: AbortSignal;
}

/**
 * Held tensors are what grows with the number of calibration samples. Our choice: those of small networks are then never
 * written, and those of large ones take little beside the networks themselves.
 */
export const defaultMemoryBytes = 256e6;

/**
 * onnxruntime in a child process, so that the event loop stays free and a model that kills its process is an error.
 *
 * @throws RecoupError `engine/unavailable` where temporary files cannot be kept
 */
export function createRuntimeEngine(options: RuntimeOptions = {}): Engine {
  return new RuntimeEngine(options);
}

class RuntimeEngine implements Engine {
  readonly name = "onnxruntime-node";
  readonly #options: RuntimeOptions;
  readonly #folder = makeTemporaryFolder();
  readonly #mail = new TensorMail(this.#folder, "feeds ");
  readonly #cleanUp = () => {
    this.#process?.end();
    rmSync(this.#folder, { recursive: true, force: true });
  };
  #process: RuntimeProcess | undefined;
  #processes = 0;
  #models = 0;
  #isClosed = false;

  constructor(options: RuntimeOptions) {
    this.#options = options;
    process.once("exit", this.#cleanUp);
    // It takes a while to start, in which a model can be read.
    if (!options.signal?.aborted) this.#runtime();
  }

  async open(model: Model, options: OpenOptions = {}): Promise<Session> {
    const runtime = this.#runtime();
    refuseFourBitOutputs(model);
    const path = join(this.#folder, `${++this.#models}.onnx`);
    const removeFiles = () => {
      for (const file of [path, `${path}.data`]) rmSync(file, { force: true });
    };
    const tapped = withTaps(model, options.taps ?? []);
    const tensorFolder = folderOfTensors(tapped);
    writeModelFile(path, tapped, { isTemporary: true, inPlace: tensorFolder });
    const { threads } = this.#options;
    const request = { kind: "open", path, mode: options.mode ?? "exact", threads, tensorFolder } as const;
    const reply = await runtime.ask(request, "engine/refused").catch((error) => {
      removeFiles();
      throw error;
    });
    let isClosed = false;
    return {
      inputs: reply.inputs,
      outputs: reply.outputs,
      loadMs: reply.elapsedMs,
      run: (feeds, fetch) => run(runtime, reply.session, this.#mail.send(sendFeeds(feeds)), fetch),
      runAndHold: (feeds, values) => runAndHold(runtime, reply.session, this.#mail.send(sendFeeds(feeds)), values),
      close: async () => {
        if (isClosed) return;
        isClosed = true;
        removeFiles();
        if (runtime.isAlive) await runtime.ask({ kind: "close", session: reply.session }, "engine/run");
      },
    };
  }

  async hold(tensors: Feeds): Promise<ReadonlyMap<ValueName, HeldTensor>> {
    const sent = [...tensors].map(([name, tensor]) => [name, toSent(tensor)] as const);
    const reply = await this.#runtime().ask({ kind: "hold", mail: this.#mail.send(sent) }, "engine/run");
    return new Map(reply.tensors);
  }

  async release(tensors: Iterable<HeldTensor>): Promise<void> {
    if (!this.#process?.isAlive) return;
    await this.#process.ask({ kind: "release", held: [...tensors].map((tensor) => tensor.held) }, "engine/run");
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#process?.end();
    process.off("exit", this.#cleanUp);
    this.#cleanUp();
  }

  #runtime(): RuntimeProcess {
    if (this.#isClosed) throw new RecoupError("engine/unavailable", "the engine is closed");
    if (this.#options.signal?.aborted) throw cancelled();
    if (!this.#process?.isAlive) {
      // What a process that died held is lost.
      removeTensorFiles(this.#folder);
      const numbers = [this.#processes++ * heldPerProcess, this.#options.memoryBytes ?? defaultMemoryBytes];
      this.#process = new RuntimeProcess([this.#folder, ...numbers.map(String)], this.#options.signal);
    }
    return this.#process;
  }
}

function makeTemporaryFolder(): string {
  const parent = tmpdir();
  try {
    return mkdtempSync(join(parent, "recoup-"));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const message = `temporary files cannot be kept there (${code}): set TMPDIR`;
    throw new RecoupError("engine/unavailable", message, { file: parent }, { cause });
  }
}

/** A tensor that was held by a process that died must not be taken for one of the next process. */
const heldPerProcess = 1e9;

async function run(
  runtime: RuntimeProcess,
  session: number,
  feeds: Mail,
  fetch: readonly ValueName[] | undefined,
): Promise<RunResult> {
  const reply = await runtime.ask({ kind: "run", session, feeds, fetch, hold: false }, "engine/run");
  if (reply.kind !== "ran") throw new Error(`unexpected reply ${reply.kind}`);
  const outputs = openMail(reply.outputs).flatMap(([name, tensor]) =>
    "held" in tensor ? [] : [[name, tensorFromBytes(tensor.type, tensor.shape, tensor.bytes)] as const],
  );
  return { outputs: new Map(outputs), elapsedMs: reply.elapsedMs };
}

async function runAndHold(
  runtime: RuntimeProcess,
  session: number,
  feeds: Mail,
  values: readonly ValueName[],
): Promise<ReadonlyMap<ValueName, HeldTensor>> {
  const request: Request = { kind: "run", session, feeds, fetch: values, hold: true };
  const reply = await runtime.ask(request, "engine/run");
  if (reply.kind !== "held") throw new Error(`unexpected reply ${reply.kind}`);
  return new Map(reply.tensors);
}

function sendFeeds(feeds: RunFeeds): Named<SentTensor | HeldTensor> {
  return [...feeds].map(([name, tensor]) => [name, "held" in tensor ? tensor : toSent(tensor)] as const);
}

function toSent(tensor: Tensor): SentTensor {
  return { type: tensor.type, shape: tensor.shape, bytes: tensor.bytes() };
}

/** Which reply answers which request. */
type ReplyTo<R extends Request> = Extract<
  Reply,
  { kind: { open: "opened"; run: "ran" | "held"; hold: "held"; release: "done"; close: "done" }[R["kind"]] }
>;

interface Pending {
  readonly onFailure: ErrorCode;
  resolve(reply: Reply): void;
  reject(error: unknown): void;
}

/** One child process and the questions it has not answered yet. */
class RuntimeProcess {
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #hasAnswered = false;
  #lastWords = "";
  #end: RecoupError | undefined;

  constructor(programArguments: readonly string[], signal: AbortSignal | undefined) {
    const program = createRequire(import.meta.url).resolve("#runtime-process");
    this.#child = fork(program, programArguments, {
      serialization: "advanced",
      execArgv: ["--expose-gc"],
      // Or the runtime keeps an identifier of the machine in the user's cache folder and reports models to its makers.
      env: { ...process.env, ORT_DISABLE_TELEMETRY: "1" },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child.stderr?.on("data", (data) => {
      this.#lastWords = (this.#lastWords + data).slice(-4000);
    });
    this.#child.on("message", (message) => this.#receive(message as Envelope<Reply>));
    const cancel = () => this.end(cancelled());
    signal?.addEventListener("abort", cancel, { once: true });
    this.#gone = new Promise((resolve) => {
      this.#child.on("error", (cause) => {
        this.#fail(new RecoupError("engine/unavailable", String(cause), {}, { cause }));
        resolve();
      });
      this.#child.on("close", (code, killedBy) => {
        signal?.removeEventListener("abort", cancel);
        this.#fail(this.#crash(code, killedBy));
        resolve();
      });
    });
  }

  get isAlive(): boolean {
    return this.#end === undefined;
  }

  ask<R extends Request>(body: R, onFailure: ErrorCode): Promise<ReplyTo<R>> {
    return new Promise<Reply>((resolve, reject) => {
      if (this.#end) return reject(this.#end);
      const id = ++this.#lastId;
      this.#pending.set(id, { onFailure, resolve, reject });
      this.#child.send({ id, body } satisfies Envelope<Request>, (cause) => {
        // A process that dies while it is being written to also closes, and the close says why.
        if (cause && this.#child.exitCode === null && this.#child.signalCode === null) {
          setTimeout(() => this.#fail(new RecoupError("engine/crashed", String(cause), {}, { cause })), 1000).unref();
        }
      });
      return undefined;
    }) as Promise<ReplyTo<R>>;
  }

  /** Kills the process; resolves once it is gone. */
  end(why = new RecoupError("engine/unavailable", "the engine is closed")): Promise<void> {
    this.#fail(why);
    this.#child.kill("SIGKILL");
    return this.#gone;
  }

  #receive({ id, body }: Envelope<Reply>): void {
    this.#hasAnswered = true;
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (body.kind !== "failed") pending?.resolve(body);
    else pending?.reject(new RecoupError(body.code ?? pending.onFailure, tidy(body.message), body.place));
  }

  #fail(error: RecoupError): void {
    this.#end ??= error;
    for (const pending of this.#pending.values()) pending.reject(this.#end);
    this.#pending.clear();
  }

  #crash(code: number | null, killedBy: NodeJS.Signals | null): RecoupError {
    const lines = this.#lastWords.trim().split("\n");
    const words =
      lines.findLast((line) => /Error( \[\w+\])?: |terminate|what\(\)/.test(line)) ?? lines[lines.length - 1];
    // The program itself failed, before there was a model.
    if (!this.#hasAnswered && code === 1) {
      return new RecoupError("engine/unavailable", `onnxruntime-node does not start: ${tidy(words)}`);
    }
    const how = killedBy ? `was ended by ${killedBy}` : `ended with exit code ${code}`;
    return new RecoupError("engine/crashed", `the process that ran the model ${how}${words ? `: ${tidy(words)}` : ""}`);
  }
}

function cancelled(): RecoupError {
  return new RecoupError("engine/cancelled", "cancelled");
}

/** What the runtime says, as one line without the places in its own source and the temporary file. */
function tidy(message: string): string {
  const line = message
    .replace(/^(\w*Error: )+/, "")
    .replace(/Load model from .*? failed:/, "")
    .replace(/\/onnxruntime_src\/\S+ .*?\) (?=\S)/g, "")
    .replace(/\s*\n\s*/g, " ")
    .trim();
  return line.length > longestMessage ? `${line.slice(0, longestMessage)} …` : line;
}

const longestMessage = 500;

/** The binding aborts the whole process when such an output is fetched. */
function refuseFourBitOutputs(model: Model): void {
  for (const output of model.graph.outputs) {
    const type = output.type.kind === "tensor" ? output.type.elementType : undefined;
    if (type && /^u?int[24]$/.test(type)) {
      throw new RecoupError("engine/refused", `is an output of type ${type}, which the runtime cannot return`, {
        field: output.name,
      });
    }
  }
}
