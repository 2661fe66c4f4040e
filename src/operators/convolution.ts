import type { Graph, Node } from "../graph/graph.js";
import { intAttribute, intsAttribute, stringAttribute } from "../graph/node.js";
import type { InputForm, LayerFamily } from "./layer.js";
import { findWeight } from "./weight.js";

/** `Conv`: weight `[O, I/groups, k…]`. */
export const convolution: LayerFamily = {
  opTypes: ["Conv"],
  describe(node, graph) {
    const found = findWeight(graph, node, 1);
    if (!found || found.transpose) return [];
    const floatReason = biasReason(node, graph);
    const inputForm = patchesOf(node, graph.constant(found.weight)?.shape.slice(2) ?? []);
    return [{ node, ...found, channelAxis: 0, outputAxis: 1, data: node.inputs[0], inputForm, floatReason }];
  },
};

/** `ConvTranspose`: weight `[I, O/groups, k…]`; channels of the same index in different groups share a scale. */
export const transposedConvolution: LayerFamily = {
  opTypes: ["ConvTranspose"],
  describe(node, graph) {
    const found = findWeight(graph, node, 1);
    if (!found || found.transpose) return [];
    const floatReason = "onnxruntime has no integer kernel for ConvTranspose";
    return [{ node, ...found, channelAxis: 1, outputAxis: 1, data: node.inputs[0], floatReason }];
  },
};

/** What each place of a convolution or a pooling looks at. */
export function patchesOf(node: Node, kernel: readonly number[]): Extract<InputForm, { kind: "patches" }> {
  const ones = kernel.map(() => 1);
  const automatic = stringAttribute(node, "auto_pad", "NOTSET");
  const isSame = automatic === "SAME_UPPER" || automatic === "SAME_LOWER";
  const none = [...kernel, ...kernel].map(() => 0);
  return {
    kind: "patches",
    groups: intAttribute(node, "group", 1),
    kernel,
    strides: intsAttribute(node, "strides") ?? ones,
    dilations: intsAttribute(node, "dilations") ?? ones,
    padding: isSame ? automatic : automatic === "VALID" ? none : (intsAttribute(node, "pads") ?? none),
  };
}

function biasReason(node: Node, graph: Graph): string | undefined {
  const bias = node.inputs[2] ?? "";
  const isFixed = bias === "" || graph.constant(bias) !== undefined;
  return isFixed ? undefined : "onnxruntime has no integer kernel for Conv with a bias that is computed";
}
