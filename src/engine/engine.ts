import type { Value, ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import type { ElementType } from "../tensor/element-type.js";
import type { Tensor } from "../tensor/tensor.js";

export type Feeds = ReadonlyMap<ValueName, Tensor>;

/** A tensor that stays with the runtime: what is fed to a session again and again need not travel each time. */
export interface HeldTensor {
  readonly held: number;
  readonly type: ElementType;
  readonly shape: readonly number[];
}

export type RunFeeds = ReadonlyMap<ValueName, Tensor | HeldTensor>;

/**
 * `exact`: what the file says, quantize and dequantize nodes computed in float as they stand; for statistics.
 * `shipped`: the runtime's default options, integer kernels included; for accuracy and latency as users see them.
 * `folded`: like `plain`, but what follows from constants is computed when the model is loaded; for types that depend on it.
 * `plain`: operator by operator, nothing joined or rearranged; loads fastest and runs slowest, for types and single samples.
 */
export type RunMode = "exact" | "shipped" | "plain" | "folded";

export interface OpenOptions {
  readonly mode?: RunMode;
  /** Values to fetch besides the outputs. Fixed when a session opens: runtimes return declared outputs only. */
  readonly taps?: readonly ValueName[];
}

/** Runs models. The one place where operators get their meaning: nothing else in Recoup computes a graph. */
export interface Engine {
  readonly name: string;
  /**
   * @throws RecoupError `engine/refused` for a model that the runtime does not load, `engine/crashed` for one that kills
   * it, `engine/cancelled`, `engine/unavailable`
   */
  open(model: Model, options?: OpenOptions): Promise<Session>;
  /**
   * Hands tensors over to the runtime, which keeps them until they are released, and loses them where it crashes.
   *
   * @throws RecoupError `engine/run` for a type that cannot be fed, and as `open`
   */
  hold(tensors: Feeds): Promise<ReadonlyMap<ValueName, HeldTensor>>;
  /** Those that are gone already are passed over. */
  release(tensors: Iterable<HeldTensor>): Promise<void>;
  /** Ends all sessions. An engine that is closed opens none: `engine/unavailable`. Closing it again does nothing. */
  close(): Promise<void>;
}

export interface Session {
  /** As the runtime sees them: types and shapes that the file leaves out are filled in where they can be inferred. */
  readonly inputs: readonly Value[];
  /** The model's outputs, then the taps. */
  readonly outputs: readonly Value[];
  /** How long the runtime took to load the model, in milliseconds. */
  readonly loadMs: number;
  /**
   * @param fetch the outputs and taps to return; where it is not given, all that are tensors of numbers: no runtime hands
   * over sequences, maps and texts in one form
   * @throws RecoupError `engine/run` where the runtime cannot compute the outputs, `engine/crashed`, `engine/cancelled`
   */
  run(feeds: RunFeeds, fetch?: readonly ValueName[]): Promise<RunResult>;
  /** Like `run`, but the results stay with the runtime. */
  runAndHold(feeds: RunFeeds, values: readonly ValueName[]): Promise<ReadonlyMap<ValueName, HeldTensor>>;
  /** Closing it again does nothing; to run it then is `engine/run`. */
  close(): Promise<void>;
}

export interface RunResult {
  readonly outputs: Feeds;
  /** Time inside the runtime, without the way there and back. */
  readonly elapsedMs: number;
}

/** Opens a session, gives it to `use`, and closes it whatever happens. */
export async function withSession<Result>(
  engine: Engine,
  model: Model,
  options: OpenOptions,
  use: (session: Session) => Promise<Result>,
): Promise<Result> {
  const session = await engine.open(model, options);
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}
