import type { Dimension, Graph, Node } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, labelOf, withInputs } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { shapeOf } from "../graph/value-types.js";
import { int64Tensor } from "../tensor/tensor.js";
import type { CleanPass, PassResult } from "./pass.js";
import { inferStaticTypes } from "./static-types.js";

/**
 * A `Reshape` whose target is computed from sizes, all but one of which turn out to be fixed, gets a constant target with
 * -1 for the one that is not. That is how exporters write a batch of any size: what is left of the computation is dead.
 */
export const foldReshapes: CleanPass = {
  name: "fold-reshapes",
  typesNeeded: (graph) => computedReshapes(graph).map((node) => node.outputs[0]),
  async run(model, context): Promise<PassResult> {
    const { graph } = model;
    const computed = computedReshapes(graph);
    if (computed.length === 0) return { model, changed: [], skipped: [] };
    const types = await inferStaticTypes(
      model,
      context,
      computed.map((node) => node.outputs[0]),
    );
    const writer = new PatchWriter(createNameSource(graph));
    const folded = computed.filter((node) => {
      const target = targetOf(shapeOf(types, node.outputs[0]));
      if (target === undefined) return false;
      const name = `shape_${target.join("x")}`;
      const constant = writer.sharedConstant(name, () => int64Tensor([target.length], target));
      writer.add(withInputs(node, [node.inputs[0], constant]));
      return true;
    });
    if (folded.length === 0) return { model, changed: [], skipped: [] };
    const patch = writer.finish(foldReshapes.name, { remove: folded });
    const changed = folded.map((node) => `${labelOf(node)}: the target shape became a constant`);
    return { model: withGraph(model, applyPatch(graph, patch)), changed, skipped: [] };
  },
};

function computedReshapes(graph: Graph): readonly Node[] {
  return graph.nodes.filter((node) => isOperator(node, "Reshape") && graph.constant(node.inputs[1]) === undefined);
}

/** Fixed sizes, and -1 for a single open one. A size of 0 in a target means something else, so it stays computed. */
function targetOf(shape: readonly Dimension[] | undefined): readonly number[] | undefined {
  if (shape === undefined) return undefined;
  const target = shape.map((size) => (typeof size === "number" ? size : -1));
  const open = target.filter((size) => size === -1).length;
  return open > 1 || target.includes(0) ? undefined : target;
}
