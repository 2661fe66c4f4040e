import type { Model } from "./model.js";

/** A model, and what a user should know of it. */
export interface Warned {
  readonly model: Model;
  readonly warnings: readonly string[];
}

/**
 * Takes away training information that reads values which the network no longer has: weights that are codes by now cannot be
 * trained, and a reader that checks the model would refuse it.
 */
export function dropBrokenTraining(model: Model): Warned {
  const { graph } = model;
  const isThere = (name: string) =>
    graph.initializers.has(name) || graph.isInput(name) || graph.producer(name) !== undefined;
  const training = model.training.filter(({ reads }) => [...reads].every(isThere));
  if (training.length === model.training.length) return { model, warnings: [] };
  const gone = new Set(model.training.flatMap(({ reads }) => [...reads]).filter((name) => !isThere(name)));
  const named = [...gone].slice(0, mostNamed).join(", ");
  const more = gone.size > mostNamed ? ` and ${gone.size - mostNamed} more` : "";
  return {
    model: { ...model, training },
    warnings: [
      `the model's training information was left out: it reads ${named}${more}, which the model no longer has`,
    ],
  };
}

/** Names in a warning. */
const mostNamed = 3;
