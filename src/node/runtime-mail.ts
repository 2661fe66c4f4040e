import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { HeldTensor } from "../engine/engine.js";
import type { Mail, Named, SentTensor, StoredTensor } from "./runtime-messages.js";

/** Less than this travels in the message: a file would take longer. */
export const leastInFile = 2 ** 16;

/**
 * Tensors on their way between the tool and the process that runs models. A pipe takes a few hundred kilobytes and then
 * waits for the other side, which may be busy with a model: tensors that take more than that are put into a file, of which
 * the message tells, so that neither side waits for the other one.
 */
export class TensorMail {
  readonly #folder: string;
  readonly #sender: string;
  #sent = 0;

  /** @param sender part of the names of the files: no two that write to a folder may share it */
  constructor(folder: string, sender: string) {
    this.#folder = folder;
    this.#sender = sender;
  }

  /** What `open` makes the same tensors of, on the other side. */
  send(tensors: Named<SentTensor | HeldTensor>): Mail {
    const sizeBytes = tensors.reduce((sum, [, tensor]) => sum + ("bytes" in tensor ? tensor.bytes.byteLength : 0), 0);
    if (sizeBytes < leastInFile) return { tensors };
    const file = join(this.#folder, `${this.#sender}${++this.#sent}.tensor`);
    try {
      return { file, tensors: writeTensors(file, tensors) };
    } catch {
      // The folder has no room for it: the pipe is slower, but has.
      rmSync(file, { force: true });
      return { tensors };
    }
  }
}

/** The tensors that were sent; they can be had once. */
export function openMail(mail: Mail): Named<SentTensor | HeldTensor> {
  if (mail.file === undefined) return mail.tensors;
  const file = openSync(mail.file, "r");
  try {
    return mail.tensors.map(([name, tensor]) => {
      if (!("sizeBytes" in tensor)) return [name, tensor];
      const bytes = new Uint8Array(tensor.sizeBytes);
      moveAll((position) => readSync(file, bytes, position, bytes.byteLength - position, null), bytes.byteLength);
      return [name, { type: tensor.type, shape: tensor.shape, bytes }];
    });
  } finally {
    closeSync(file);
    rmSync(mail.file, { force: true });
  }
}

function writeTensors(path: string, tensors: Named<SentTensor | HeldTensor>): Named<StoredTensor | HeldTensor> {
  const file = openSync(path, "w");
  try {
    return tensors.map(([name, tensor]) => {
      if (!("bytes" in tensor)) return [name, tensor];
      const { type, shape, bytes } = tensor;
      moveAll((position) => writeSync(file, bytes, position, bytes.byteLength - position, null), bytes.byteLength);
      return [name, { type, shape, sizeBytes: bytes.byteLength }];
    });
  } finally {
    closeSync(file);
  }
}

/** One call moves less than 2 GiB, whatever it is asked for. */
function moveAll(move: (position: number) => number, sizeBytes: number): void {
  for (let position = 0; position < sizeBytes; ) {
    const count = move(position);
    if (count === 0) throw new Error("the file ended early");
    position += count;
  }
}
