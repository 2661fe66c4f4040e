import type { Dimension, Graph, Node, ValueName } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { hasOneResult, intAttribute, isOperator, labelOf } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { elementCount, resolveAxis } from "../tensor/shape.js";
import { int64Tensor, integerValues, type Tensor } from "../tensor/tensor.js";
import type { CleanPass, PassResult } from "./pass.js";
import { inferStaticTypes } from "./static-types.js";

/**
 * Sizes that follow from the model's inputs become constants: `Shape` and `Size` of values whose whole shape is fixed, and
 * a `Gather` or `Slice` that takes only fixed sizes out of a `Shape`. A size that depends on the input stays computed.
 */
export const foldShapes: CleanPass = {
  name: "fold-shapes",
  typesNeeded: (graph) => measuringNodes(graph).map((node) => node.inputs[0]),
  async run(model, context): Promise<PassResult> {
    const { graph } = model;
    const measuring = measuringNodes(graph);
    if (measuring.length === 0) return { model, changed: [], skipped: [] };
    const types = await inferStaticTypes(
      model,
      context,
      measuring.map((node) => node.inputs[0]),
    );
    const found = measuring.flatMap((node) => foldSizes(graph, node, types));
    const foldable = new Map(
      found
        .filter(({ node }) => hasOneResult(graph, node) && !graph.isOutput(node.outputs[0]))
        .map(({ node, tensor }) => [node, tensor] as const),
    );
    if (foldable.size === 0) return { model, changed: [], skipped: [] };
    const initializers = new Map([...foldable].map(([node, tensor]) => [node.outputs[0], tensor] as const));
    const patch = { label: foldShapes.name, remove: [...foldable.keys()], initializers };
    const changed = [...foldable.keys()].map(
      (node) => `${labelOf(node)}: ${node.opType} of a fixed shape was computed`,
    );
    return { model: withGraph(model, applyPatch(graph, patch)), changed, skipped: [] };
  },
};

function measuringNodes(graph: Graph): readonly Node[] {
  return graph.nodes.filter((node) => isOperator(node, "Shape", "Size"));
}

interface FoldedSize {
  readonly node: Node;
  readonly tensor: Tensor;
}

function foldSizes(graph: Graph, node: Node, types: ValueTypes): readonly FoldedSize[] {
  const shape = shapeOf(types, node.inputs[0]);
  if (shape === undefined) return [];
  if (node.opType === "Size") return isFixed(shape) ? [{ node, tensor: int64Tensor([], [elementCount(shape)]) }] : [];
  const end = resolveAxis(intAttribute(node, "end", shape.length), shape.length);
  const sizes = shape.slice(Math.max(0, resolveAxis(intAttribute(node, "start", 0), shape.length)), Math.max(0, end));
  if (isFixed(sizes)) return [{ node, tensor: int64Tensor([sizes.length], sizes) }];
  return graph.consumers(node.outputs[0]).flatMap((reader) => foldPicked(graph, reader, node.outputs[0], sizes));
}

/** A reader of a shape that takes some of its sizes. */
function foldPicked(graph: Graph, node: Node, shape: ValueName, sizes: readonly Dimension[]): readonly FoldedSize[] {
  if (node.inputs[0] !== shape) return [];
  const indices = isOperator(node, "Gather")
    ? integersOf(graph, node.inputs[1])
    : slicedIndices(graph, node, sizes.length);
  if (indices === undefined) return [];
  const picked = indices.map((index) => sizes[resolveAxis(index, sizes.length)]);
  if (!isFixed(picked)) return [];
  const resultShape = isOperator(node, "Gather") ? graph.constant(node.inputs[1])?.shape : [picked.length];
  return [{ node, tensor: int64Tensor(resultShape ?? [], picked) }];
}

/** Positions that a `Slice` in steps of 1 takes from a list of `count` entries; undefined where they are not constant. */
function slicedIndices(graph: Graph, node: Node, count: number): readonly number[] | undefined {
  // Older slices have attributes, which raising the operator set moves to inputs.
  if (!isOperator(node, "Slice") || node.inputs.length < 3) return undefined;
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((i) => integersOf(graph, node.inputs[i]));
  const isPlain = (i: number, values: readonly number[] | undefined, wanted: number) =>
    (node.inputs[i] ?? "") === "" || (values?.length === 1 && values[0] === wanted);
  if (starts?.length !== 1 || ends?.length !== 1 || !isPlain(4, steps, 1)) return undefined;
  if (!isPlain(3, axes, 0) && !isPlain(3, axes, -1)) return undefined;
  const place = (index: number) => Math.min(Math.max(resolveAxis(index, count), 0), count);
  const [start, end] = [place(starts[0]), place(ends[0])];
  return Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
}

function integersOf(graph: Graph, value: ValueName | undefined): readonly number[] | undefined {
  const tensor = value === undefined || value === "" ? undefined : graph.constant(value);
  return tensor === undefined ? undefined : integerValues(tensor);
}

function isFixed(sizes: readonly (Dimension | undefined)[]): sizes is readonly number[] {
  return sizes.every((size) => typeof size === "number");
}
