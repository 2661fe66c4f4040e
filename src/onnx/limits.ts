import { RecoupError } from "../errors.js";
import type { ExternalReader } from "./external-data.js";

/**
 * What a file may ask for at most. A few bytes can claim any size, and whoever reads models of strangers must neither hang
 * nor run out of memory: so every limit has a number, and going beyond it is an error, `onnx/limit`, that names the place.
 */

/** Levels of bodies inside bodies: each costs three messages (graph, node, attribute), and C++ protobuf ends at 100. */
export const deepestBody = 32;

/** Bytes of one message: protobuf's own limit. */
export const largestMessage = 2 ** 31 - 1;

/**
 * Bytes of memory that the objects may take which stand for fields, nodes, tensors and entries of lists, all together: an
 * empty node takes 2 bytes of the file and 500 times as many here. Node ends a process whose objects take 2 to 4 GB, and
 * nobody can catch that. A network of 100 000 nodes and 100 000 initializers is counted with 350 MB.
 */
export const largestOverhead = 2 ** 30;

/** Nodes of a model whose functions are all written out. The largest exported networks have 100 000. */
export const mostNodes = 1_000_000;

/** Axes of a tensor: the most that NumPy knows, and runtimes know fewer. */
export const mostAxes = 64;

/** Bytes of one tensor, since no array of Node 20 holds more. */
export const largestTensor = 2 ** 32;

/** Bytes of a tensor that is stored sparsely, filled in: a few bytes can ask for any size. */
export const largestDense = 2 ** 30;

/** About what small objects take in memory, in bytes, as measured with Node 20. */
export const objectBytes = { field: 256, node: 768, tensor: 512, number: 32, text: 128 } as const;

/** Counts what a model's small objects take while it is read. */
export class ReadBudget {
  #left = largestOverhead;

  /** @throws RecoupError `onnx/limit` */
  spend(bytes: number, path: string): void {
    this.#left -= bytes;
    if (this.#left < 0) {
      const message = `needs more than ${largestOverhead} bytes of memory besides what the file holds`;
      throw new RecoupError("onnx/limit", message, { field: path });
    }
  }
}

/** Where the parts of a model come from while it is read, and what they may take. */
export interface Reading extends ExternalReader {
  /** Nobody counts where it is not given: for a message whose size has been counted already. */
  readonly budget?: ReadBudget;
}
