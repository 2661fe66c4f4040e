import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine, Feeds, HeldTensor, OpenOptions, RunFeeds, RunResult, Session } from "../engine/engine.js";
import { withTaps } from "../engine/taps.js";
import { RecoupError } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { writeModelFile } from "./model-file.js";
import { cancelled, RuntimeChild } from "./runtime-child.js";
import { openMail, TensorMail } from "./runtime-mail.js";
import type { Mail, Named, Request, SentTensor } from "./runtime-messages.js";
import { removeTensorFiles } from "./runtime-tensor-files.js";
import { temporaryFilesUnavailable } from "./temporary-files.js";
import { folderOfTensors } from "./tensors-in-place.js";

export interface RuntimeOptions {
  /** Threads a model runs on; the number of cores where it is not given. */
  readonly threads?: number;
  /** Bytes of held tensors that stay in memory, 192 MB where it is not given; what is held beyond goes to files. */
  readonly memoryBytes?: number;
  /** Ends the process that runs the models; what is under way fails with `engine/cancelled`. */
  readonly signal?: AbortSignal;
}

/**
 * Held tensors are what grows with the number of calibration samples. Our choice: those of small networks are then never
 * written, and those of large ones take little beside the networks themselves.
 */
export const defaultMemoryBytes = 192e6;

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
  readonly #folder = join(tmpdir(), `recoup-${randomBytes(8).toString("hex")}`);
  readonly #mail = new TensorMail(this.#folder, "feeds ");
  readonly #cleanUp = () => {
    this.#end();
    this.#removeFolder();
  };
  #process: RuntimeChild | undefined;
  #processes = 0;
  #models = 0;
  #isClosed = false;

  constructor(options: RuntimeOptions) {
    this.#options = options;
    // It takes a while to start, in which a model can be read. And it cleans up behind a tool that is killed: there is no
    // folder without it.
    if (!options.signal?.aborted) this.#runtime();
    try {
      mkdirSync(this.#folder, { mode: 0o700 });
    } catch (cause) {
      this.#process?.end();
      throw temporaryFilesUnavailable(cause);
    }
    process.once("exit", this.#cleanUp);
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
    await this.#end();
    process.off("exit", this.#cleanUp);
    this.#removeFolder();
  }

  /** The folder goes first: it must not outlive a tool that is killed right now, and its process sees to that. */
  #end(): Promise<void> | undefined {
    try {
      this.#removeFolder();
    } catch {
      // The process still writes into it; it goes when the process is gone.
    }
    return this.#process?.end();
  }

  #removeFolder(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #runtime(): RuntimeChild {
    if (this.#isClosed) throw new RecoupError("engine/unavailable", "the engine is closed");
    if (this.#options.signal?.aborted) throw cancelled();
    if (!this.#process?.isAlive) {
      // What a process that died held is lost.
      removeTensorFiles(this.#folder);
      const numbers = [this.#processes++ * heldPerProcess, this.#options.memoryBytes ?? defaultMemoryBytes];
      this.#process = new RuntimeChild([this.#folder, ...numbers.map(String)], this.#options.signal);
    }
    return this.#process;
  }
}

/** A tensor that was held by a process that died must not be taken for one of the next process. */
const heldPerProcess = 1e9;

async function run(
  runtime: RuntimeChild,
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
  runtime: RuntimeChild,
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
