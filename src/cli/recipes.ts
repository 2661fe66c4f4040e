import { Command } from "commander";
import { rangeEstimators } from "../quantize/estimators/index.js";
import { presets } from "../recipe/presets.js";
import { parseRecipe } from "../recipe/recipe.js";
import { describeOption } from "../step/options.js";
import { steps } from "../steps.js";
import { formatJson, formatTable } from "./format.js";

export function recipesCommand(): Command {
  return new Command("recipes")
    .description("List what recipes are made of: presets, steps with their options, ways to find ranges.")
    .option("--json", "print them as JSON to stdout, every default filled in")
    .addHelpText(
      "after",
      `
Examples:
  recoup quantize model.onnx -o small.onnx --data pictures/ --preset cnn-low-bit
  recoup quantize model.onnx -o small.onnx --data pictures/ --range percentile --steps bc:places=all`,
    )
    .action(({ json }: { readonly json?: boolean }) => {
      process.stdout.write(json ? formatJson(listAll()) : describeAll());
    });
}

function listAll() {
  return {
    presets: presets.map((preset) => ({ ...preset, recipe: parseRecipe(preset.recipe) })),
    steps: steps.map(({ name, summary, options }) => ({ name, summary, options })),
    ranges: rangeEstimators.map(({ name, summary }) => ({ name, summary })),
  };
}

function describeAll(): string {
  const rows = (list: readonly { readonly name: string; readonly summary: string }[]) =>
    list.map(({ name, summary }) => [name, summary]);
  const ofSteps = steps.flatMap(({ name, summary, options }) => [
    [name, summary],
    ...Object.entries(options).map(([option, one]) => [
      `  :${option}=${one.default}`,
      `  ${one.help} (${describeOption(one)})`,
    ]),
  ]);
  return [
    "Presets (--preset NAME), recipes that have a name:",
    formatTable(rows(presets)),
    "",
    "Steps (--steps NAME,NAME:OPTION=VALUE), with their options and what these are by default:",
    formatTable(ofSteps),
    "",
    "Ranges (--range and --weight-range NAME), the part of the values that the codes cover:",
    formatTable(rows(rangeEstimators)),
    "",
  ].join("\n");
}
