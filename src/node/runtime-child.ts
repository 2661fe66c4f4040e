import { type ChildProcess, fork } from "node:child_process";
import { createRequire } from "node:module";
import { type ErrorCode, RecoupError } from "../errors.js";
import type { Envelope, Reply, Request } from "./runtime-messages.js";

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

/** A child process that holds the runtime, and the questions it has not answered yet. */
export class RuntimeChild {
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

  /** @throws RecoupError `onFailure` for what the process could not do; what ended it where it has ended */
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

/** What fails where somebody has said stop. */
export function cancelled(): RecoupError {
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
