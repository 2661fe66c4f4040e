import type { LatencyComparison, OutputComparison } from "../compare/outputs.js";
import { describeDb } from "../evaluate/outputs.js";
import type { CompensationReport } from "./compensation-report.js";
import { escapeHtml, page, reasonsTable, section, stepTable, table } from "./html-elements.js";

/** What the report draws: a run, what it gained and cost, and how long it took. */
export interface CompensationContent {
  readonly report: CompensationReport;
  readonly cost: {
    readonly bytes: number;
    readonly sourceBytes: number;
    readonly sizeRatio: number;
    readonly latency: LatencyComparison;
    readonly before: OutputComparison;
    readonly after: OutputComparison;
  };
  readonly elapsedMs: Readonly<Record<string, number>>;
}

/**
 * The compensation of another tool's model as one HTML page for people: no script, no network.
 *
 * @param float path of the original model
 * @param quantized path of the model that another tool made
 * @param output path of the compensated one
 */
export function renderCompensation(
  float: string,
  quantized: string,
  output: string,
  { report, cost, elapsedMs }: CompensationContent,
): string {
  const { latency, before, after } = cost;
  const origin = `${escapeHtml(quantized)}, held against ${escapeHtml(float)}, by Recoup ${escapeHtml(report.version)}`;
  const body = [
    `<h1>${escapeHtml(output)}</h1>`,
    `<p>made from ${origin}</p>`,
    ...(report.isChanged ? [] : ["<p>Nothing brought it closer to the original: it is the model as it was given.</p>"]),
    table([
      ["Size", `${cost.sourceBytes} → ${cost.bytes} bytes (${cost.sizeRatio.toFixed(3)} ×)`],
      [
        "Latency of one sample, median",
        `${latency.referenceMs.toFixed(2)} → ${latency.modelMs.toFixed(2)} ms (${latency.ratio.toFixed(2)} ×)`,
      ],
      [`Outputs on ${after.samples} calibration samples, before`, describeOutputs(before)],
      ["after", describeOutputs(after)],
      ["Calibration", `${report.data.samples} of ${report.data.available} samples: ${report.data.description}`],
      ["Aligned", `${report.aligned.layers} of ${report.layers} layers, ${report.aligned.values} values`],
      ["Blocks", String(report.blocks)],
      [
        "Time",
        Object.entries(elapsedMs)
          .map(([phase, ms]) => `${phase} ${(ms / 1000).toFixed(1)} s`)
          .join(", "),
      ],
    ]),
    ...report.warnings.map((warning) => `<p class="warning">${escapeHtml(warning)}</p>`),
    section(
      `Trials on ${triedOn(report)}`,
      table(
        report.trials.map(({ steps, kl, sqnrDb, taken }) => [
          steps.length === 0 ? "as given" : steps.join(", "),
          `KL ${kl.toPrecision(3)} nats`,
          describeDb(sqnrDb),
          taken ? "taken" : "",
        ]),
      ),
    ),
    section("Not aligned", reasonsTable(report.unaligned.map(({ label, reason }) => [label, reason]))),
    ...report.results.map((step) => section(`Step ${step.name}${step.kept ? "" : ", left out"}`, stepTable(step))),
    section("Steps", `<pre>${escapeHtml(JSON.stringify(report.steps, undefined, 2))}</pre>`),
  ];
  return page(output, body.join("\n"));
}

function describeOutputs({ agreement, kl, sqnrDb }: OutputComparison): string {
  return `agreement ${agreement.toFixed(2)} %, KL ${kl.toPrecision(3)} nats, ${describeDb(sqnrDb)}`;
}

function triedOn({ held }: CompensationReport): string {
  if (held === 0) return "the samples that were fitted";
  return held === 1 ? "1 sample that was held back" : `${held} samples that were held back`;
}
