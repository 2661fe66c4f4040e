import type { Compared } from "../compare/gain.js";
import type { StepRule } from "../recipe/recipe.js";
import type { StepResult } from "../walk/solve-sites.js";
import type { DataRecord } from "./run-report.js";

/** What some steps led to on samples that nothing was fitted on. */
export interface Trial extends Pick<Compared, "kl" | "sqnrDb"> {
  /** None for the model as it was given. */
  readonly steps: readonly string[];
  /** Whether the model is what these led to. */
  readonly taken: boolean;
}

/** What a step did, and whether it is in the model. */
export interface CompensationResult extends StepResult {
  /** False for a step that was left out: then its sites are those of the first trial. */
  readonly kept: boolean;
}

/** What the compensation of another tool's model did, left alone and why, as data. */
export interface CompensationReport {
  readonly schemaVersion: 1;
  readonly version: string;
  readonly steps: readonly StepRule[];
  readonly data: DataRecord;
  /** Values and layers of the float network that were found in the quantized one. */
  readonly aligned: { readonly values: number; readonly layers: number };
  readonly layers: number;
  readonly blocks: number;
  /** Operators whose values were not found, or cannot be looked at in numbers, with the reason. */
  readonly unaligned: readonly { readonly label: string; readonly reason: string }[];
  /** The model as it was, then what was tried. */
  readonly trials: readonly Trial[];
  /** How many samples were held back for the trials; with too few of them 0, and the trials are on those that were fitted. */
  readonly held: number;
  /** False where nothing has helped: the model is the one that was given. */
  readonly isChanged: boolean;
  /** Each step that was asked for: the kept ones first. */
  readonly results: readonly CompensationResult[];
  readonly warnings: readonly string[];
}
