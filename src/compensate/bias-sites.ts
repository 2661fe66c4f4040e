import { type Branch, findBranches } from "../blocks/branches.js";
import { channelAxisOf } from "../blocks/channel-axis.js";
import { findSections, type Section } from "../blocks/sections.js";
import type { OutputSite } from "../calibrate/output-error.js";
import type { FedPart } from "../calibrate/output-pair.js";
import { partBetween } from "../graph/extract.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { onlyConsumer } from "../graph/node.js";
import { elementTypeOf, shapeOf } from "../graph/value-types.js";
import { type Limits, limitsOf } from "../operators/limits.js";
import type { OptionsOf } from "../step/options.js";
import type { Site, SiteLayer, StepContext, UnusableSite } from "../step/step.js";
import { isFloatType } from "../tensor/element-type.js";
import { type BiasPlace, biasedOutput, biasObstacle } from "./fold-bias.js";
import { findHeadToken, type ReadToken } from "./head-token.js";
import { findLogits, wayToLayer } from "./logits.js";
import { Summands } from "./summands.js";

export const biasOptions = {
  bias: {
    kind: "choice",
    help: "what has a constant of its own: each channel, or each position of it (as many numbers as a sample's output)",
    default: "channel",
    choices: ["channel", "position"],
  },
  places: {
    kind: "choice",
    help: "what gets a bias: layers, attentions, perceptrons of transformers, blocks, outputs of the network; or all of these in turn",
    default: "layers",
    choices: ["layers", "attention", "mlp", "blocks", "output", "all"],
  },
  inputs: {
    kind: "choice",
    help: "what a place reads when its error is measured: the quantized network's activations, or the float network's",
    default: "quantized",
    choices: ["quantized", "float"],
  },
  target: {
    kind: "choice",
    help: "what it should give: what the float network does, or what the float form of the place makes of the same input",
    default: "trajectory",
    choices: ["trajectory", "local"],
  },
  token: {
    kind: "number",
    help: "how much the token that the head reads counts in the mean; auto is as much as all others together",
    default: "auto",
    least: 1,
    most: 1e6,
    words: ["auto"],
  },
  keep: {
    kind: "choice",
    help: "auto keeps a bias where it holds on samples that it was not fitted on; all, as published, keeps each as it was measured",
    default: "auto",
    choices: ["auto", "all"],
  },
} as const;

export type BiasOptions = OptionsOf<typeof biasOptions>;

/** A place that gets a bias. */
export interface BiasSite extends Site, OutputSite {
  /** Where the bias goes: to the value itself, or back to the layer whose output is a summand of it. */
  readonly place: BiasPlace;
  /** Anywhere else a bias has to be worth more on runs that it was not fitted on, and without such runs there is none. */
  readonly isLayer: boolean;
  /** Whether a bias has to hold on runs that it was not fitted on. */
  readonly isJudged: boolean;
  /** Of a part of the current network that reads what the float network computes; `withPart` finds the rest of it. */
  readonly isolated?: Pick<FedPart, "entry" | "sides">;
}

type Kind = Exclude<BiasOptions["places"], "all">;

/** A place as the structure of the network has it. */
interface Found {
  readonly label: string;
  readonly output: ValueName;
  /** Of the channels, counted from the end. */
  readonly axisFromEnd: number;
  readonly limits?: Limits;
  /** Where the constant goes. */
  readonly value: ValueName;
  /** What enters the place; what the network is fed is the same in both networks. Nothing where more than one activation does. */
  readonly from?: Pick<Section, "entry" | "sides"> | "fed";
  readonly isLayer: boolean;
}

/** The places of a network that a bias can be fitted for, layers first. */
export function findBiasSites(context: StepContext, options: BiasOptions) {
  const kinds: readonly Kind[] =
    options.places === "all" ? ["layers", "attention", "mlp", "blocks", "output"] : [options.places as Kind];
  const network = new Places(context);
  const token = network.findToken();
  const described = kinds
    .flatMap((kind) => network.find(kind))
    .map((place) => ("reason" in place ? place : describeSite(context, place, token, options)));
  return {
    usable: described.filter((site): site is BiasSite => "place" in site),
    unusable: described.filter((site) => "reason" in site),
  };
}

/** A site with its part of the current network, as it is now. */
export function withPart(site: BiasSite, graph: Graph): BiasSite {
  const { isolated, output, label } = site;
  if (isolated === undefined) return site;
  const part = partBetween(graph, new Set([isolated.entry, ...isolated.sides]), output);
  if (part === undefined) throw new Error(`${label} no longer depends on ${isolated.entry} alone`);
  return { ...site, part: { of: "current", ...isolated, ...part } };
}

class Places {
  readonly #context: StepContext;
  readonly #nodes: readonly Node[];
  readonly #summands: Summands;
  #branches: readonly Branch[] | undefined;

  constructor(context: StepContext) {
    const { float, layers } = context;
    this.#context = context;
    this.#nodes = layers.flatMap(({ output }) => float.producer(output) ?? []);
    this.#summands = new Summands(context, this.#nodes);
  }

  find(kind: Kind): readonly (Found | UnusableSite)[] {
    const { float, types, layers } = this.#context;
    switch (kind) {
      case "layers":
        return layers.map((layer) => this.#ofLayer(layer));
      case "attention":
      case "mlp":
        this.#branches ??= findBranches(float, types, this.#nodes);
        return this.#branches
          .filter((branch) => branch.kind === kind)
          .map(({ label, entry, sides, output }) => this.#behind(`${kind} of ${label}`, output, { entry, sides }));
      case "blocks": {
        const { sections, others } = findSections(float, types, this.#nodes, "block");
        const found = sections.map((section) => {
          const { label, exit, entry, sides } = section;
          return this.#behind(`block of ${label}`, exit, { entry, sides }, channelAxisOf(float, types, section));
        });
        return [...found, ...others.map(({ label, reason }) => ({ label: `block of ${label}`, reason }))];
      }
      case "output":
        return float.outputs.map(({ name }) => this.#ofOutput(name));
    }
  }

  /** The token that the head reads, where it reads one. */
  findToken(): ReadToken | undefined {
    const { float, types, layers } = this.#context;
    const hasTokens = layers.some(({ output }) => shapeOf(types, output)?.length === 3);
    if (!hasTokens) return undefined;
    return findHeadToken(float, types, findSections(float, types, this.#nodes, "block").sections);
  }

  #ofLayer(layer: SiteLayer): Found | UnusableSite {
    const { float, types } = this.#context;
    const { label, output } = layer;
    const node = float.producer(output);
    const obstacle = node === undefined ? "its output was folded away" : biasObstacle(node);
    if (node === undefined || obstacle !== undefined) return { label, reason: obstacle ?? "" };
    const axisFromEnd = this.#summands.axisOf(layer);
    if (axisFromEnd === undefined) return { label, reason: "the type or rank of its output is unknown" };
    const value = biasedOutput(float, types, output, axisFromEnd);
    const read = node.inputs.filter((input) => input !== "" && float.constant(input) === undefined);
    const from = read.length === 1 ? { entry: read[0], sides: [] } : undefined;
    return { label, output: value, value, axisFromEnd, limits: this.#limitsBehind(value), from, isLayer: true };
  }

  /** A value that several layers may have a part in; before the Relu or Clip that ends it. The last axis unless told. */
  #behind(label: string, exit: ValueName, from: Found["from"], channelAxis?: number): Found | UnusableSite {
    const { float, types } = this.#context;
    const producer = float.producer(exit);
    const ending = producer === undefined ? undefined : limitsOf(float, producer);
    const output = ending === undefined || producer === undefined ? exit : producer.inputs[0];
    const rank = shapeOf(types, output)?.length;
    if (rank === undefined) return { label, reason: "the rank of its output is unknown" };
    const value = this.#summands.of(output);
    const layer = this.#summands.layerOf(value);
    const axisFromEnd = (layer && this.#summands.axisOf(layer)) ?? (channelAxis ?? rank - 1) - rank;
    return { label, output, value, axisFromEnd, limits: ending ?? this.#limitsBehind(output), from, isLayer: false };
  }

  #ofOutput(name: ValueName): Found | UnusableSite {
    const { float, types } = this.#context;
    const label = `output ${name}`;
    const logits = findLogits(float, types, name, true);
    if ("reason" in logits) return { label, reason: `it ${logits.reason}` };
    const { value, rank, classAxis } = logits;
    const last = wayToLayer(float, types, logits).at(-1);
    const isNear = last !== undefined && this.#summands.areNear(last.value, value);
    const axisFromEnd = classAxis - rank;
    const place = isNear && last.axisFromEnd === axisFromEnd ? last.value : value;
    return { label, output: value, value: place, axisFromEnd, from: "fed", isLayer: false };
  }

  /** Of the Relu or Clip that is the only reader of a value. */
  #limitsBehind(value: ValueName): Limits | undefined {
    const { float } = this.#context;
    const activation = onlyConsumer(float, value);
    return activation?.inputs[0] === value ? limitsOf(float, activation) : undefined;
  }
}

function describeSite(
  context: StepContext,
  found: Found,
  token: ReadToken | undefined,
  options: BiasOptions,
): BiasSite | UnusableSite {
  const { label, output, limits, axisFromEnd, isLayer } = found;
  const shape = shapeOf(context.types, output);
  const elementType = elementTypeOf(context.types, output);
  if (shape === undefined || elementType === undefined || !isFloatType(elementType)) {
    return { label, reason: "the type or rank of its output is unknown" };
  }
  const rank = shape.length;
  const channelAxis = rank + axisFromEnd;
  const fed = fedPart(context, found, options);
  if ("reason" in fed) return { label, ...fed };
  const place = { value: found.value, axisFromEnd, elementType };
  const counted = axisFromEnd === -1 && token?.isAmong(output) ? headToken(token, options) : {};
  const isJudged = options.keep === "auto" && !(isLayer && context.keepsDoubtful);
  const site = {
    label,
    value: output,
    output,
    limits,
    rank,
    channelAxis,
    place,
    isLayer,
    isJudged,
    ...counted,
    ...fed,
  };
  if (options.bias !== "position") return site;
  if (channelAxis === 0) return { label, reason: "its first axis holds channels, not samples" };
  const positions = shape.slice(1).filter((size) => typeof size === "number");
  if (positions.length < rank - 1) {
    return { label, reason: "the length of an axis of its output is not fixed: there is no bias per position" };
  }
  // Where there are no positions besides the channels, the layer's own bias will do.
  return positions.length === 1 ? site : { ...site, positions, place: { ...place, positions } };
}

/** Where every position has a constant of its own, none counts more than others. */
function headToken({ index }: ReadToken, { bias, token }: BiasOptions): Pick<OutputSite, "token"> {
  if (bias === "position" || token === 1) return {};
  return { token: { index, weight: token === "auto" ? "count" : token } };
}

/** What is fed the other network's activations: nothing where each network has its own. */
function fedPart(
  { float, current }: StepContext,
  { output, from }: Found,
  { inputs, target }: BiasOptions,
): Pick<BiasSite, "part" | "isolated"> | { readonly reason: string } {
  if (inputs === "quantized" && target === "trajectory") return {};
  if (from === "fed") return {};
  if (from === undefined) return { reason: "it reads more than one activation" };
  const graph = inputs === "float" ? current : float;
  const part = partBetween(graph, new Set([from.entry, ...from.sides]), output);
  if (part === undefined) return { reason: `it depends on more than ${from.entry}` };
  // The current network changes before the place has its turn.
  return inputs === "float" ? { isolated: from } : { part: { of: "float", ...from, ...part } };
}
