import { findLayerBlocks } from "../src/blocks/layer-blocks.js";
import type { NamedFeeds } from "../src/engine/batch.js";
import type { Engine, Feeds } from "../src/engine/engine.js";
import { inferValueTypes } from "../src/engine/infer-types.js";
import { buildGraph } from "../src/graph/graph.js";
import { type Model, withGraph } from "../src/graph/model.js";
import { labelOf } from "../src/graph/node.js";
import { findLayers } from "../src/operators/index.js";
import type { AnyStep } from "../src/step/open-step.js";
import type { OptionValues } from "../src/step/options.js";
import type { StepContext } from "../src/step/step.js";
import { steps } from "../src/steps.js";
import { elementCount } from "../src/tensor/shape.js";
import { float32Values, floatTensor, type Tensor } from "../src/tensor/tensor.js";
import type { SiteRecord } from "../src/walk/solve-sites.js";
import { surveySites } from "../src/walk/survey.js";
import { type WalkInput, walk } from "../src/walk/walk.js";

/** Stands for a quantized network: every weight rounded to multiples of a unit, nothing else changed. */
export function roundWeights(model: Model, unit = 0.4): Model {
  const { graph } = model;
  const isWeight = ({ type, shape }: Tensor) => type.startsWith("float") && shape.length > 1 && elementCount(shape) > 4;
  const round = (tensor: Tensor) => {
    const values = float32Values(tensor).map((value) => unit * Math.round(value / unit));
    return floatTensor(tensor.type, tensor.shape, values);
  };
  const initializers = [...graph.initializers].map(
    ([name, tensor]) => [name, isWeight(tensor) ? round(tensor) : tensor] as const,
  );
  return withGraph(model, buildGraph({ ...graph, initializers: new Map(initializers) }));
}

/** What the walk and a step need to know of two networks. */
export async function prepareWalk(
  engine: Engine,
  float: Model,
  current: Model,
  samples: readonly Feeds[],
): Promise<{ readonly input: WalkInput; readonly context: StepContext }> {
  const { graph } = float;
  const types = await inferValueTypes(engine, float);
  const found = findLayers(graph, types).layers;
  const layers = found.map(({ node, outputAxis }) => ({
    label: labelOf(node),
    opType: node.opType,
    output: node.outputs[0],
    outputAxis,
  }));
  const blocks = findLayerBlocks(
    graph,
    types,
    found.map((layer) => layer.node),
  );
  const batches = samples.map((feeds, i): NamedFeeds => ({ id: `sample ${i}`, feeds }));
  const context = { float: graph, types, layers, plans: [], current: current.graph, batches: batches.length };
  return { input: { engine, float, current, types, blocks, batches }, context };
}

/** Takes a network and its rounded form through a step. */
export async function walkThrough(
  engine: Engine,
  float: Model,
  current: Model,
  samples: readonly Feeds[],
  step: AnyStep = stepNamed("bc"),
): Promise<{ readonly model: Model; readonly records: readonly SiteRecord[] }> {
  const { input, context } = await prepareWalk(engine, float, current, samples);
  const { model, records } = await walk(input, await surveySites(input, [step.open(context)]));
  return { model, records: records.flat() };
}

/** Bias compensation that takes every bias as it was measured: a few samples would leave some in doubt. */
export const unjudgedBias = withOptions("bc", { keep: "all" });

export function withOptions(name: string, options: OptionValues): AnyStep {
  const step = stepNamed(name);
  return { ...step, open: (context, given) => step.open(context, { ...options, ...given }) };
}

export function stepNamed(name: string): AnyStep {
  const step = steps.find((candidate) => candidate.name === name);
  if (!step) throw new Error(`there is no step ${name}`);
  return step;
}
