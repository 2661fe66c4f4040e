import { channelAxisOf } from "../blocks/channel-axis.js";
import { findSections, type Section } from "../blocks/sections.js";
import { type CorrectedBlock, columnsOf, type NextNorm, type RowForm } from "../calibrate/block-rows.js";
import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import { floatAttribute, intAttribute, intsAttribute, isOperator, onlyConsumer } from "../graph/node.js";
import { elementTypeOf, shapeOf } from "../graph/value-types.js";
import { limitsOf } from "../operators/limits.js";
import type { Site, StepContext, UnusableSite } from "../step/step.js";
import { type FloatType, isFloatType } from "../tensor/element-type.js";
import { elementCount, resolveAxis } from "../tensor/shape.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import type { BlockOptions } from "./block-options.js";
import type { BiasPlace } from "./fold-bias.js";
import { findHeadToken, type ReadToken } from "./head-token.js";
import { mapsForm } from "./maps-form.js";
import { bytesOfMatrix, type Storage } from "./stored-matrix.js";
import { Summands } from "./summands.js";

/** A block that a correction is fitted for. */
export interface BlockSite extends Site, CorrectedBlock {
  readonly elementType: FloatType;
  readonly ridge: number;
  readonly storage: Storage;
  readonly groups: number;
  /** The rank of the correction's matrix: what it can be, what it shall be, or none where not even one pays. */
  readonly rankWanted: "full" | number;
  /** Whether fewer may do. */
  readonly isRankFree: boolean;
  /** The bytes that all corrections may take, where blocks share them by what they gain and not in advance. */
  readonly sharedBytes?: number;
  /** The layer that a constant alone goes into: where it ends the block, or the branch of a residual connection. */
  readonly constantPlace: BiasPlace | undefined;
}

/** Of the float network's own output in the target: what served most networks best. */
const usualShare = 0.5;

type Description = (CorrectedBlock & Pick<BlockSite, "elementType" | "groups" | "constantPlace"> & Site) | UnusableSite;

/** The blocks of a network, each with the rank that its share of the budget allows. */
export function findBlockSites(context: StepContext, options: BlockOptions) {
  const { float, types, layers } = context;
  const nodes = layers.flatMap(({ output }) => float.producer(output) ?? []);
  const { sections, others } = findSections(float, types, nodes, options.blocks === "part" ? "part" : "block");
  const token = findHeadToken(float, types, sections);
  const summands = new Summands(context, nodes);
  const described = sections.map((section) => describe(context, section, options, token, summands));
  const blocks = described.filter((one) => "entry" in one);
  const full = blocks.map((block) => bytesOfRank(block, "full", storageOf(options)));
  const sum = full.reduce((total, bytes) => total + bytes, 0);
  const allowed = options.budget * weightBytes(context);
  // Where there is enough for all matrices or for none, nothing has to be chosen.
  const constants = blocks.reduce((total, block) => total + bytesOfRank(block, 0, storageOf(options)), 0);
  const isLimit = constants < allowed && allowed < sum;
  const isShared = options.rank === "auto" && (options.spend === "auto" ? isLimit : options.spend === "best");
  const usable = blocks.map((block, i): BlockSite => {
    const rank =
      options.rank === "auto" ? affordableRank(block, (allowed * full[i]) / sum, storageOf(options)) : options.rank;
    const most = Math.min(columnsOf(block), block.outputChannels);
    return {
      ...block,
      ridge: options.ridge,
      storage: storageOf(options),
      rankWanted: rank === "full" || rank >= most || block.groups > 1 ? "full" : rank,
      isRankFree: options.rank === "auto",
      sharedBytes: isShared ? allowed : undefined,
    };
  });
  const unusable = [...others, ...described.filter((one) => "reason" in one)];
  return { usable, unusable };
}

/** What the matrix and the constant of a correction take in a file. */
export function bytesOfRank(
  block: CorrectedBlock & { readonly groups: number },
  rank: number | "full",
  storage: Storage,
) {
  const { outputChannels } = block;
  const columns = columnsOf(block);
  if (rank === 0) return 4 * outputChannels;
  if (rank === "full") return bytesOfMatrix(outputChannels, columns / block.groups, storage) + 4 * outputChannels;
  return bytesOfMatrix(rank, columns, storage) + bytesOfMatrix(outputChannels, rank, storage) + 4 * outputChannels;
}

function affordableRank(block: CorrectedBlock & { readonly groups: number }, bytes: number, storage: Storage) {
  const full = bytesOfRank(block, "full", storage);
  if (full <= bytes || block.groups > 1) return full <= bytes ? "full" : 0;
  const [none, one] = [bytesOfRank(block, 0, storage), bytesOfRank(block, 1, storage)];
  const each = bytesOfRank(block, 2, storage) - one;
  const rank = Math.max(0, Math.floor((bytes - none) / Math.max(each, 1)));
  return bytesOfRank(block, rank, storage) >= full ? "full" : rank;
}

/** What the weights of the network take: those that get a format at its bits, the rest as they are stored. */
function weightBytes({ plans, current, float }: StepContext): number {
  const bits = new Map(plans.map(({ layer, weight }) => [layer.weight, weight.bits]));
  if (plans.length === 0) return [...current.initializers.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return [...float.initializers].reduce((sum, [name, tensor]) => {
    const own = bits.get(name);
    return sum + (own === undefined ? tensor.sizeBytes : (elementCount(tensor.shape) * own) / 8);
  }, 0);
}

function storageOf({ storage }: BlockOptions): Storage {
  return storage === "float16" || storage === "float32" ? storage : "int8";
}

function describe(
  { float, types, current }: StepContext,
  section: Section,
  options: BlockOptions,
  token: ReadToken | undefined,
  summands: Summands,
): Description {
  const { label, entry, exit, nodes, sides } = section;
  const [from, to] = [entry, exit].map((value) => shapeOf(types, value));
  const elementType = elementTypeOf(types, exit);
  const no = (reason: string) => ({ label, reason });
  if (from === undefined || to === undefined || elementType === undefined || !isFloatType(elementType)) {
    return no("the type or rank of its activations is unknown");
  }
  if (from.length !== to.length || from.length < 2) return no("its input and its output have different ranks");
  const rank = from.length;
  const axis = channelAxisOf(float, types, section) ?? rank - 1;
  if (axis !== 1 && axis !== rank - 1) return no(`its channels lie along axis ${axis}`);
  const isMaps = rank > 2 && axis === 1;
  const [inputChannels, outputChannels] = [from[axis], to[axis]];
  if (typeof inputChannels !== "number" || typeof outputChannels !== "number")
    return no("its channels are not counted");
  const groups = isMaps ? options.groups : 1;
  if (inputChannels % groups > 0 || outputChannels % groups > 0) {
    return no(`its ${inputChannels} and ${outputChannels} channels do not fall into ${groups} groups`);
  }
  const form = isMaps
    ? mapsForm(float, section, from.slice(2), to.slice(2), options.kernel)
    : vectorsForm(section, from, to);
  if ("reason" in form) return no(form.reason);
  const producer = float.producer(exit);
  const limits = options.relu && producer !== undefined ? limitsOf(float, producer) : undefined;
  const trajectoryShare = options.rho === "auto" ? usualShare : options.rho;
  const counted = !isMaps && token?.isAmong(exit) ? token : undefined;
  return {
    label,
    value: exit,
    input: readableForm(current, entry),
    entry,
    output: exit,
    rank,
    inputChannels,
    outputChannels,
    form,
    trajectoryShare,
    block: trajectoryShare < 1 ? { nodes, constants: constantsOf(float, nodes), sides } : undefined,
    limits,
    token: counted && { index: counted.index, weight: options.token === "auto" ? "root" : options.token },
    isLevelled: options.weights === "variance",
    norm: isMaps ? undefined : normBehind(float, exit, outputChannels, rank),
    elementType,
    groups,
    constantPlace: limits === undefined ? constantPlaceOf(exit, axis - rank, elementType, summands) : undefined,
  };
}

/** Behind an activation function a constant is no bias. @param axisFromEnd of the channels */
function constantPlaceOf(
  exit: ValueName,
  axisFromEnd: number,
  elementType: FloatType,
  summands: Summands,
): BiasPlace | undefined {
  const value = summands.of(exit);
  const layer = summands.layerOf(value);
  const isAlong = layer !== undefined && summands.axisOf(layer) === axisFromEnd;
  return isAlong ? { value, axisFromEnd, elementType } : undefined;
}

function vectorsForm(
  { nodes }: Section,
  from: readonly (number | string | null)[],
  to: readonly (number | string | null)[],
): RowForm | { readonly reason: string } {
  // Of an open length a stride of more than one may leave less.
  const isKept = nodes.every((node) => (intsAttribute(node, "strides") ?? []).every((stride) => stride === 1));
  const isSame = from.slice(1, -1).every((size, i) => {
    const isKnown = size !== null && size === to[i + 1];
    return isKnown || (typeof size !== "number" && isKept);
  });
  return isSame ? { kind: "vectors" } : { reason: "its output has other tokens than its input" };
}

/** What a node can read of a value: where the runtime only has its codes, what they stand for. */
function readableForm(graph: Graph, value: ValueName): ValueName {
  const readers = graph.consumers(value);
  if (readers.length !== 1 || !isOperator(readers[0], "QuantizeLinear")) return value;
  let codes = readers[0].outputs[0];
  for (let next = onlyConsumer(graph, codes); isOperator(next, "Clip"); next = onlyConsumer(graph, codes)) {
    codes = next.outputs[0];
  }
  const dequantize = graph.consumers(codes).find((node) => isOperator(node, "DequantizeLinear"));
  return dequantize?.outputs[0] ?? value;
}

function constantsOf(graph: Graph, nodes: readonly Node[]): ReadonlyMap<ValueName, Tensor> {
  const constants = new Map<ValueName, Tensor>();
  for (const name of nodes.flatMap((node) => [...readsOf(node)])) {
    const tensor = graph.initializers.get(name);
    if (tensor !== undefined) constants.set(name, tensor);
  }
  return constants;
}

/** The normalization that reads a value. @param rank of the value */
function normBehind(graph: Graph, value: ValueName, channels: number, rank: number): NextNorm | undefined {
  const readers = graph.consumers(value);
  const whole = readers.find(
    (node) => isOperator(node, "LayerNormalization", "RMSNormalization") && intAttribute(node, "axis", -1) !== 1,
  );
  const flat = new Float32Array(channels).fill(1);
  if (whole !== undefined) {
    const gain = graph.constant(whole.inputs[1]);
    const isWhole = gain !== undefined && elementCount(gain.shape) === channels;
    return {
      isCentred: whole.opType === "LayerNormalization",
      gain: isWhole ? float32Values(gain) : flat,
      epsilon: floatAttribute(whole, "epsilon", 1e-5),
    };
  }
  const isMean = (node: Node | undefined) => node !== undefined && isMeanOfChannels(graph, node, rank);
  if (readers.some(isMean)) return { isCentred: true, gain: flat, epsilon: 1e-5 };
  const squares = readers.filter((node) => isOperator(node, "Pow", "Mul"));
  const isMeaned = squares.some(({ outputs }) => isMean(onlyConsumer(graph, outputs[0])));
  return isMeaned ? { isCentred: false, gain: flat, epsilon: 1e-5 } : undefined;
}

/** A mean over tokens is a pooling. */
function isMeanOfChannels(graph: Graph, node: Node, rank: number): boolean {
  if (!isOperator(node, "ReduceMean")) return false;
  const given = graph.constant(node.inputs[1] ?? "");
  const axes = given === undefined ? intsAttribute(node, "axes") : integerValues(given);
  return axes?.length === 1 && resolveAxis(axes[0], rank) === rank - 1;
}
