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

export type Named<T> = readonly (readonly [name: string, value: T])[];

export type Request =
  | { readonly kind: "open"; readonly path: string; readonly mode: RunMode; readonly threads: number | undefined }
  | {
      readonly kind: "run";
      readonly session: number;
      readonly feeds: Named<SentTensor | HeldTensor>;
      readonly fetch: readonly string[] | undefined;
      /** Whether the results stay where they are. */
      readonly hold: boolean;
    }
  | { readonly kind: "hold"; readonly tensors: Named<SentTensor> }
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
  | { readonly kind: "ran"; readonly outputs: Named<SentTensor>; readonly elapsedMs: number }
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
