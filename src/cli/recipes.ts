import { Command } from "commander";
import { presets } from "../recipe/presets.js";
import { parseRecipe } from "../recipe/recipe.js";
import { formatJson, formatTable } from "./format.js";

export function recipesCommand(): Command {
  return new Command("recipes")
    .description("List the recipes that have a name, and what each is for.")
    .option("--json", "print them as JSON to stdout, every default filled in")
    .addHelpText(
      "after",
      "\nExample:\n  recoup quantize model.onnx -o small.onnx --data pictures/ --preset cnn-low-bit",
    )
    .action(({ json }: { readonly json?: boolean }) => {
      const filled = presets.map((preset) => ({ ...preset, recipe: parseRecipe(preset.recipe) }));
      const rows = presets.map(({ name, summary }) => [name, summary]);
      process.stdout.write(json ? formatJson(filled) : `${formatTable(rows)}\n`);
    });
}
