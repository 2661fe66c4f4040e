import { divergenceOfLogarithms, logSoftmax } from "../evaluate/outputs.js";
import { kMeans, mergeSmallClusters } from "../math/k-means.js";
import { type PrincipalComponents, principalComponents, projectOnto } from "../math/principal-components.js";
import {
  applyLines,
  type ClusterMap,
  type ClusterScores,
  clustersByScores,
  fitLines,
  type Lines,
  noComponents,
  type OutputRows,
  partOfLines,
  type RowClusters,
  scoresOf,
} from "./cluster-affine.js";

/** What is tried: one constant for all rows, one per cluster, or a line per cluster. */
type Form = "global bias" | "cluster bias" | "cluster affine";

/** What a user may ask for. */
export interface ClusterSettings {
  readonly mode: "auto" | "bias" | "affine";
  /** How much of the way to the fitted outputs to go. */
  readonly alpha: number | "auto";
  readonly clusters: number | "auto";
  /** Principal components that clusters are looked for in. */
  readonly dimensions: number | "auto";
  /** Weight of the line of all rows, in rows. */
  readonly tau: number;
  readonly seed: number;
}

/** Rows, and the sample that each belongs to. */
export interface SampledRows extends OutputRows {
  readonly samples: ArrayLike<number>;
}

/** The map that lowers the divergence most, or why there is none. Divergences are means over rows, in nats. */
export type MapChoice =
  | {
      readonly kind: "found";
      readonly map: ClusterMap;
      readonly before: number;
      readonly after: number;
      /** The form and how much of it. */
      readonly about: string;
    }
  | { readonly kind: "none"; readonly reason: string };

/** Each sample is judged by a fit to the samples of the other parts. */
const parts = 4;
const alphas = [0.2, 0.4, 0.7, 1];
/** A line that fewer rows decide is mostly noise. */
const rowsPerCluster = 30;
const mostClusters = 16;
const fewestInCluster = 10;
const dimensionsForClusters = 10;

interface Candidate {
  readonly form: Form;
  readonly alpha: number;
}

/**
 * Chooses by the divergence of the softmax outputs from the float network's, never by the squared error: noise in the
 * outputs draws fitted slopes below 1, which flattens distributions while the squared error falls. Every candidate is fitted
 * to three quarters of the samples and judged on the fourth, each quarter in turn; the best one is fitted again to all of
 * them. One that raises the squared error is out: of outputs that are no logits, the divergence alone says little.
 *
 * Of candidates that are equally good the simpler one is taken.
 */
export function chooseMap(rows: SampledRows, settings: ClusterSettings): MapChoice {
  const count = rows.float.length / rows.columns;
  const samples = new Set(Array.from({ length: count }, (_, row) => rows.samples[row])).size;
  if (samples < parts) {
    return { kind: "none", reason: `has rows of ${samples} samples, and it takes ${parts} to hold some back` };
  }
  const candidates = candidatesOf(settings);
  const clusters = settings.clusters === "auto" ? clustersFor(count) : settings.clusters;
  const judged = judge(rows, candidates, clusters, settings);
  const [before, ...errors] = judged.map(({ divergence }) => divergence / count);
  const ranked = candidates
    .map((candidate, i) => ({ candidate, after: errors[i], isCloser: judged[i + 1].squared <= judged[0].squared }))
    .sort((a, b) => a.after - b.after);
  for (const { candidate, after, isCloser } of ranked) {
    if (!(after < before) || !isCloser) continue;
    const map = fitMap(rows, candidate, clusters, settings);
    if (map !== undefined) return { kind: "found", map, before, after, about: describe(candidate, map) };
  }
  const [{ candidate, after }] = ranked;
  const numbers = `${before.toPrecision(3)} nats as it is, ${after.toPrecision(3)} with ${describe(candidate)}`;
  return { kind: "none", reason: `nothing lowers its divergence on samples that are held back: ${numbers}` };
}

function candidatesOf({ mode, alpha }: ClusterSettings): readonly Candidate[] {
  const forms: readonly Form[] =
    mode === "auto"
      ? ["global bias", "cluster bias", "cluster affine"]
      : [mode === "bias" ? "cluster bias" : "cluster affine"];
  return forms.flatMap((form) => (alpha === "auto" ? alphas : [alpha]).map((part) => ({ form, alpha: part })));
}

function clustersFor(rows: number): number {
  return Math.max(1, Math.min(mostClusters, Math.floor(rows / rowsPerCluster)));
}

function describe({ form, alpha }: Candidate, map?: ClusterMap): string {
  const clusters = map?.scores?.bias.length;
  return `${form}${clusters === undefined ? "" : ` of ${clusters} clusters`}, alpha ${alpha}`;
}

interface Judgement {
  /** Sums over all rows. */
  readonly divergence: number;
  readonly squared: number;
}

/** What is left of the error as it is and with each candidate, over rows that it was not fitted to. */
function judge(
  rows: SampledRows,
  candidates: readonly Candidate[],
  clusters: number,
  settings: ClusterSettings,
): readonly Judgement[] {
  const totals = Array.from({ length: candidates.length + 1 }, () => ({ divergence: 0, squared: 0 }));
  const add = (at: number, outputs: Float64Array, float: Float64Array, wanted: readonly Float64Array[]) => {
    for (const [row, logarithms] of wanted.entries()) {
      const own = outputs.subarray(row * rows.columns, (row + 1) * rows.columns);
      totals[at].divergence += divergenceOfLogarithms(logarithms, logSoftmax(own));
    }
    for (let i = 0; i < float.length; i++) totals[at].squared += (float[i] - outputs[i]) ** 2;
  };
  for (let part = 0; part < parts; part++) {
    const fitted = rowsWhere(rows, (sample) => sample % parts !== part);
    const held = rowsWhere(rows, (sample) => sample % parts === part);
    const wanted = Array.from({ length: held.float.length / rows.columns }, (_, row) =>
      logSoftmax(held.float.subarray(row * rows.columns, (row + 1) * rows.columns)),
    );
    add(0, held.current, held.float, wanted);
    const fits = new Map<Form, Fit>();
    const groups = findGroups(fitted, clusters, settings);
    for (const { form } of candidates) if (!fits.has(form)) fits.set(form, fitForm(fitted, form, groups, settings.tau));
    for (const [i, { form, alpha }] of candidates.entries()) {
      const { lines, scores } = fits.get(form) as Fit;
      const assignment = clustersOf(held, scores);
      add(i + 1, applyLines(held.current, assignment, partOfLines(lines, alpha)), held.float, wanted);
    }
  }
  return totals;
}

function rowsWhere(rows: SampledRows, isWanted: (sample: number) => boolean): OutputRows {
  const chosen = Array.from({ length: rows.float.length / rows.columns }, (_, row) => row).filter((row) =>
    isWanted(rows.samples[row]),
  );
  const pick = (values: Float64Array) => {
    const picked = new Float64Array(chosen.length * rows.columns);
    for (const [to, from] of chosen.entries()) {
      picked.set(values.subarray(from * rows.columns, (from + 1) * rows.columns), to * rows.columns);
    }
    return picked;
  };
  return { columns: rows.columns, float: pick(rows.float), current: pick(rows.current) };
}

/** Clusters of the current network's outputs: the float network's are not there when the model runs. */
interface Groups extends RowClusters {
  /** Undefined where there is one cluster. */
  readonly scores: ClusterScores | undefined;
}

function findGroups({ columns, current }: OutputRows, clusters: number, settings: ClusterSettings): Groups {
  const one: Groups = { assignment: new Int32Array(current.length / columns), count: 1, scores: undefined };
  if (clusters === 1) return one;
  const dimensions = settings.dimensions === "auto" ? dimensionsForClusters : settings.dimensions;
  const components = dimensions < columns ? principalComponents(current, columns, dimensions) : noComponents(columns);
  if (components.count === 0) return one;
  const found = findClusters(current, components, clusters, settings.seed);
  if (found.count === 1) return one;
  return { ...found, scores: scoresOf(components, found.centers) };
}

function findClusters(current: Float64Array, components: PrincipalComponents, clusters: number, seed: number) {
  const positions = projectOnto(current, components);
  const found = kMeans(positions, components.count, { clusters, seed });
  return mergeSmallClusters(positions, components.count, found, fewestInCluster);
}

interface Fit {
  readonly lines: Lines;
  readonly scores: ClusterScores | undefined;
}

function fitForm(rows: OutputRows, form: Form, groups: Groups, tau: number): Fit {
  const one = { assignment: new Int32Array(groups.assignment.length), count: 1 };
  if (form === "global bias") return { lines: fitLines(rows, one, "bias", 0), scores: undefined };
  return { lines: fitLines(rows, groups, form === "cluster bias" ? "bias" : "affine", tau), scores: groups.scores };
}

/** The clusters that the model puts rows into. */
function clustersOf({ columns, current }: OutputRows, scores: ClusterScores | undefined): Int32Array {
  if (scores === undefined) return new Int32Array(current.length / columns);
  return clustersByScores(current, columns, scores);
}

/** The candidate fitted to all rows; undefined where the model would put some of them into another cluster. */
function fitMap(
  rows: OutputRows,
  { form, alpha }: Candidate,
  clusters: number,
  settings: ClusterSettings,
): ClusterMap | undefined {
  const groups = findGroups(rows, form === "global bias" ? 1 : clusters, settings);
  const { lines, scores } = fitForm(rows, form, groups, settings.tau);
  const assignment = clustersOf(rows, scores);
  if (scores !== undefined && assignment.some((cluster, row) => cluster !== groups.assignment[row])) return undefined;
  return { ...partOfLines(lines, alpha), scores };
}
