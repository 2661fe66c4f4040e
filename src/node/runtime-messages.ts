import type { RunMode } from "../engine/engine.js";
import type { Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";

/** A tensor on its way between processes. */
export interface SentTensor {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export type Request =
  | { readonly kind: "open"; readonly path: string; readonly mode: RunMode; readonly threads: number | undefined }
  | {
      readonly kind: "run";
      readonly session: number;
      readonly feeds: readonly SentTensor[];
      readonly fetch: readonly string[] | undefined;
    }
  | { readonly kind: "close"; readonly session: number };

export type Reply =
  | {
      readonly kind: "opened";
      readonly session: number;
      readonly inputs: readonly Value[];
      readonly outputs: readonly Value[];
    }
  | { readonly kind: "ran"; readonly outputs: readonly SentTensor[]; readonly elapsedMs: number }
  | { readonly kind: "closed" }
  | { readonly kind: "failed"; readonly message: string };

export interface Envelope<Body> {
  readonly id: number;
  readonly body: Body;
}
