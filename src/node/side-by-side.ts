import { type Session, withSession } from "../engine/engine.js";
import type { Model } from "../graph/model.js";
import { createRuntimeEngine, type RuntimeOptions } from "./runtime-engine.js";

/**
 * Opens a model at the runtime's default options.
 *
 * @throws RecoupError as `Engine.open`
 */
export async function withOne<Result>(
  model: Model,
  options: RuntimeOptions,
  use: (session: Session) => Promise<Result>,
): Promise<Result> {
  const engine = createRuntimeEngine({ threads: options.threads, signal: options.signal });
  try {
    return await withSession(engine, model, { mode: "shipped" }, use);
  } finally {
    await engine.close();
  }
}

/**
 * Opens two models at the runtime's default options, each in a process of its own, as whoever ships one of them would run
 * it. In one process the threads of one model would still be waiting for work, at full speed, while the other is timed.
 *
 * @throws RecoupError as `Engine.open`
 */
export async function withBoth<Result>(
  left: Model,
  right: Model,
  options: RuntimeOptions,
  use: (left: Session, right: Session) => Promise<Result>,
): Promise<Result> {
  return withOne(left, options, (first) => withOne(right, options, (second) => use(first, second)));
}
