import type { HeldTensor, RunMode } from "../engine/engine.js";
import type { ErrorCode, Place } from "../errors.js";
import type { Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";

/** A tensor on its way between processes. */
export interface SentTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A tensor that stands in a file, behind those before it. */
export interface StoredTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
}

/** Tensors as they are sent: with their bytes, or in a file that whoever opens it removes. */
export type Mail =
  | { readonly file?: undefined; readonly tensors: Named<SentTensor | HeldTensor> }
  | { readonly file: string; readonly tensors: Named<StoredTensor | HeldTensor> };

export type Named<T> = readonly (readonly [name: string, value: T])[];

export type Request =
  | {
      readonly kind: "open";
      readonly path: string;
      readonly mode: RunMode;
      readonly threads: number | undefined;
      /** Where the files stand that hold the model's tensors; beside the model where it is not given. */
      readonly tensorFolder: string | undefined;
    }
  | {
      readonly kind: "run";
      readonly session: number;
      readonly feeds: Mail;
      readonly fetch: readonly string[] | undefined;
      /** Whether the results stay where they are. */
      readonly hold: boolean;
    }
  | { readonly kind: "hold"; readonly mail: Mail }
  | { readonly kind: "release"; readonly held: readonly number[] }
  | { readonly kind: "close"; readonly session: number };

export type Reply =
  | {
      readonly kind: "opened";
      readonly session: number;
      readonly inputs: readonly Value[];
      readonly outputs: readonly Value[];
      readonly elapsedMs: number;
    }
  | { readonly kind: "ran"; readonly outputs: Mail; readonly elapsedMs: number }
  | { readonly kind: "held"; readonly tensors: Named<HeldTensor> }
  | { readonly kind: "done" }
  | {
      readonly kind: "failed";
      readonly message: string;
      /** Given where the fault lies with the temporary folder and not with what was asked for. */
      readonly code?: ErrorCode;
      readonly place?: Place;
    };

export interface Envelope<Body> {
  readonly id: number;
  readonly body: Body;
}
