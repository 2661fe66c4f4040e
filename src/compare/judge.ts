import type { Samples } from "../data/samples.js";
import { type Engine, withSession } from "../engine/engine.js";
import type { Model } from "../graph/model.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { compareOutputs } from "./outputs.js";

/** How far a model is from the float model on samples that nothing was fitted on. */
export interface Verdict {
  /** Mean divergence of the softmax of the first output, in nats. */
  readonly kl: number;
  /** Signal to error of all outputs, in decibels. */
  readonly sqnrDb: number;
}

export interface JudgeTask {
  readonly engine: Engine;
  readonly float: Model;
  readonly types: ValueTypes;
  readonly samples: Samples;
  /** Indices of the samples that are held back. */
  readonly held: readonly number[];
}

/** Holds models against the float model at the runtime's default options: as whoever ships them runs them. */
export class Judge {
  readonly #task: JudgeTask;
  readonly #isClassifier: boolean;

  constructor(task: JudgeTask) {
    this.#task = task;
    const shape = shapeOf(task.types, task.float.graph.outputs[0]?.name ?? "");
    // The softmax of a single value is one, whatever the value.
    this.#isClassifier = shape !== undefined && shape.length <= 2 && shape.at(-1) !== 1;
  }

  /** @throws RecoupError as `Engine.open` and `compareOutputs` */
  async measure(model: Model): Promise<Verdict> {
    const { engine, float, samples, held } = this.#task;
    const { kl, sqnrDb } = await withSession(engine, float, { mode: "shipped" }, (reference) =>
      withSession(engine, model, { mode: "shipped" }, (other) => compareOutputs(reference, other, samples.read(held))),
    );
    return { kl, sqnrDb };
  }

  /** By the divergence for classifiers, with outputs of up to two axes, by signal to error else. */
  isBetter(verdict: Verdict, than: Verdict): boolean {
    return this.#isClassifier ? verdict.kl < than.kl : verdict.sqnrDb > than.sqnrDb;
  }
}
