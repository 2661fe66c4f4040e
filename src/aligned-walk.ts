import type { Alignment } from "./align/align.js";
import { alignBlocks } from "./align/align-blocks.js";
import { type ForeignGroup, type FoundGrids, findGrids } from "./align/find-grids.js";
import { refitInputs } from "./align/refit-inputs.js";
import { writeGrid } from "./align/write-grid.js";
import type { Block } from "./blocks/blocks.js";
import { findLayerBlocks } from "./blocks/layer-blocks.js";
import { cleanModel } from "./clean/index.js";
import { inlineFunctions } from "./clean/inline-functions.js";
import { raiseOpset } from "./clean/opset/raise-opset.js";
import { oldestTarget } from "./clean/opset/versions.js";
import { compensations } from "./compensate/index.js";
import type { Samples } from "./data/samples.js";
import { inBatches } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import type { ValueName } from "./graph/graph.js";
import { type Model, opsetOf, withGraph } from "./graph/model.js";
import { labelOf } from "./graph/node.js";
import type { ValueTypes } from "./graph/value-types.js";
import { findLayers, functionsWithLayers } from "./operators/index.js";
import type { StepRule } from "./recipe/recipe.js";
import { fitRanges, rangesName } from "./round/live-ranges.js";
import type { AnyStep, OpenSite, OpenStep } from "./step/open-step.js";
import type { SiteLayer } from "./step/step.js";
import type { StepResult } from "./walk/solve-sites.js";
import { surveySites } from "./walk/survey.js";
import { walk } from "./walk/walk.js";

/** A float network and what another tool has made of it, in one version of the standard's operators. */
export interface Pair {
  readonly float: Model;
  readonly quantized: Model;
  readonly types: ValueTypes;
  readonly warnings: readonly string[];
}

/** The float network cleaned, both in one version of the standard's operators. */
export async function bringTogether(given: Model, other: Model, engine: Engine): Promise<Pair> {
  const { model: cleaned } = await cleanModel(writeOut(given), { engine });
  const quantized = writeOut(other);
  const target = Math.max(oldestTarget, opsetOf(cleaned), opsetOf(quantized));
  const raise = async (model: Model) =>
    opsetOf(model) >= target ? model : raiseOpset(model, target, await inferValueTypes(engine, model));
  const float = await raise(cleaned);
  const raised = await raise(quantized);
  const from = `from operator set ${opsetOf(quantized)} to ${target}`;
  const warnings = raised === quantized ? [] : [`the quantized model was raised ${from}, as the float model's is`];
  return { float, quantized: raised, types: await inferValueTypes(engine, float), warnings };
}

/** Layers inside functions are out of reach until their calls are written out. */
function writeOut(model: Model): Model {
  const withLayers = functionsWithLayers(model.functions);
  return inlineFunctions(model, (called) => withLayers.has(called)).model;
}

/** Two networks that are aligned, and the samples on which steps are fitted. */
export interface AlignedPair extends Pair {
  readonly engine: Engine;
  readonly samples: Samples;
  readonly aligned: Alignment;
  readonly layers: readonly SiteLayer[];
  readonly fitted: readonly number[];
  readonly batchSize: number;
}

export interface Walked {
  readonly model: Model;
  readonly blocks: number;
  readonly results: readonly StepResult[];
}

/**
 * Takes the quantized network through some steps.
 *
 * @param progress called with the share that is done, from 0 to 1
 */
export async function walkAligned(
  run: AlignedPair,
  rules: readonly StepRule[],
  progress: (done: number) => void,
): Promise<Walked> {
  const { engine, samples, float, types, aligned, fitted, batchSize } = run;
  const nodes = findLayers(float.graph, types).layers.map(({ node }) => node);
  const all = findLayerBlocks(float.graph, types, nodes);
  const fits = rules.some(({ use }) => use === rangesName);
  const grids = findGrids(aligned.model.graph, float.graph, aligned.values, estimatorOf(rules));
  const batches = () => inBatches(samples.read(fitted), batchSize);
  const inputs = fits ? await refitInputs(engine, float, aligned.model, grids.groups, batches()) : undefined;
  const current = inputs ? inputs.model : aligned.model;
  const blocks = alignBlocks(all, current.graph, aligned.values);
  const context = {
    float: float.graph,
    types,
    layers: run.layers,
    plans: [],
    current: current.graph,
    batches: Math.ceil(fitted.length / batchSize),
    keepsDoubtful: true,
  };
  const open = rules.map(({ use, ...options }) => {
    const step = use === rangesName ? rangesStep(grids, blocks) : stepNamed(use);
    return onAligned(step.open(context, options), run);
  });
  progress(0);
  const input = { engine, float, current, types, blocks, batches: { [Symbol.asyncIterator]: batches } };
  const walked = await walk(input, await surveySites(input, open), { onProgress: progress });
  const restored = withGraph(run.quantized, aligned.restore(walked.model.graph));
  const results = open.map(({ name, outcome }, i): StepResult => {
    const isRanges = name === rangesName;
    const left = grids.left.map(({ label, reason }) => ({ label, kind: "skipped", reason }) as const);
    const before = isRanges ? [...(inputs?.records ?? []), ...left] : [];
    return { name, outcome, sites: [...before, ...walked.records[i]] };
  });
  return { model: restored, blocks: blocks.length, results };
}

/** What `ranges` tries where it is not told: the smallest squared error, and everything that was seen. */
export const triedEstimators = ["mse", "minmax"] as const;

function estimatorOf(rules: readonly StepRule[]): string {
  const range = rules.find(({ use }) => use === rangesName)?.range;
  return typeof range === "string" ? range : triedEstimators[0];
}

/** A grid that fits nearly as well is left as another tool has chosen it. */
const leastGain = 0.1;

function rangesStep({ groups }: FoundGrids, blocks: readonly Block[]): AnyStep {
  const roundedFrom = ({ sources }: ForeignGroup, value: ValueName) => sources.get(value) ?? value;
  const onlyGrows = ({ isLast }: ForeignGroup) => isLast;
  return fitRanges(groups, blocks, { write: writeGrid, roundedFrom, leastGain, onlyGrows });
}

function stepNamed(name: string): AnyStep {
  const step = compensations.find((candidate) => candidate.name === name);
  if (step !== undefined) return step;
  throw new RecoupError("usage/argument", `is no step that compensates: ${stepNames.join(", ")}`, { field: name });
}

/** The steps that there are, in the order of help. */
export const stepNames: readonly string[] = [rangesName, ...compensations.map(({ name }) => name)];

/** What a step wants to look at or change has to be in both networks. */
function onAligned(step: OpenStep, run: AlignedPair): OpenStep {
  const { float, aligned } = run;
  const { graph } = aligned.model;
  const isThere = (value: ValueName) => {
    if (aligned.values.has(value)) return true;
    const isOfFloat = float.graph.producer(value) !== undefined;
    return !isOfFloat && (graph.producer(value) !== undefined || graph.isInput(value));
  };
  const missing = (site: OpenSite) =>
    [site.value, ...site.taps.filter(({ from }) => from === "current").map(({ value }) => value)].find(
      (value) => !isThere(value),
    );
  const found = step.sites.map((site) => ({ site, value: missing(site) }));
  const lost = found.flatMap(({ site, value }) =>
    value === undefined ? [] : [{ label: site.label, reason: `${value} was not found in the quantized model` }],
  );
  const { survey } = step;
  return {
    ...step,
    sites: found.flatMap(({ site, value }) => (value === undefined ? [site] : [])),
    unusable: [...step.unusable, ...lost],
    survey: survey && {
      sites: survey.sites.filter((site) => missing(site) === undefined),
      settle: () => onAligned(survey.settle(), run),
    },
  };
}

/** The layers of a float network, as steps see them. */
export function layersOf(float: Model, types: ValueTypes): readonly SiteLayer[] {
  return findLayers(float.graph, types).layers.map(({ node, outputAxis }) => ({
    label: labelOf(node),
    opType: node.opType,
    output: node.outputs[0],
    outputAxis,
  }));
}
