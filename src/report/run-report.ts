import type { ValueName } from "../graph/graph.js";
import { labelOf } from "../graph/node.js";
import type { LayerChoice } from "../quantize/choose-layers.js";
import type { Granularity } from "../quantize/format.js";
import type { ActivationGroup } from "../quantize/group-activations.js";
import type { QuantizedLayer } from "../quantize/quantize.js";
import type { Spacing } from "../quantize/spacing.js";
import type { Recipe } from "../recipe/recipe.js";
import type { StepResult } from "../walk/solve-sites.js";

/** What a run did, left alone and why, as data: the same content as the report for people. */
export interface RunReport {
  readonly schemaVersion: 1;
  readonly version: string;
  readonly recipe: Recipe;
  readonly data: DataRecord;
  readonly clean: readonly CleanRecord[];
  readonly blocks: number;
  readonly layers: readonly LayerRecord[];
  /** Nodes that stayed in float, with the reason. */
  readonly skipped: readonly SkippedRecord[];
  readonly activations: readonly ActivationRecord[];
  /** What was tried where the recipe left something open. */
  readonly trials: readonly TrialRecord[];
  /** Preparations of the float network first. */
  readonly steps: readonly StepResult[];
  readonly warnings: readonly string[];
}

export interface DataRecord {
  readonly description: string;
  /** How many samples were used, of how many there are. */
  readonly samples: number;
  readonly available: number;
  readonly fingerprint: string;
}

export interface CleanRecord {
  readonly name: string;
  readonly changed: readonly string[];
  readonly skipped: readonly { readonly node: string; readonly reason: string }[];
}

export interface SkippedRecord {
  readonly name: string;
  readonly opType: string;
  readonly reason: string;
}

export interface LayerRecord {
  readonly name: string;
  readonly opType: string;
  readonly weight: string;
  readonly shape: readonly number[];
  readonly bits: number;
  /** As in recipes: "channel", "tensor", "group:64". */
  readonly granularity: string;
  readonly symmetric: boolean;
  /** How its codes were chosen, as in recipes. */
  readonly rounding: string;
  /** Bits of the grid that its input lies on, or "float". */
  readonly activation: number | "float";
  /** Signal to quantization noise of the weight, in decibels. */
  readonly weightSqnrDb: number;
  /** What differs from the recipe, and why. */
  readonly remarks: readonly string[];
}

/** Values that share a grid. */
export interface ActivationRecord {
  readonly values: readonly string[];
  readonly bits: number;
  /** How the levels of the grid lie. */
  readonly spacing: Spacing;
  readonly low: number;
  readonly high: number;
}

/** Errors at the outputs on samples that were held back. */
export interface TrialRecord {
  /** What was tried. */
  readonly name: string;
  /** Whether the run went on with it. */
  readonly taken: boolean;
  /** In nats. */
  readonly kl: number;
  readonly sqnrDb: number;
  /** On so many samples. */
  readonly held: number;
  /** By how much its error was lower than that of what was best before it, as a share of that, on the same samples. */
  readonly gain?: { readonly beside: string; readonly share: number; readonly standardError: number };
}

/** @param sqnrDb of the weights, by their names */
export function recordLayers(
  layers: readonly QuantizedLayer[],
  sqnrDb: ReadonlyMap<ValueName, number>,
): readonly LayerRecord[] {
  return layers.map(({ plan, label, activationBits, remarks, shape }) => ({
    name: label,
    opType: plan.layer.node.opType,
    weight: plan.layer.weight,
    shape,
    bits: plan.weight.bits,
    granularity: granularityText(plan.weight.granularity),
    symmetric: plan.weight.symmetric,
    rounding: plan.weight.rounding?.use ?? "rtn",
    activation: activationBits,
    weightSqnrDb: sqnrDb.get(plan.layer.weight) ?? 0,
    remarks,
  }));
}

export function recordActivations(groups: readonly ActivationGroup[]): readonly ActivationRecord[] {
  return groups.map(({ sites, format, spacing, range }) => ({
    values: sites.map((site) => site.value),
    bits: format.bits,
    spacing,
    low: range.low,
    high: range.high,
  }));
}

export function recordSkipped(choice: LayerChoice): readonly SkippedRecord[] {
  return choice.skipped.map(({ node, reason }) => ({ name: labelOf(node), opType: node.opType, reason }));
}

function granularityText(granularity: Granularity): string {
  if (granularity.kind === "per-group") return `group:${granularity.groupSize}`;
  return granularity.kind === "per-channel" ? "channel" : "tensor";
}
