import type { Graph, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, onlyConsumer, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { float32Tensor } from "../tensor/tensor.js";
import type { ClusterMap, ClusterScores } from "./cluster-affine.js";
import { addToBias, type BiasPlace } from "./fold-bias.js";
import type { Logits } from "./logits.js";

/** Logits, and the bias of a layer to which a constant for each class may be added instead. */
export interface ClusterPlace extends Logits {
  /** The way back from the logits to that layer, through what keeps constants as they are; the layer's output last. */
  readonly way: readonly BiasPlace[];
}

/**
 * Puts a map behind logits as ordinary operators: MatMul, Add and ArgMin find the cluster, Gather its lines, Mul and Add
 * apply them. Without slopes there is no Mul, with one cluster there are only Mul and Add, and a constant goes into the bias
 * of the layer where it can. Everything is computed in float32, whatever type the logits have.
 */
export function writeClusterMap(graph: Graph, place: ClusterPlace, map: ClusterMap): GraphPatch {
  const { slopes, offsets, scores } = map;
  if (scores === undefined && slopes === undefined) return addToBias(graph, biasPlace(graph, place), offsets);
  const { value, elementType, rank, classAxis, classes, isPerSample } = place;
  const node = graph.producer(value);
  if (!node) throw new Error(`${value} is computed by no node`);
  const writer = new PatchWriter(createNameSource(graph));
  const raw = writer.names.fresh(`${value}_uncompensated`);
  writer.add(
    withOutputs(
      node,
      node.outputs.map((output) => (output === value ? raw : output)),
    ),
  );
  const isSingle = elementType === "float32";
  const single = { to: elementCodeOf("float32") };
  const logits = isSingle ? raw : writer.node("Cast", [raw], `${raw}_float32`, single);
  const index = scores && writeCluster(writer, place, scores, logits);
  const classShape = Array.from({ length: rank - classAxis }, (_, i) => (i === 0 ? classes : 1));
  const lines = (name: string, values: Float64Array): ValueName => {
    const clusters = values.length / classes;
    if (index === undefined) return writer.constant(`${value}_${name}`, float32Tensor(classShape, values));
    // The axes of one element between the samples and the classes.
    const between = isPerSample ? new Array<number>(classAxis - 1).fill(1) : [];
    const table = float32Tensor([clusters, ...between, ...classShape], values);
    const constant = writer.constant(`${value}_cluster_${name}`, table);
    return writer.node("Gather", [constant, index], `${value}_${name}`, { axis: 0 });
  };
  const turned =
    slopes === undefined ? logits : writer.node("Mul", [logits, lines("slopes", slopes)], `${value}_turned`);
  const summands = [turned, lines("offsets", offsets)];
  if (isSingle) writer.nodeTo(value, "Add", summands);
  else {
    const moved = writer.node("Add", summands, `${value}_moved`);
    writer.nodeTo(value, "Cast", [moved], { to: elementCodeOf(elementType) });
  }
  return writer.finish(`compensate ${value} by clusters`, { remove: [node] });
}

/** The cluster of each row: `[N]`, or the shape of the logits without the last axis. */
function writeCluster(writer: PatchWriter, place: ClusterPlace, scores: ClusterScores, logits: ValueName): ValueName {
  const { value, rank, classes } = place;
  const clusters = scores.bias.length;
  const weight = writer.constant(`${value}_cluster_weight`, float32Tensor([classes, clusters], scores.weight));
  const bias = writer.constant(`${value}_cluster_bias`, float32Tensor([clusters], scores.bias));
  const isFlat = rank === 2 || !place.isPerSample;
  const rows = isFlat ? logits : writer.node("Flatten", [logits], `${value}_rows`, { axis: 1 });
  const product = writer.node("MatMul", [rows, weight], `${value}_cluster_products`);
  const sum = writer.node("Add", [product, bias], `${value}_cluster_scores`);
  return writer.node("ArgMin", [sum], `${value}_cluster`, { axis: -1, keepdims: 0 });
}

/** Where a constant for each class is added: the farthest on the way back that can take it into its bias. */
function biasPlace(graph: Graph, { value, rank, classAxis, elementType, way }: ClusterPlace): BiasPlace {
  const places = [{ value, axisFromEnd: classAxis - rank, elementType }, ...way];
  // In the network that is compensated, a grid may lie between them.
  const reached = places.findIndex(
    ({ value: from }, i) =>
      i === places.length - 1 ||
      graph.producer(from)?.inputs[0] !== places[i + 1].value ||
      onlyConsumer(graph, places[i + 1].value) !== graph.producer(from),
  );
  const isLayer = isOperator(graph.producer(places[reached].value), "Conv", "ConvTranspose", "Gemm", "Add");
  return places[isLayer ? reached : 0];
}
