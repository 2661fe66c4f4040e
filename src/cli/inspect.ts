import { Command } from "commander";
import { printable } from "../errors.js";
import { type FileInspection, type InspectOptions, inspect } from "../node/inspect.js";
import { formatBytes, formatJson, formatTable } from "./format.js";
import { printWarnings } from "./progress.js";
import { addRecipeOptions, runGroup } from "./recipe-options.js";

interface Flags extends InspectOptions {
  readonly json?: boolean;
}

export function inspectCommand(signal: AbortSignal): Command {
  const command = new Command("inspect")
    .description("Say what a model is, which layers would be quantized and which not, and why.")
    .argument("<model>", "the ONNX model");
  return addRecipeOptions(command)
    .optionsGroup(runGroup)
    .option("--json", "print JSON to stdout")
    .addHelpText("after", "\nExample:\n  recoup inspect model.onnx --weights 4")
    .action(async (model: string, { json, ...options }: Flags) => {
      const found = await inspect(model, { ...options, signal });
      printWarnings(found.warnings);
      process.stdout.write(json ? formatJson(found) : summarize(found));
    });
}

function summarize(found: FileInspection): string {
  const declared = (values: FileInspection["inputs"]) => values.map(({ name, type }) => `${name} ${type}`).join(", ");
  const rows = [
    ["size", `${formatBytes(found.bytes)}, ${found.parameters.toLocaleString("en-US")} parameters`],
    [
      "opset",
      `${found.opset} (IR version ${found.irVersion})${found.producer ? `, written by ${found.producer}` : ""}`,
    ],
    ["inputs", declared(found.inputs)],
    ["outputs", declared(found.outputs)],
    ["nodes", `${found.nodes}: ${operators(found)}`],
    ["blocks", `${found.blocks.length} with ${found.quantized.length} layers`],
  ];
  const layers = found.quantized.map((layer) => [
    layer.name,
    layer.opType,
    `[${layer.shape.join(", ")}]`,
    `${layer.weightBits}/${layer.activationBits}`,
    layer.remarks.join("; "),
  ]);
  const skipped = found.skipped.map(({ name, opType, reason }) => [name, opType, reason]);
  return [
    printable(found.path),
    formatTable(rows),
    `Would be quantized (weight bits/activation bits): ${layers.length} layers`,
    formatTable(layers, 12),
    ...(skipped.length > 0 ? [`Would stay in float: ${skipped.length}`, formatTable(skipped, 12)] : []),
    "",
  ].join("\n");
}

function operators(found: FileInspection): string {
  const shown = found.operators.slice(0, 8).map(({ name, count }) => `${count} ${name}`);
  return shown.join(", ") + (found.operators.length > 8 ? ", …" : "");
}
