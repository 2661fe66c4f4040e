import { buildGraph } from "../../../dist/graph/graph.js";
import { makeModel } from "../../../dist/graph/model.js";
import { Tape } from "./tape.mjs";

const versions = { irVersion: 8, opsets: new Map([["", 17]]) };
const pixelsInput = floatValue("pixel_values", ["batch", 1, 28, 28]);
const logitsOutput = floatValue("logits", ["batch", 10]);

/** The network as it is shipped: parameters inside, running statistics in its batch normalizations. */
export function makeInferenceModel(network, parameters) {
  const tape = new Tape(pixelsInput.name, parameters, false);
  const logits = network.build(tape, pixelsInput.name);
  const graph = buildGraph({
    name: "main_graph",
    inputs: [pixelsInput],
    outputs: [logitsOutput],
    nodes: renameOutput(tape.nodes, logits, logitsOutput.name),
    initializers: parameters.tensors(),
    valueInfo: new Map(),
  });
  return makeModel(graph, versions);
}

/**
 * The network with loss and gradients: reads pixels, the wanted probabilities `target` `[batch, 10]`, and the trained
 * parameters; returns `logits`, `loss`, and what `gradients` and `statistics` name for the parameters.
 */
export function makeTrainingModel(network, parameters, batchSize) {
  const tape = new Tape(pixelsInput.name, parameters, true);
  const logits = network.build(tape, pixelsInput.name);
  const loss = crossEntropy(tape, logits, "target", batchSize);
  tape.goBack();
  const gradients = new Map(parameters.trained.map(([name]) => [name, tape.gradientOf(name)]));
  const statistics = new Map(tape.statistics.map(({ parameter, value }) => [parameter, value]));
  const outputs = [logits, loss, ...gradients.values(), ...statistics.values()];
  const graph = buildGraph({
    name: "training",
    inputs: [
      pixelsInput,
      floatValue("target", ["batch", 10]),
      ...parameters.trained.map(([name, { shape }]) => floatValue(name, shape)),
    ],
    outputs: outputs.map((name) => floatValue(name)),
    nodes: tape.nodes,
    initializers: new Map(),
    valueInfo: new Map(),
  });
  return { model: makeModel(graph, versions), logits, loss, gradients, statistics };
}

/** Mean over the batch of -Σ target·log softmax(logits), whose gradient is (softmax(logits) - target) / batch. */
function crossEntropy(tape, logits, target, batchSize) {
  const logarithms = tape.node("loss", "LogSoftmax", [logits], { axis: -1 });
  const products = tape.node("loss", "Mul", [target, logarithms]);
  const total = tape.node("loss", "ReduceSum", [products], { keepdims: 0 });
  const loss = tape.node("loss", "Mul", [total, tape.number("loss", -1 / batchSize)]);
  tape.addGradient(logits, () => {
    const excess = tape.back("Sub", [tape.back("Softmax", [logits], { axis: -1 }), target]);
    return tape.back("Mul", [excess, tape.number("gradient", 1 / batchSize)]);
  });
  return loss;
}

function renameOutput(nodes, from, to) {
  return nodes.map((node) => ({ ...node, outputs: node.outputs.map((output) => (output === from ? to : output)) }));
}

function floatValue(name, shape) {
  return { name, type: { kind: "tensor", elementType: "float32", shape } };
}
