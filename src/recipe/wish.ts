import { type Graph, type Node, readsOf, subgraphsOf } from "../graph/graph.js";
import type { Layer } from "../operators/layer.js";
import type { LayerWish, WishFor } from "../quantize/choose-layers.js";
import type { Bits, Granularity } from "../quantize/format.js";
import type { Spacing } from "../quantize/spacing.js";
import { matchesNode } from "./match.js";
import type { FormatRule, Recipe } from "./recipe.js";

/**
 * What a recipe wishes for each layer.
 *
 * @param layers all that the network offers, in its order
 */
export function wishesOf(recipe: Recipe, layers: readonly Layer[]): WishFor {
  const edges = edgesOf(layers);
  return (node, weight) => {
    const skip = recipe.skip.find((pattern) => matchesNode([pattern], node, weight));
    if (skip !== undefined) return { kind: "skip", reason: `the recipe skips ${skip}` };
    const rule = recipe.formats.find((format) => matchesNode(format.match, node, weight));
    if (rule === undefined) return { kind: "skip", reason: "no format of the recipe matches" };
    return wishOf(recipe.edges !== undefined && edges.has(node) ? raiseBits(rule, recipe.edges) : rule);
  };
}

/** The first and the last layer that multiply something: published results leave them at 8 bits. */
function edgesOf(layers: readonly Layer[]): ReadonlySet<Node> {
  const nodes = layers.filter(({ inputForm }) => inputForm !== undefined).map(({ node }) => node);
  return new Set([nodes[0], nodes[nodes.length - 1]].filter((node) => node !== undefined));
}

/** Weights that get more bits than their rule says need no more than rounding to nearest. */
function raiseBits({ match, weight, activation }: FormatRule, least: Bits): FormatRule {
  return {
    match,
    weight: weight === "float" || weight.bits >= least ? weight : { ...weight, bits: least, rounding: { use: "rtn" } },
    activation: activation === "float" || activation.bits >= least ? activation : { ...activation, bits: least },
  };
}

/** The patterns of a recipe that nothing in a network goes by, bodies included: most likely mistyped. */
export function unmatchedPatterns(recipe: Recipe, graph: Graph): readonly string[] {
  const patterns = new Set([...recipe.formats.flatMap((format) => format.match), ...recipe.skip]);
  return [...patterns].filter((pattern) => !matchesGraph(pattern, graph));
}

function matchesGraph(pattern: string, graph: Graph): boolean {
  return graph.nodes.some((node) => {
    const weights = [...readsOf(node)].filter((value) => graph.initializers.has(value));
    const isNamed = [undefined, ...weights].some((weight) => matchesNode([pattern], node, weight));
    return isNamed || subgraphsOf(node).some((body) => matchesGraph(pattern, body));
  });
}

function wishOf({ weight, activation }: FormatRule): LayerWish {
  if (weight === "float") return { kind: "skip", reason: "the recipe leaves its weight in float" };
  return {
    kind: "quantize",
    weight: {
      bits: weight.bits,
      granularity: parseGranularity(weight.granularity),
      symmetric: weight.symmetric ?? weight.bits === 8,
      range: weight.range ?? (weight.bits === 8 ? "minmax" : "mse"),
      rounding: weight.rounding ?? { use: "rtn" },
    },
    activation:
      activation === "float"
        ? "float"
        : { ...activation, rangeFrom: rangeFromOf(activation), softmax: softmaxOf(activation) },
  };
}

/** Below 8 bits the error of earlier layers is a part of what a grid has to hold. */
function rangeFromOf({ bits, rangeFrom }: Exclude<FormatRule["activation"], "float">): "float" | "quantized" {
  return rangeFrom ?? (bits < 8 ? "quantized" : "float");
}

/** At 8 bits all levels that the integer kernels know are in use. */
function softmaxOf({ bits, softmax }: Exclude<FormatRule["activation"], "float">): Spacing {
  return softmax ?? (bits < 8 ? "log" : "uniform");
}

function parseGranularity(text: string): Granularity {
  if (text === "channel") return { kind: "per-channel" };
  if (text === "tensor") return { kind: "per-tensor" };
  return { kind: "per-group", groupSize: Number(text.slice("group:".length)) };
}
