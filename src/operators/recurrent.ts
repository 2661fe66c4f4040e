import type { Layer, LayerFamily } from "./layer.js";
import { findWeight } from "./weight.js";

/** `LSTM`, `GRU`, `RNN`: weights W `[D, G·H, I]` and R `[D, G·H, H]`; both directions share a scale per row. */
export const recurrent: LayerFamily = {
  opTypes: ["LSTM", "GRU", "RNN"],
  describe(node, graph) {
    const floatReason = `onnxruntime has no integer kernel for ${node.opType} that reads quantized weights`;
    return [1, 2].flatMap((weightInput): Layer[] => {
      const found = findWeight(graph, node, weightInput);
      if (!found || found.transpose) return [];
      return [{ node, ...found, channelAxis: 1, outputAxis: -1, data: node.inputs[0], floatReason }];
    });
  },
};
