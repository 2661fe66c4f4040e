import { Command } from "commander";
import { RecoupError } from "../errors.js";
import { version } from "../version.js";
import { compareCommand } from "./compare.js";
import { compensateCommand } from "./compensate.js";
import { evaluateCommand } from "./evaluate.js";
import { inspectCommand } from "./inspect.js";
import { quantizeCommand } from "./quantize.js";
import { recipesCommand } from "./recipes.js";
import { statisticsCommand } from "./statistics.js";

export function createProgram(signal: AbortSignal): Command {
  const program = new Command("recoup")
    .description("Makes ONNX models small and recoups the accuracy that quantization lost. No training, no Python.")
    .version(version)
    .exitOverride()
    .showHelpAfterError("(recoup --help shows the commands, recoup COMMAND --help their options)")
    .addHelpText(
      "after",
      `
Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (143 by SIGTERM).

Example:
  recoup quantize model.onnx -o small.onnx --data pictures/ --weights 4 --steps bc`,
    );
  const commands = [
    inspectCommand,
    quantizeCommand,
    compensateCommand,
    statisticsCommand,
    evaluateCommand,
    compareCommand,
    recipesCommand,
  ];
  for (const create of commands) {
    program.addCommand(refuseRepeats(create(signal)).exitOverride());
  }
  return program;
}

/** What takes one value is given once: commander would take the last without a word. */
function refuseRepeats(command: Command): Command {
  for (const option of command.options.filter((one) => (one.required || one.optional) && !one.variadic)) {
    let isGiven = false;
    command.on(`option:${option.name()}`, () => {
      if (isGiven) {
        throw new RecoupError("usage/argument", "is given twice, and there is one value", { field: option.long ?? "" });
      }
      isGiven = true;
    });
  }
  return command;
}
