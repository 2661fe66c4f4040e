import { RecoupError } from "../errors.js";
import type { Graph } from "../graph/graph.js";
import { steps } from "../steps.js";
import { fieldOf, type StepRule } from "./recipe.js";

/**
 * Holds the outputs that options of steps name against those of a model: a name that is mistyped shall not wait for the
 * calibration.
 *
 * @throws RecoupError `recipe/invalid`, place: the option, as `steps[1].output`
 */
export function refuseUnknownOutputs(rules: readonly StepRule[], { outputs }: Graph): void {
  const known = outputs.map(({ name }) => name);
  for (const [i, rule] of rules.entries()) {
    const options = steps.find(({ name }) => name === rule.use)?.options ?? {};
    for (const [name, option] of Object.entries(options)) {
      const value = rule[name] ?? "";
      if (option.kind !== "text" || option.names !== "output" || value === "" || known.includes(String(value)))
        continue;
      const message = `${JSON.stringify(value)} is no output of the model: there are ${known.join(", ")}`;
      throw new RecoupError("recipe/invalid", message, { field: fieldOf(["steps", i, name]) });
    }
  }
}
