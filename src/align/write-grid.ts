import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { roundHalfEven } from "../math/round.js";
import type { ActivationGrid } from "../quantize/grid.js";
import {
  float32Values,
  floatTensor,
  int8Tensor,
  int32Tensor,
  integerValues,
  type Tensor,
  uint8Tensor,
} from "../tensor/tensor.js";
import type { ForeignGroup } from "./find-grids.js";

/** An int8 code is the unsigned one less this. */
const signedOffset = 128;

/**
 * Writes another grid for a group of activations, and the int32 biases of the layers that read them: their unit is the
 * product of the scales of input and weight.
 */
export function writeGrid(
  graph: Graph,
  group: ForeignGroup,
  grid: ActivationGrid,
): Pick<GraphPatch, "remove" | "add" | "initializers"> {
  const initializers = new Map<ValueName, Tensor>();
  const before = float32Values(graph.constant(group.scales[0]) as Tensor)[0];
  for (const name of group.scales) {
    const { type, shape } = graph.constant(name) as Tensor;
    initializers.set(name, floatTensor(type, shape, [grid.scale]));
  }
  for (const name of group.zeroPoints) {
    const { type, shape } = graph.constant(name) as Tensor;
    const isSigned = type === "int8";
    initializers.set(
      name,
      isSigned ? int8Tensor(shape, [grid.zeroPoint - signedOffset]) : uint8Tensor(shape, [grid.zeroPoint]),
    );
  }
  const names = createNameSource(graph);
  const remove: Node[] = [];
  const add: Node[] = [];
  for (const dequantize of biasesBehind(graph, group)) {
    const [codesName, unitName] = dequantize.inputs;
    const [codes, unit] = [graph.constant(codesName), graph.constant(unitName)];
    if (codes?.type !== "int32" || unit === undefined) continue;
    const factor = grid.scale / before;
    const changedUnit = floatTensor(
      unit.type,
      unit.shape,
      float32Values(unit).map((value) => value * factor),
    );
    const changedCodes = int32Tensor(
      codes.shape,
      integerValues(codes).map((code) => roundHalfEven(code / factor)),
    );
    const isOwn = graph.consumers(codesName).length === 1 && graph.consumers(unitName).length === 1;
    const [toCodes, toUnit] = isOwn
      ? [codesName, unitName]
      : [names.fresh(`${codesName}_refit`), names.fresh(`${unitName}_refit`)];
    initializers.set(toCodes, changedCodes);
    initializers.set(toUnit, changedUnit);
    if (isOwn) continue;
    remove.push(dequantize);
    add.push(withInputs(dequantize, [toCodes, toUnit, ...dequantize.inputs.slice(2)]));
  }
  return { remove, add, initializers };
}

/** The nodes that dequantize the biases of layers that read codes of the group. */
function biasesBehind(graph: Graph, { codes }: ForeignGroup): readonly Node[] {
  const values = codes.flatMap((value) =>
    graph.consumers(value).flatMap((reader) => (isOperator(reader, "DequantizeLinear") ? reader.outputs : [])),
  );
  const layers = values.flatMap((value) =>
    graph.consumers(value).filter((reader) => isOperator(reader, "Conv", "Gemm") && reader.inputs[0] === value),
  );
  const found = layers.flatMap((layer) => {
    const producer = graph.producer(layer.inputs[2] ?? "");
    return isOperator(producer, "DequantizeLinear") ? [producer] : [];
  });
  return [...new Set(found)];
}
