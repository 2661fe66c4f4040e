import { observe } from "../calibrate/observe.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import type { ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { applyPatch } from "../graph/patch.js";
import type { Range } from "../math/distribution.js";
import { estimateRange } from "../quantize/estimate-ranges.js";
import { errorOnLevels } from "../quantize/estimators/estimator.js";
import { chooseActivationGrid, levelsOfGrid } from "../quantize/grid.js";
import type { ForeignGroup } from "./find-grids.js";
import { writeGrid } from "./write-grid.js";

/** What became of the grid of an input. */
export type InputRecord =
  | {
      readonly label: string;
      readonly kind: "solved";
      readonly errorBefore: number;
      readonly errorAfter: number;
    }
  | { readonly label: string; readonly kind: "skipped"; readonly reason: string };

/** Fits the grids of what is fed: no block computes it, so the walk does not come by. */
export async function refitInputs(
  engine: Engine,
  float: Model,
  current: Model,
  groups: readonly ForeignGroup[],
  batches: AsyncIterable<NamedFeeds>,
): Promise<{ readonly model: Model; readonly records: readonly InputRecord[] }> {
  const isFed = (value: ValueName) => float.graph.isInput(value);
  const fed = groups.filter(({ sites }) => sites.every(({ value }) => isFed(value)));
  // The error of a grid is looked at whatever the range comes from.
  const details = new Map(fed.flatMap(({ sites }) => sites.map(({ value }) => [value, "distribution"] as const)));
  const seen = (await observe(engine, current, details, batches, () => {})).result();
  let { graph } = current;
  const records: InputRecord[] = [];
  for (const group of fed) {
    const [site] = group.sites;
    const { value, format } = site;
    const observed = seen.get(value);
    if (observed?.distribution === undefined) continue;
    const { distribution } = observed;
    const errorOf = (range: Range) => {
      const levels = levelsOfGrid(chooseActivationGrid(range, format.bits, format.symmetric));
      return errorOnLevels(distribution, levels) / distribution.count;
    };
    const range = estimateRange(float.graph, site, observed);
    const [errorBefore, errorAfter] = [errorOf(group.range), errorOf(range)];
    if (!(errorAfter < errorBefore)) {
      records.push({ label: value, kind: "skipped", reason: "its grid fits as well as any" });
      continue;
    }
    const patch = writeGrid(graph, group, chooseActivationGrid(range, format.bits, format.symmetric));
    graph = applyPatch(graph, { label: `range of ${value}`, ...patch });
    records.push({ label: value, kind: "solved", errorBefore, errorAfter });
  }
  return { model: withGraph(current, graph), records };
}
