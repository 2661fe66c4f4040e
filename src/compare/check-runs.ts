import type { Samples } from "../data/samples.js";
import { type Engine, type RunMode, withSession } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import type { Model } from "../graph/model.js";
import { compareOutputs } from "./outputs.js";

/** Signal to error in decibels. Codes that fall on the other side of a tie leave 20 and more where there are 8 bits. */
const leastFaithfulDb = 10;
/** Below that the runtime's outputs may lie so much further from the float network than what the file says. */
const mostLostDb = 3;
/** On so many samples it is looked at. */
export const checkedSamples = 2;

/**
 * A model that does not load or run at the runtime's default options is not done. There the runtime joins operators; what
 * it then computes is held against what the file says, operator by operator. Where few bits let a tie that falls on the other
 * side grow from layer to layer, the two may differ much and be equally right: then both are equally far from the float network.
 *
 * @param float the network that the model was made from
 * @returns warnings
 * @throws RecoupError `export/unfaithful`
 */
export async function checkRuns(
  engine: Engine,
  model: Model,
  float: Model,
  samples: Samples,
  indices: readonly number[],
): Promise<readonly string[]> {
  const compare = (left: Way, right: Way) =>
    withSession(engine, left.model, { mode: left.mode }, (reference) =>
      withSession(engine, right.model, { mode: right.mode }, (other) =>
        compareOutputs(reference, other, samples.read(indices)),
      ),
    );
  const written: Way = { model, mode: "plain" };
  const joined: Way = { model, mode: "shipped" };
  const { sqnrDb, brokenSamples } = await compare(written, joined);
  if (sqnrDb >= leastFaithfulDb) return [];
  if (sqnrDb === Number.NEGATIVE_INFINITY && brokenSamples === 0) {
    return [
      "its outputs on the first samples are no finite signal: whether the runtime computes them as the file says is not known",
    ];
  }
  const original: Way = { model: float, mode: "exact" };
  const [said, computed] = [await compare(original, written), await compare(original, joined)];
  if (computed.sqnrDb >= said.sqnrDb - mostLostDb) return [];
  const ratio = `a signal to error of ${sqnrDb.toFixed(1)} dB where at least ${leastFaithfulDb} are asked for`;
  throw new RecoupError(
    "export/unfaithful",
    `at its default options ${engine.name} computes something else than the small model says: ${ratio}`,
  );
}

/** A model as it is run. */
interface Way {
  readonly model: Model;
  readonly mode: RunMode;
}
