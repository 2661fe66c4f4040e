import { dropListedInitializers, firstVersionWithDefaults, listedInitializers } from "./listed-initializers.js";
import type { CleanPass, PassResult } from "./pass.js";

/**
 * Decides which initializers are constant. Files before version 4 had to list every initializer as a graph input: there
 * they become constants. Since then such an input is a default that callers may override: it stays, and is no constant.
 */
export const constantInputs: CleanPass = {
  name: "constant-inputs",
  async run(model): Promise<PassResult> {
    if (model.irVersion >= firstVersionWithDefaults) {
      const reason = "is an input with a default, which callers may override, so it is not treated as constant";
      return { model, changed: [], skipped: listedInitializers(model.graph).map((node) => ({ node, reason })) };
    }
    const { model: unlisted, dropped } = dropListedInitializers(model);
    const raised = `the file's version ${model.irVersion} became ${firstVersionWithDefaults}`;
    return {
      model: unlisted,
      changed: [raised, ...dropped.map((name) => `${name} is a constant, no input`)],
      skipped: [],
    };
  },
};
