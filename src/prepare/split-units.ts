import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { intAttribute, withAttributes, withInputs, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { takeSlices } from "../tensor/take-slices.js";
import { int32Tensor, int64Tensor, type Tensor } from "../tensor/tensor.js";

/** Inputs of LSTM, GRU and RNN that have values for each hidden unit; an RNN and a GRU have no more than the first four. */
const places = { input: 1, recurrent: 2, bias: 3, initialHidden: 5, initialCell: 6, peepholes: 7 } as const;

/** Why the hidden units of a recurrent layer cannot be duplicated; undefined where they can. */
export function unitsObstacle(graph: Graph, node: Node): string | undefined {
  for (const [what, place] of [
    ["input weights", places.input],
    ["bias", places.bias],
    ["peepholes", places.peepholes],
  ] as const) {
    const value = node.inputs[place] ?? "";
    if (value === "") continue;
    if (graph.constant(value) === undefined) return `its ${what} are computed`;
    const isShared = graph.isOutput(value) || graph.consumers(value).some((reader) => reader !== node);
    if (isShared) return `something else reads its ${what} too`;
  }
  return undefined;
}

/**
 * Duplicates hidden units of a recurrent layer: a copy has the rows of its unit in all gates, so it follows the same
 * trajectory, and what the others read of it is divided by the split columns of the recurrent weight. The outputs keep
 * their size.
 *
 * @param recurrent the recurrent weight with its columns split, `[D, gates · H, H + k]`
 * @param units the hidden units with the copies behind them, `[H + k]`
 */
export function duplicateUnits(graph: Graph, node: Node, recurrent: Tensor, units: readonly number[]): GraphPatch {
  const writer = new PatchWriter(createNameSource(graph));
  const hidden = intAttribute(node, "hidden_size", recurrent.shape[1]);
  const put = (place: number, axis: number, tensor = graph.constant(node.inputs[place] ?? "")) => {
    if (tensor !== undefined) writer.initializers.set(node.inputs[place], takeUnits(tensor, axis, hidden, units));
  };
  put(places.input, 1);
  put(places.recurrent, 1, recurrent);
  put(places.bias, 1);
  put(places.peepholes, 1);
  const isState = (place: number) => place === places.initialHidden || place === places.initialCell;
  let list: ValueName | undefined;
  const inputs = node.inputs.map((input, place) => {
    if (!isState(place) || input === "") return input;
    list ??= writer.constant(`${node.inputs[places.recurrent]}_units`, int32Tensor([units.length], units));
    return writer.node("Gather", [input, list], `${input}_split`, { axis: -1 });
  });
  const limits = [0, hidden, -1].map((limit) =>
    writer.sharedConstant(`integer_${limit}`, () => int64Tensor([1], [limit])),
  );
  const outputs = node.outputs.map((output) => {
    if (output === "") return output;
    const whole = writer.names.fresh(`${output}_split`);
    writer.nodeTo(output, "Slice", [whole, ...limits]);
    return whole;
  });
  const grown = withAttributes(node, { hidden_size: units.length });
  writer.add(withOutputs(withInputs(grown, inputs), outputs));
  return writer.finish(`split units of ${node.inputs[places.recurrent]}`, { remove: [node] });
}

/** What the entries of an axis that holds something for each unit become, gate by gate. */
export function withCopies<Entry>(
  entries: readonly Entry[],
  hidden: number,
  units: readonly number[],
): readonly Entry[] {
  return Array.from({ length: entries.length / hidden }, (_, gate) =>
    units.map((unit) => entries[gate * hidden + unit]),
  ).flat();
}

/** The slices of a tensor along an axis that consists of runs of one slice per unit. */
function takeUnits(tensor: Tensor, axis: number, hidden: number, units: readonly number[]): Tensor {
  const size = tensor.shape[axis];
  const taken = withCopies(
    Array.from({ length: size }, (_, i) => i),
    hidden,
    units,
  );
  return takeSlices(tensor, axis, taken);
}
