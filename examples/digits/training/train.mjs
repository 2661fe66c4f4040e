/**
 * Trains one of the example's networks and writes it as ONNX. Needs Recoup to be built (`npm run build`).
 *
 *     node train.mjs cnn|vit [--threads 2] [--output FOLDER]
 *
 * onnxruntime computes the gradients; see `tape.mjs`. On one core it takes about ten minutes.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { withSession } from "../../../dist/engine/engine.js";
import { readModelFile, writeModelFile } from "../../../dist/node/model-file.js";
import { createRuntimeEngine } from "../../../dist/node/runtime-engine.js";
import { float32Values } from "../../../dist/tensor/tensor.js";
import { preprocessing, readSplit } from "../data.mjs";
import { createRandom, shuffle } from "../random.mjs";
import { Adam, learningRateAt } from "./adam.mjs";
import { toAugmentedPixels, toPixels, toTargets } from "./batches.mjs";
import { statisticsMomentum } from "./layers.mjs";
import { makeInferenceModel, makeTrainingModel } from "./models.mjs";
import { networks } from "./networks.mjs";
import { Parameters } from "./parameters.mjs";

const seed = 20240301;
const largestDifference = 1e-4;

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: { threads: { type: "string", default: "1" }, output: { type: "string" } },
});
const name = positionals[0];
const network = networks[name];
if (!network) throw new Error(`say which network to train: ${Object.keys(networks).join(" or ")}`);
const folder = flags.output ?? fileURLToPath(new URL(`../models/${name}`, import.meta.url));

const engine = createRuntimeEngine({ threads: Number(flags.threads) });
try {
  const split = readSplit();
  const parameters = new Parameters(seed);
  const training = makeTrainingModel(network, parameters, network.training.batchSize);
  await withSession(engine, training.model, {}, async (session) => {
    await train(session, training, parameters, split);
    await compareLogits(session, training, parameters, split.watched.slice(0, network.training.batchSize));
  });
  writeFolder(makeInferenceModel(network, parameters));
  const accuracy = await measureAccuracy(readModelFile(join(folder, "model.onnx")), split.evaluation);
  console.log(`accuracy on the ${split.evaluation.length} evaluation digits: ${toPercent(accuracy)}`);
} finally {
  await engine.close();
}

async function train(session, training, parameters, split) {
  const { epochs, batchSize, learningRate, weightDecay } = network.training;
  const random = createRandom(seed + 1);
  const adam = new Adam(weightDecay);
  const stepsPerEpoch = Math.floor(split.training.length / batchSize);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const start = performance.now();
    const digits = shuffle(split.training, random);
    let loss = 0;
    for (let i = 0; i < stepsPerEpoch; i++) {
      const batch = digits.slice(i * batchSize, (i + 1) * batchSize);
      const found = await runBatch(session, training, parameters, batch, toAugmentedPixels(batch, random));
      const rate = learningRateAt(epoch * stepsPerEpoch + i, epochs * stepsPerEpoch, learningRate);
      adam.step(parameters.trained, found.gradients, rate);
      updateStatistics(parameters, found.statistics, statisticsMomentum);
      loss += found.loss / stepsPerEpoch;
    }
    const accuracy = await measureAccuracy(makeInferenceModel(network, parameters), split.watched);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`epoch ${epoch + 1}: loss ${loss.toFixed(4)}, watched ${toPercent(accuracy)}, ${seconds} s`);
  }
}

/** One pass there and back. */
async function runBatch(session, training, parameters, batch, pixels) {
  const feeds = parameters.tensors((parameter) => parameter.isTrained);
  feeds.set("pixel_values", pixels).set("target", toTargets(batch));
  const { outputs } = await session.run(feeds);
  const valuesOf = (value) => float32Values(outputs.get(value));
  const byParameter = (values) => new Map([...values].map(([parameter, value]) => [parameter, valuesOf(value)]));
  return {
    loss: valuesOf(training.loss)[0],
    logits: valuesOf(training.logits),
    gradients: byParameter(training.gradients),
    statistics: byParameter(training.statistics),
  };
}

/** Moves the running statistics towards a batch's own by the given share. */
function updateStatistics(parameters, statistics, share) {
  for (const [parameter, measured] of statistics) {
    const { values } = parameters.byName.get(parameter);
    measured.forEach((value, i) => {
      values[i] += share * (value - values[i]);
    });
  }
}

/**
 * The shipped form of a network must compute what was trained. Training normalizes by a batch's statistics, so the
 * shipped form is given those of the batch they are compared on, and its own back afterwards.
 */
async function compareLogits(session, training, parameters, batch) {
  const pixels = toPixels(batch);
  const trained = await runBatch(session, training, parameters, batch, pixels);
  const own = [...training.statistics.keys()].map((key) => [key, parameters.byName.get(key).values.slice()]);
  updateStatistics(parameters, trained.statistics, 1);
  const shipped = await computeLogits(makeInferenceModel(network, parameters), pixels);
  updateStatistics(parameters, own, 1);
  const difference = shipped.reduce((most, logit, i) => Math.max(most, Math.abs(logit - trained.logits[i])), 0);
  console.log(`largest difference between trained and shipped logits: ${difference.toExponential(1)}`);
  if (!(difference < largestDifference)) throw new Error(`the shipped model differs by more than ${largestDifference}`);
}

async function measureAccuracy(model, digits) {
  const logits = await computeLogits(model, toPixels(digits));
  const isRight = (digit, i) => {
    const own = logits.subarray(i * 10, (i + 1) * 10);
    return own.indexOf(Math.max(...own)) === digit.label;
  };
  return digits.filter(isRight).length / digits.length;
}

function computeLogits(model, pixels) {
  return withSession(engine, model, {}, async (session) => {
    const { outputs } = await session.run(new Map([["pixel_values", pixels]]));
    return float32Values(outputs.get("logits"));
  });
}

/** The model and, beside it, what a user of the model must do to a picture, as Hugging Face writes it. */
function writeFolder(model) {
  const { rescale, mean, std } = preprocessing;
  const preprocessor = {
    do_resize: false,
    do_rescale: true,
    rescale_factor: rescale,
    do_normalize: true,
    image_mean: [mean],
    image_std: [std],
  };
  mkdirSync(folder, { recursive: true });
  const lines = Object.entries(preprocessor).map(([key, value]) => `  "${key}": ${JSON.stringify(value)}`);
  writeFileSync(join(folder, "preprocessor_config.json"), `{\n${lines.join(",\n")}\n}\n`);
  const sizeBytes = writeModelFile(join(folder, "model.onnx"), model);
  console.log(`${join(folder, "model.onnx")}: ${sizeBytes} bytes`);
}

function toPercent(share) {
  return `${(100 * share).toFixed(2)} %`;
}
