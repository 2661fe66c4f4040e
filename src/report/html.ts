import type { LatencyComparison, OutputComparison } from "../compare/outputs.js";
import { describeDb } from "../evaluate/outputs.js";
import { bar100, escapeHtml, page, rawTable, reasonsTable, section, stepTable, table } from "./html-elements.js";
import type { RunReport } from "./run-report.js";

/** What the report draws: a run, what it cost, and how long it took. */
export interface ReportContent {
  readonly report: RunReport;
  readonly cost: {
    readonly bytes: number;
    readonly sourceBytes: number;
    readonly sizeRatio: number;
    /** Not given where the small model was not run. */
    readonly latency?: LatencyComparison;
    readonly output?: OutputComparison;
  };
  readonly elapsedMs: Readonly<Record<string, number>>;
}

/** Weights whose bar is full have this signal to noise ratio in decibels. */
const fullBarDb = 60;

/**
 * A run as one HTML page for people: no script, no network, nothing but what is in it.
 *
 * @param source path of the original model
 * @param output path of the small one
 */
export function renderReport(source: string, output: string, { report, cost, elapsedMs }: ReportContent): string {
  const body = [
    `<h1>${escapeHtml(output)}</h1>`,
    `<p>made from ${escapeHtml(source)} by Recoup ${escapeHtml(report.version)}</p>`,
    table([
      ["Size", `${cost.sourceBytes} → ${cost.bytes} bytes (${cost.sizeRatio.toFixed(3)} ×)`],
      ...latencyRows(cost.latency),
      ...outputRows(cost.output),
      ["Calibration", `${report.data.samples} of ${report.data.available} samples: ${report.data.description}`],
      ["Blocks", String(report.blocks)],
      [
        "Time",
        Object.entries(elapsedMs)
          .map(([phase, ms]) => `${phase} ${(ms / 1000).toFixed(1)} s`)
          .join(", "),
      ],
    ]),
    ...report.warnings.map((warning) => `<p class="warning">${escapeHtml(warning)}</p>`),
    section("Layers", layersTable(report)),
    section("Activations", activationsTable(report)),
    section("Left in float", reasonsTable(report.skipped.map(({ name, opType, reason }) => [name, opType, reason]))),
    ...report.steps.map((step) => section(`Step ${step.name}`, stepTable(step))),
    section(
      "Cleaning",
      reasonsTable(
        report.clean.flatMap(({ name, changed, skipped }) => [
          ...changed.map((line) => [name, "done", line]),
          ...skipped.map(({ node, reason }) => [name, node, reason]),
        ]),
      ),
    ),
    section("Recipe", `<pre>${escapeHtml(JSON.stringify(report.recipe, undefined, 2))}</pre>`),
  ];
  return page(output, body.join("\n"));
}

function latencyRows(latency: LatencyComparison | undefined): readonly (readonly string[])[] {
  if (latency === undefined) return [];
  const { referenceMs, modelMs, ratio, referenceLoadMs, modelLoadMs } = latency;
  return [
    ["Latency of one sample, median", `${referenceMs.toFixed(2)} → ${modelMs.toFixed(2)} ms (${ratio.toFixed(2)} ×)`],
    ["Loading", `${referenceLoadMs.toFixed(0)} → ${modelLoadMs.toFixed(0)} ms`],
  ];
}

function outputRows(output: OutputComparison | undefined): readonly (readonly string[])[] {
  if (output === undefined) return [];
  const { samples, agreement, kl, sqnrDb } = output;
  const figures = `agreement ${agreement.toFixed(2)} %, KL ${kl.toPrecision(3)} nats, ${describeDb(sqnrDb)}`;
  return [[`Outputs on ${samples} calibration samples`, figures]];
}

function layersTable(report: RunReport): string {
  const rows = report.layers.map((layer) => {
    const bar = bar100(Math.min(Math.max(layer.weightSqnrDb / fullBarDb, 0), 1));
    return [
      escapeHtml(layer.name),
      escapeHtml(layer.opType),
      escapeHtml(layer.shape.join(" × ")),
      `${layer.bits}/${layer.activation}`,
      escapeHtml(layer.granularity),
      `${bar} ${describeDb(layer.weightSqnrDb)}`,
      escapeHtml(layer.remarks.join("; ")),
    ];
  });
  return rawTable(
    ["Layer", "Operator", "Weight", "Bits w/a", "Granularity", "Weight signal to noise", "Remarks"],
    rows,
  );
}

function activationsTable({ activations }: RunReport): string {
  const rows = activations.map(({ values, bits, spacing, low, high }) => [
    escapeHtml(values.join(", ")),
    String(bits),
    spacing,
    low.toPrecision(3),
    high.toPrecision(3),
  ]);
  return rawTable(["Values on one grid", "Bits", "Levels", "From", "To"], rows);
}
