import type { Sample } from "./samples.js";

/** Bytes of samples that wait at most to be asked for, about. */
const mostWaiting = 64e6;

/** Samples that are being read already. */
export interface Prefetched extends AsyncIterable<Sample> {
  /** Reads no more and forgets what waits; for whoever does not ask for all. */
  close(): void;
}

/**
 * Reads samples from now on and not only when they are asked for, as long as not too many wait: while a model is prepared,
 * pictures can be decoded. An error reaches the consumer when the turn of its sample comes. To be gone through once.
 */
export function prefetch(samples: AsyncIterable<Sample>, most = mostWaiting): Prefetched {
  const waiting: Sample[] = [];
  let bytes = 0;
  let isClosed = false;
  let end: { readonly error?: unknown } | undefined;
  // Reader and consumer wait for each other: whoever has changed something wakes the other one.
  let wake = () => {};
  const change = () => new Promise<void>((resolve) => (wake = resolve));
  const read = async () => {
    for await (const sample of samples) {
      if (isClosed) return;
      waiting.push(sample);
      bytes += sizeOf(sample);
      wake();
      while (bytes > most && !isClosed) await change();
    }
  };
  read().then(
    () => {
      end = {};
      wake();
    },
    (error: unknown) => {
      end = { error };
      wake();
    },
  );
  return {
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const sample = waiting.shift();
        if (sample !== undefined) {
          bytes -= sizeOf(sample);
          wake();
          yield sample;
        } else if (end === undefined) await change();
        else if ("error" in end) throw end.error;
        else return;
      }
    },
    close() {
      isClosed = true;
      waiting.length = 0;
      wake();
    },
  };
}

function sizeOf({ feeds }: Sample): number {
  return [...feeds.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
}
