import { Command } from "commander";
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
    program.addCommand(create(signal).exitOverride());
  }
  return program;
}
