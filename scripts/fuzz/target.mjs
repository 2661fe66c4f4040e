/** What a model meets before the runtime does: reading, cleaning, planning, rounding, writing, and reading again. */
import { findLayerBlocks } from "../../dist/blocks/layer-blocks.js";
import { cleanModel } from "../../dist/clean/index.js";
import { inlineFunctions } from "../../dist/clean/inline-functions.js";
import { raiseOpset } from "../../dist/clean/opset/raise-opset.js";
import { RecoupError } from "../../dist/errors.js";
import { refuseNotANumber } from "../../dist/graph/not-a-number.js";
import { encodeModel, joinChunks, readModel } from "../../dist/onnx/model.js";
import { filesOfGraph } from "../../dist/onnx/references.js";
import { findLayers } from "../../dist/operators/index.js";
import { chooseLayers } from "../../dist/quantize/choose-layers.js";
import { lowerToIntegers } from "../../dist/quantize/lower.js";
import { activationSites, quantize } from "../../dist/quantize/quantize.js";

/** Files beside the model: there is one, of zeros, and it is not large. */
const external = {
  read(location, offset, sizeBytes, place) {
    if (offset + sizeBytes > 1e5) {
      throw new RecoupError("onnx/external-data", `${location} has no ${offset + sizeBytes} bytes`, { field: place });
    }
    return new Uint8Array(sizeBytes);
  },
};

/** There is no runtime: what depends on one is left as it is. */
const engine = {
  name: "none",
  async open() {
    throw new RecoupError("engine/refused", "there is no runtime");
  },
  async hold() {
    throw new RecoupError("engine/refused", "there is no runtime");
  },
  async release() {},
  async close() {},
};

const range = { low: -1, high: 1 };
const activation = { bits: 8, symmetric: false };
const weights = [
  { bits: 8, symmetric: true, granularity: { kind: "per-channel" }, range: "minmax" },
  { bits: 4, symmetric: false, granularity: { kind: "per-group", groupSize: 16 }, range: "minmax" },
];

/**
 * @param {Uint8Array} bytes
 * @returns {Promise<string>} how far the model came
 * @throws for whatever is no typed error
 */
export async function handle(bytes) {
  let stage = "read";
  try {
    const model = readModel(bytes, external);
    stage = "write";
    const written = joinChunks(encodeModel(model).chunks);
    // A model whose tensors stand in other files is written with them.
    if (Buffer.compare(written, bytes) !== 0 && filesOfGraph(model.graph).size === 0) {
      throw new Error("a model that nobody changed was written otherwise");
    }
    stage = "functions and clean";
    const flat = inlineFunctions(model, () => true).model;
    const cleaned = await cleanModel(flat, { engine });
    stage = "raise";
    const raised = raiseOpset(cleaned.model, 21);
    stage = "not a number";
    refuseNotANumber(raised.graph);
    stage = "plan";
    for (const [i, weight] of weights.entries()) await plan(raised, weight, i === 0 ? activation : "float");
    return "quantized";
  } catch (error) {
    // A stack that overflows is a defect, too: it is no typed error.
    if (!(error instanceof RecoupError) || error.code === "patch/invalid") throw error;
    return `${stage}: ${error.code}`;
  }
}

async function plan(model, weight, wished) {
  const types = typesOf(model.graph);
  const found = findLayers(model.graph, types);
  const choice = chooseLayers(model.graph, types, found, () => ({ kind: "quantize", weight, activation: wished }));
  findLayerBlocks(
    model.graph,
    types,
    choice.layers.map(({ layer }) => layer.node),
  );
  const sites = activationSites(model.graph, types, choice);
  const ranges = new Map(sites.map(({ value }) => [value, range]));
  const small = (await quantize(model, choice, sites, ranges, "packed")).model;
  const lowered = { ...small, graph: lowerToIntegers(small.graph, model.graph, types) };
  readModel(joinChunks(encodeModel(lowered).chunks), external);
}

/** As far as the file tells. */
function typesOf(graph) {
  const types = new Map([...graph.valueInfo].map(([name, value]) => [name, value.type]));
  for (const { name, type } of [...graph.inputs, ...graph.outputs]) types.set(name, type);
  for (const [name, tensor] of graph.initializers) {
    types.set(name, { kind: "tensor", elementType: tensor.type, shape: tensor.shape });
  }
  return types;
}
