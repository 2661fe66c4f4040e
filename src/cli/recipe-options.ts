import { type Command, Option } from "commander";
import { rangeEstimators } from "../quantize/estimators/index.js";
import { spacings } from "../quantize/spacing.js";
import { bitsOrNone, edgeBits, threadCount, wholeNumber } from "./arguments.js";

const estimatorNames = rangeEstimators.map(({ name }) => name).join(", ");

/** Above the options that say how the work is done and what is told of it. */
export const runGroup = "Run:";

/** The options that say what calibration runs on: the same for quantizing and for measuring a shard. */
export function addDataOptions(command: Command): Command {
  return command
    .optionsGroup("Samples:")
    .requiredOption("--data <path>", "calibration samples: a folder of pictures, .npy, .npz or .jsonl")
    .option("--preprocess <file>", "a Hugging Face preprocessor_config.json (default: the one beside the model)")
    .option("--samples <count>", "how many of them to use (default: 128)", wholeNumber("--samples", 1))
    .option("--seed <number>", "chooses the samples (default: 0)", wholeNumber("--seed", 0));
}

/** The options that decide what is quantized and how: the same for the command that does it and the one that tells. */
export function addRecipeOptions(command: Command): Command {
  return command
    .optionsGroup("Recipe, which is what is quantized and how:")
    .option("--weights <bits>", "bits of the weights, 2 to 8 (default: 8)", wholeNumber("--weights", 2, 8))
    .option("--activations <bits>", "bits of the activations, 2 to 8, or none (default: 8)", bitsOrNone)
    .option(
      "--range <name>",
      `ways to find the ranges of activations: ${estimatorNames} (default: mse; recoup recipes tells what each does)`,
    )
    .option("--weight-range <name>", "the same for weights (default: minmax at 8 bits, mse below)")
    .option(
      "--softmax <name>",
      `levels for the shares of attention: ${spacings.join(", ")} (default: log below 8 bits)`,
    )
    .option("--rounding <name>", "how weights are rounded: rtn (to nearest) or gptq (default: rtn)")
    .option("--target <name>", "what GPTQ aims at: auto, same, unquantized or float (default: auto)")
    .option("--granularity <kind>", "what shares a scale: channel, tensor or group:SIZE (default: channel)")
    .option("--symmetric", "symmetric weights at every width (default: at 8 bits only)")
    .option("--storage <kind>", "how codes below 8 bits are stored: packed, int8 or onnx (default: packed)")
    .option(
      "--inline-functions <which>",
      "the model's own functions to write out as nodes: layers (those that hold some), all or none (default: layers)",
    )
    .option("--edges <bits>", "bits of the first and the last layer, at least (default: as the others)", edgeBits)
    .option("--recipe <file>", "a recipe in JSON; flags override it")
    .option("--preset <name>", "a recipe that has a name (recoup recipes lists them); flags override it")
    .option("--from <model>", "the recipe that a model was made with, as its metadata holds it; flags override it")
    .option("--skip <patterns...>", "nodes to leave in float: names with * for any text, or op:Conv")
    .addOption(
      new Option("--threads <count>", "threads of the runtime (default: one a core)")
        .argParser(threadCount)
        .helpGroup(runGroup),
    );
}
