import type { Samples } from "../data/samples.js";
import { type Engine, withSession } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import type { Model } from "../graph/model.js";
import { compareOutputs } from "./outputs.js";

/** Signal to error in decibels. Codes that fall on the other side of a tie leave 20 and more on all models tried. */
const leastFaithfulDb = 10;
/** On so many samples it is looked at. */
export const checkedSamples = 2;

/**
 * A model that does not load or run at the runtime's default options is not done. There the runtime joins operators; what
 * it then computes is held against what the file says, operator by operator.
 *
 * @returns warnings
 * @throws RecoupError `export/unfaithful`
 */
export async function checkRuns(
  engine: Engine,
  model: Model,
  samples: Samples,
  indices: readonly number[],
): Promise<readonly string[]> {
  const { sqnrDb, brokenSamples } = await withSession(engine, model, { mode: "plain" }, (written) =>
    withSession(engine, model, { mode: "shipped" }, (joined) => compareOutputs(written, joined, samples.read(indices))),
  );
  if (sqnrDb >= leastFaithfulDb) return [];
  if (sqnrDb === Number.NEGATIVE_INFINITY && brokenSamples === 0) {
    return [
      "its outputs on the first samples are no finite signal: whether the runtime computes them as the file says is not known",
    ];
  }
  const ratio = `a signal to error of ${sqnrDb.toFixed(1)} dB where at least ${leastFaithfulDb} are asked for`;
  throw new RecoupError(
    "export/unfaithful",
    `at its default options ${engine.name} computes something else than the small model says: ${ratio}`,
  );
}
