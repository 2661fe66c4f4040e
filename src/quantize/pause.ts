/** Work may hold up everything else for so long, in milliseconds. */
const longestMs = 50;

/** Lets long work stop now and then, so that others have their turn: who wants to break it off, among them. */
export class Pause {
  #last = performance.now();

  /** Waits for whatever is due, where the last time was long ago. */
  async now(): Promise<void> {
    if (performance.now() - this.#last < longestMs) return;
    await new Promise((resolve) => setTimeout(resolve));
    this.#last = performance.now();
  }
}
