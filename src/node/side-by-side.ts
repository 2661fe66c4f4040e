import { type Engine, type Session, withSession } from "../engine/engine.js";
import { withPlace } from "../errors.js";
import type { ModelSource } from "./model-source.js";
import { createRuntimeEngine, type RuntimeOptions } from "./runtime-engine.js";

/** A model, and what errors call it. */
export type NamedModel = Pick<ModelSource, "model" | "path">;

/**
 * Opens a model at the runtime's default options.
 *
 * @throws RecoupError as `Engine.open`, naming the model
 */
export async function withOne<Result>(
  { model, path }: NamedModel,
  options: RuntimeOptions,
  use: (session: Session) => Promise<Result>,
): Promise<Result> {
  const engine = createRuntimeEngine({ threads: options.threads, signal: options.signal });
  try {
    return await withSession(naming(engine, path), model, { mode: "shipped" }, use);
  } finally {
    await engine.close();
  }
}

/**
 * Opens two models at the runtime's default options, each in a process of its own, as whoever ships one of them would run
 * it. In one process the threads of one model would still be waiting for work, at full speed, while the other is timed.
 *
 * @throws RecoupError as `Engine.open`, naming the model
 */
export async function withBoth<Result>(
  left: NamedModel,
  right: NamedModel,
  options: RuntimeOptions,
  use: (left: Session, right: Session) => Promise<Result>,
): Promise<Result> {
  return withOne(left, options, (first) => withOne(right, options, (second) => use(first, second)));
}

/** The engine for one model: its errors, and those of its sessions, name the file. */
export function naming(engine: Engine, file: string): Engine {
  const named = <Result>(work: Promise<Result>): Promise<Result> =>
    work.catch((error) => {
      throw withPlace(error, { file });
    });
  return {
    name: engine.name,
    async open(model, options) {
      const session = await named(engine.open(model, options));
      return {
        ...session,
        run: (feeds, fetch) => named(session.run(feeds, fetch)),
        runAndHold: (feeds, values) => named(session.runAndHold(feeds, values)),
      };
    },
    hold: (tensors) => engine.hold(tensors),
    release: (tensors) => engine.release(tensors),
    close: () => engine.close(),
  };
}
