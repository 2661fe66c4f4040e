import { type PairedRows, PairedRowsStatistic } from "../calibrate/paired-rows.js";
import { defineStep } from "../step/open-step.js";
import type { Site, StepContext } from "../step/step.js";
import type { ClusterMap } from "./cluster-affine.js";
import { type ClusterSettings, chooseMap } from "./cluster-choice.js";
import { type ClusterPlace, writeClusterMap } from "./cluster-graph.js";
import { findLogits, wayToLayer } from "./logits.js";

interface ClusterSite extends Site, ClusterPlace {
  readonly settings: ClusterSettings;
}

const options = {
  output: {
    kind: "text",
    help: "the output to compensate, by name; every output with one row of classes a sample where it is empty",
    default: "",
    names: "output",
  },
  mode: {
    kind: "choice",
    help: "what is fitted per cluster: a constant for each class, a line for each class, or what serves best",
    default: "auto",
    choices: ["auto", "bias", "affine"],
  },
  alpha: {
    kind: "number",
    help: "how much of the way to the fitted outputs to go; auto tries 0.2, 0.4, 0.7 and 1",
    default: "auto",
    least: 0,
    most: 1,
    words: ["auto"],
  },
  clusters: {
    kind: "number",
    help: "clusters of outputs; auto takes one for 30 rows, at most 16",
    default: "auto",
    least: 1,
    most: 1024,
    isWhole: true,
    words: ["auto"],
  },
  dimensions: {
    kind: "number",
    help: "principal components in which clusters are looked for; auto takes 10",
    default: "auto",
    least: 1,
    most: 1024,
    isWhole: true,
    words: ["auto"],
  },
  tau: {
    kind: "number",
    help: "how many rows the fit to all rows counts for in each cluster",
    default: 30,
    least: 0,
    most: 1e9,
  },
  seed: {
    kind: "number",
    help: "of the beginnings of k-means",
    default: 0,
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    isWhole: true,
  },
} as const;

/**
 * CAT, clustering-based affine transformation of the network's output: the logits z `[N, K]` of the quantized network fall
 * into clusters, and each cluster has a line for each class that brings them closer to the float network's,
 *
 *     z + α (slope_j · z + offset_j - z),  j the cluster whose centre is nearest in the space of a few principal components.
 *
 * Needs no labels. Assumes outputs that a softmax makes a distribution of. What is fitted, and how much of it is taken, is
 * chosen on samples that are held back; where nothing lowers the divergence there, the site is skipped. The errors that are
 * told are mean divergences on held-back samples, in nats.
 *
 * @see arXiv:2509.26277; docs/methods/cat.md
 */
export const clusterCompensation = defineStep<typeof options, ClusterSite, readonly [PairedRows], ClusterMap>({
  name: "cat",
  summary: "cluster-based transformation: moves logits by what float logits differ in their cluster",
  outcome: "outputs compensated",
  addsOperators: () => true,
  options,
  sites(context, settings) {
    const chosen = settings.output === "" ? context.float.outputs.map(({ name }) => name) : [settings.output];
    const described = chosen.map((output) => describeSite(context, output, settings));
    return {
      usable: described.filter((site): site is ClusterSite => "settings" in site),
      unusable: described.filter((site) => "reason" in site),
    };
  },
  statistics: ({ value, classes }) => [new PairedRowsStatistic(value, classes)],
  solve({ settings }, [rows]) {
    if (![rows.float, rows.current].every((values) => values.every(Number.isFinite))) {
      return { kind: "skipped", reason: "its values are not finite" };
    }
    const choice = chooseMap(rows, settings);
    if (choice.kind === "none") return { kind: "skipped", reason: choice.reason };
    const { map, before, after, about } = choice;
    const dropped = rows.dropped > 0 ? `; ${rows.dropped} rows of later samples were too many to be kept` : "";
    const divergences = `${before.toPrecision(3)} to ${after.toPrecision(3)} nats`;
    const remark = `${about}; its divergence on samples that are held back went from ${divergences}${dropped}`;
    return { kind: "solved", solution: map, errorBefore: before, errorAfter: after, remark };
  },
  rewrite: writeClusterMap,
});

function describeSite(
  { float, types, current }: StepContext,
  output: string,
  settings: ClusterSettings & { readonly output: string },
): ClusterSite | { readonly label: string; readonly reason: string } {
  const found = findLogits(float, types, output, settings.output === output);
  if ("reason" in found) return { label: output, reason: found.reason };
  if (current.producer(found.value) === undefined) {
    return { label: output, reason: `the quantized network does not compute its logits ${found.value}` };
  }
  return { ...found, label: output, settings, way: wayToLayer(float, types, found) };
}
