import type { Engine, HeldTensor, Session } from "../engine/engine.js";
import { bytesFor } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import type { Pass } from "./extrapolate.js";
import { sizeOfModelFile } from "./model-file.js";

type OpenPass = Pass & { readonly doneMs: number[] };

/** Looks at what an engine is asked for: when it has done it, and how much it holds. */
export class EngineMeter {
  readonly #phaseNow: () => string;
  readonly #passes: OpenPass[] = [];
  readonly #held = new Map<number, number>();
  #heldBytes = 0;
  #mostHeldBytes = 0;
  #modelBytes = 0;
  #mostModelBytes = 0;

  /** @param phaseNow what is under way */
  constructor(phaseNow: () => string) {
    this.#phaseNow = phaseNow;
  }

  get passes(): readonly Pass[] {
    return this.#passes;
  }

  /** What is held now. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The most that was held at once. */
  get mostHeldBytes(): number {
    return this.#mostHeldBytes;
  }

  /** The most that models took as files at once. */
  get mostModelBytes(): number {
    return this.#mostModelBytes;
  }

  meter(engine: Engine): Engine {
    let handingOver: OpenPass | undefined;
    return {
      name: engine.name,
      open: async (model, options) => {
        const session = await engine.open(model, options);
        return this.#meterSession(session, sizeOfModelFile(model));
      },
      hold: async (tensors) => {
        const held = await engine.hold(tensors);
        const phase = this.#phaseNow();
        if (handingOver?.phase !== phase) handingOver = this.#begin();
        handingOver.doneMs.push(performance.now());
        this.#keep(held.values());
        return held;
      },
      release: (tensors) => {
        const list = [...tensors];
        this.#forget(list);
        return engine.release(list);
      },
      close: () => engine.close(),
    };
  }

  #meterSession(session: Session, bytes: number): Session {
    const { doneMs } = this.#begin();
    let isClosed = false;
    this.#modelBytes += bytes;
    this.#mostModelBytes = Math.max(this.#mostModelBytes, this.#modelBytes);
    return {
      ...session,
      run: async (feeds, fetch) => {
        const result = await session.run(feeds, fetch);
        doneMs.push(performance.now());
        return result;
      },
      runAndHold: async (feeds, values) => {
        const held = await session.runAndHold(feeds, values);
        doneMs.push(performance.now());
        this.#keep(held.values());
        return held;
      },
      close: () => {
        if (!isClosed) this.#modelBytes -= bytes;
        isClosed = true;
        return session.close();
      },
    };
  }

  #begin(): OpenPass {
    const pass: OpenPass = { phase: this.#phaseNow(), doneMs: [] };
    this.#passes.push(pass);
    return pass;
  }

  #keep(tensors: Iterable<HeldTensor>): void {
    for (const { held, type, shape } of tensors) {
      const bytes = bytesFor(type, elementCount(shape));
      this.#held.set(held, bytes);
      this.#heldBytes += bytes;
    }
    this.#mostHeldBytes = Math.max(this.#mostHeldBytes, this.#heldBytes);
  }

  #forget(tensors: readonly HeldTensor[]): void {
    for (const { held } of tensors) {
      this.#heldBytes -= this.#held.get(held) ?? 0;
      this.#held.delete(held);
    }
  }
}
