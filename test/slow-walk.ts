import { addToBias, biasedOutput, biasObstacle } from "../src/compensate/fold-bias.js";
import { type Engine, type Feeds, withSession } from "../src/engine/engine.js";
import { inferValueTypes } from "../src/engine/infer-types.js";
import type { Graph, ValueName } from "../src/graph/graph.js";
import { type Model, withGraph } from "../src/graph/model.js";
import { isOperator, onlyConsumer } from "../src/graph/node.js";
import { applyPatch } from "../src/graph/patch.js";
import { shapeOf } from "../src/graph/value-types.js";
import { findLayers } from "../src/operators/index.js";
import { float64Values } from "../src/tensor/tensor.js";

/** Per channel the outputs of a layer in both networks, over all samples. */
export interface ChannelOutputs {
  readonly float: number[];
  readonly current: number[];
}

/** What stays of a number behind the activation function. */
export type Activation = (value: number) => number;

/**
 * Bias compensation as a person would do it by hand: for each layer in order, both networks run from end to end on every
 * sample, and each channel is fitted in plain numbers. No blocks, no statistics, nothing held.
 */
export async function compensateSlowly(
  engine: Engine,
  float: Model,
  current: Model,
  samples: readonly Feeds[],
): Promise<Model> {
  const types = await inferValueTypes(engine, float);
  let model = current;
  for (const { node, outputAxis } of findLayers(float.graph, types).layers) {
    const rank = shapeOf(types, node.outputs[0])?.length ?? 0;
    const axisFromEnd = outputAxis < 0 ? outputAxis : outputAxis - rank;
    const value = biasedOutput(float.graph, types, node.outputs[0], axisFromEnd);
    if (biasObstacle(node) !== undefined) continue;
    const channels = await fetchChannels(engine, float, model, value, samples, axisFromEnd);
    const activation = activationBehind(float.graph, value);
    const change = Float64Array.from(channels, (channel) => fitBias(channel, activation));
    const patch = addToBias(model.graph, { value, axisFromEnd, elementType: "float32" }, change);
    model = withGraph(model, applyPatch(model.graph, patch));
  }
  return model;
}

/** Mean squared error of a channel behind the activation function, with a bias added to the current network. */
export function errorWith({ float, current }: ChannelOutputs, bias: number, activation: Activation = (v) => v): number {
  const squares = float.map((value, i) => (activation(value) - activation(current[i] + bias)) ** 2);
  return squares.reduce((sum, square) => sum + square, 0) / squares.length;
}

export async function fetchChannels(
  engine: Engine,
  float: Model,
  current: Model,
  value: ValueName,
  samples: readonly Feeds[],
  axisFromEnd: number,
): Promise<readonly ChannelOutputs[]> {
  const channels: ChannelOutputs[] = [];
  for (const [side, model] of [
    ["float", float],
    ["current", current],
  ] as const) {
    await withSession(engine, model, { taps: [value] }, async (session) => {
      for (const feeds of samples) {
        const tensor = (await session.run(feeds, [value])).outputs.get(value);
        if (!tensor) throw new Error(`${value} was not returned`);
        const size = tensor.shape.at(axisFromEnd) ?? 1;
        const inner = tensor.shape.slice(tensor.shape.length + axisFromEnd + 1).reduce((a, b) => a * b, 1);
        float64Values(tensor).forEach((element, i) => {
          const channel = Math.floor(i / inner) % size;
          channels[channel] ??= { float: [], current: [] };
          channels[channel][side].push(element);
        });
      }
    });
  }
  return channels;
}

/** The mean error; behind an activation function four guesses, of which the best one counts. */
function fitBias(channel: ChannelOutputs, activation: Activation | undefined): number {
  const mean = channel.float.reduce((sum, value, i) => sum + value - channel.current[i], 0) / channel.float.length;
  if (activation === undefined) return mean;
  const guesses = [0, mean];
  for (let round = 0; round < 2; round++) {
    const bias = guesses[guesses.length - 1];
    let sum = 0;
    let count = 0;
    channel.float.forEach((value, i) => {
      const output = channel.current[i] + bias;
      if (activation(output) !== output) return;
      sum += activation(value) - output;
      count++;
    });
    guesses.push(bias + (count === 0 ? 0 : sum / count));
  }
  const errors = guesses.map((bias) => errorWith(channel, bias, activation));
  return guesses[errors.indexOf(Math.min(...errors))];
}

export function activationBehind(graph: Graph, value: ValueName): Activation | undefined {
  const node = onlyConsumer(graph, value);
  if (node === undefined) return undefined;
  if (isOperator(node, "Relu")) return (element) => Math.max(element, 0);
  if (!isOperator(node, "Clip")) return undefined;
  const limit = (input: ValueName | undefined, otherwise: number) => {
    const tensor = input ? graph.constant(input) : undefined;
    return tensor ? float64Values(tensor)[0] : otherwise;
  };
  const low = limit(node.inputs[1], Number.NEGATIVE_INFINITY);
  const high = limit(node.inputs[2], Number.POSITIVE_INFINITY);
  return (element) => Math.min(Math.max(element, low), high);
}
