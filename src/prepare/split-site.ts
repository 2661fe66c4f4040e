import type { Graph, ValueName } from "../graph/graph.js";
import { intAttribute, isOperator, labelOf } from "../graph/node.js";
import { valuesBehind } from "../graph/values-behind.js";
import { groupBy } from "../math/group-by.js";
import type { Layer } from "../operators/layer.js";
import { sourceAxis } from "../operators/weight.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import type { WeightFormat } from "../quantize/format.js";
import type { UnusableSite } from "../step/step.js";
import type { Tensor } from "../tensor/tensor.js";
import { unitsObstacle } from "./split-units.js";
import type { WeightLayout } from "./weight-columns.js";

/** A weight whose input channels can be split, and everything that multiplies it. */
export interface SplittableWeight {
  readonly label: string;
  readonly weight: ValueName;
  readonly tensor: Tensor;
  readonly format: WeightFormat;
  readonly layout: WeightLayout;
  readonly readers: readonly SplitReader[];
  /** The recurrent weight of an LSTM, GRU or RNN: its input channels are the layer's own hidden units. */
  readonly isRecurrent: boolean;
  /** The other weight of such a layer, which has rows for the same units. */
  readonly inputWeight?: ValueName;
}

/** A node that multiplies the weight with an activation. */
export interface SplitReader {
  /** Names the node in a network whose nodes were replaced. */
  readonly output: ValueName;
  readonly dataInput: number;
  readonly data: ValueName;
  /** Axis of the activation along which the channels lie; counted from the end where negative. */
  readonly dataAxis: number;
}

const recurrentOperators = ["LSTM", "GRU", "RNN"] as const;

/** What there is to split, and for every other layer the reason why not. */
export function splittableWeights(
  graph: Graph,
  plans: readonly LayerPlan[],
  withFirst: boolean,
): { readonly usable: readonly SplittableWeight[]; readonly unusable: readonly UnusableSite[] } {
  const usable: SplittableWeight[] = [];
  const unusable: UnusableSite[] = [];
  const behindLayers = valuesBehind(
    graph.nodes,
    plans.flatMap(({ layer }) => layer.node.outputs),
  );
  for (const sharers of groupBy(plans, ({ layer }) => layer.weight).values()) {
    const described = describe(graph, sharers);
    const label =
      sharers.length === 1
        ? labelOfWeight(sharers[0].layer)
        : sharers.map(({ layer }) => labelOfWeight(layer)).join(", ");
    if ("reason" in described) unusable.push({ label, reason: described.reason });
    else if (!withFirst && !described.isRecurrent && !described.readers.some(({ data }) => behindLayers.has(data))) {
      unusable.push({ label, reason: "it reads the network's input: splitting is left to the other layers" });
    } else usable.push({ ...described, label });
  }
  return { usable, unusable };
}

function labelOfWeight({ node, weightInput }: Layer): string {
  if (!isOperator(node, ...recurrentOperators)) return labelOf(node);
  return `${labelOf(node)}, ${weightInput === 1 ? "input" : "recurrent"} weights`;
}

type Described = Omit<SplittableWeight, "label"> | { readonly reason: string };

function describe(graph: Graph, sharers: readonly LayerPlan[]): Described {
  const [{ layer, weight: format }] = sharers;
  const tensor = graph.constant(layer.weight);
  if (tensor === undefined) return { reason: "its weight can be overridden by the caller" };
  if (format.granularity.kind === "per-group") {
    return { reason: "groups of columns have scales of their own, which keep outlier channels apart already" };
  }
  const layouts = sharers.map((plan) => layoutOf(plan.layer, tensor, graph));
  const readers: SplitReader[] = [];
  for (const found of layouts) {
    if ("reason" in found) return found;
    readers.push(found.reader);
  }
  const [first] = layouts as readonly Found[];
  if ((layouts as readonly Found[]).some(({ layout }) => JSON.stringify(layout) !== JSON.stringify(first.layout))) {
    return { reason: "layers that share its weight multiply it along different axes" };
  }
  const nodes = new Set(sharers.flatMap(({ layer: own }) => [own.node, ...(own.transpose ? [own.transpose] : [])]));
  const values = [layer.weight, ...sharers.flatMap(({ layer: own }) => own.transpose?.outputs ?? [])];
  const others = values.some(
    (value) => graph.isOutput(value) || graph.consumers(value).some((node) => !nodes.has(node)),
  );
  if (others) return { reason: `something else reads ${layer.weight} too` };
  const isRecurrent = isOperator(layer.node, ...recurrentOperators) && layer.weightInput === 2;
  const inputWeight = isRecurrent ? layer.node.inputs[1] : undefined;
  if (isRecurrent) {
    const obstacle =
      sharers.length > 1 ? "several layers share its recurrent weights" : unitsObstacle(graph, layer.node);
    if (obstacle !== undefined) return { reason: `its hidden units cannot be duplicated: ${obstacle}` };
  }
  return { weight: layer.weight, tensor, format, layout: first.layout, readers, isRecurrent, inputWeight };
}

interface Found {
  readonly layout: WeightLayout;
  readonly reader: SplitReader;
}

function layoutOf(layer: Layer, tensor: Tensor, graph: Graph): Found | { readonly reason: string } {
  const { node, data } = layer;
  const output = node.outputs.find((name) => name !== "");
  if (data === undefined || output === undefined)
    return { reason: "a table that is looked up in has no input channels" };
  const found = (inputAxis: number, dataInput: number, dataAxis: number, groups = 1): Found => ({
    layout: { rowAxis: layer.channelAxis, inputAxis, groups },
    reader: { output, dataInput, data, dataAxis },
  });
  if (isOperator(node, "Conv")) {
    const groups = intAttribute(node, "group", 1);
    if (groups > 1 && tensor.shape[1] === 1) {
      return {
        reason: "a depthwise convolution: each channel has a kernel of its own, and nothing adds up over channels",
      };
    }
    return found(1, 0, 1, groups);
  }
  if (isOperator(node, "ConvTranspose")) {
    const groups = intAttribute(node, "group", 1);
    return groups === 1 ? found(0, 0, 1) : { reason: "transposed convolutions in groups are not split" };
  }
  if (isOperator(node, ...recurrentOperators)) return found(2, 0, -1);
  const isRight = layer.weightInput === 1;
  const rank = tensor.shape.length;
  const inner = isOperator(node, "Gemm")
    ? 1 - layer.channelAxis
    : sourceAxis(graph, layer, isRight ? rank - 2 : rank - 1);
  // A vector on the right of a MatMul has one axis, and leaves its result with one.
  if (isOperator(node, "MatMul")) return found(inner, isRight ? 0 : 1, isRight ? -1 : layer.outputAxis);
  const isTransposed = intAttribute(node, isRight ? "transA" : "transB", 0) === 1;
  return found(inner, isRight ? 0 : 1, isRight === isTransposed ? -2 : -1);
}
