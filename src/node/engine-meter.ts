import type { Engine, HeldTensor, RunFeeds, Session } from "../engine/engine.js";
import { bytesFor } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import type { Pass } from "./extrapolate.js";
import { sizeOfModelFile } from "./model-file.js";
import { leastInFile } from "./runtime-mail.js";

type OpenPass = Pass & { readonly doneMs: number[] };

/** Looks at what an engine is asked for: when it has done it, and how much it holds. */
export class EngineMeter {
  readonly #phaseNow: () => string;
  readonly #passes: OpenPass[] = [];
  readonly #held = new Map<number, number>();
  #heldBytes = 0;
  #mostHeldBytes = 0;
  #modelBytes = 0;
  /** What is fed to calls that are not done, in bytes. */
  readonly #fed = new Set<{ readonly bytes: number }>();
  #mostFileBytes = 0;

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

  /** The most that files took at once, those of models and of tensors on their way. */
  get mostFileBytes(): number {
    return this.#mostFileBytes;
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
        const held = await this.#send(tensors, () => engine.hold(tensors));
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
    this.#noteFiles(0);
    return {
      ...session,
      run: async (feeds, fetch) => {
        const call = () => session.run(feeds, fetch);
        const result = await this.#send(feeds, call, ({ outputs }) => sizeBytesOf(outputs));
        doneMs.push(performance.now());
        return result;
      },
      runAndHold: async (feeds, values) => {
        const held = await this.#send(feeds, () => session.runAndHold(feeds, values));
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

  /**
   * What is fed travels, and is taken in when its call begins: when a call is done, those behind it have not begun.
   *
   * @param returnedBytes of what travels back
   */
  async #send<Result>(
    feeds: RunFeeds,
    call: () => Promise<Result>,
    returnedBytes: (result: Result) => number = () => 0,
  ): Promise<Result> {
    const sent = { bytes: sizeBytesOf(feeds) };
    this.#fed.add(sent);
    this.#noteFiles(sent.bytes);
    try {
      const result = await call();
      this.#fed.delete(sent);
      this.#noteFiles([...this.#fed].reduce((sum, { bytes }) => sum + bytes, returnedBytes(result)));
      return result;
    } finally {
      this.#fed.delete(sent);
    }
  }

  /** @param travelling bytes of tensors on their way */
  #noteFiles(travelling: number): void {
    const inFiles = travelling < leastInFile ? 0 : travelling;
    this.#mostFileBytes = Math.max(this.#mostFileBytes, this.#modelBytes + inFiles);
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

/** Bytes of the tensors that are not held. */
function sizeBytesOf(feeds: RunFeeds): number {
  let bytes = 0;
  for (const tensor of feeds.values())
    if (!("held" in tensor)) bytes += bytesFor(tensor.type, elementCount(tensor.shape));
  return bytes;
}
