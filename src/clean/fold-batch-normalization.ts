import type { Graph, Node } from "../graph/graph.js";
import { type Model, opsetOf, withGraph } from "../graph/model.js";
import { createNameSource, type NameSource } from "../graph/names.js";
import { isOperator, labelOf } from "../graph/node.js";
import { applyPatch, type GraphPatch, joinPatches } from "../graph/patch.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { readAffine } from "./channel-affine.js";
import { foldForward } from "./fold-forward.js";
import { foldIntoLayer, isReadOnce, mismatch, needsRank, type Trace, traceLayer } from "./fold-into-layer.js";
import type { CleanContext, CleanPass, PassResult } from "./pass.js";
import { inferStaticTypes } from "./static-types.js";

type Skipped = PassResult["skipped"][number];

/**
 * Works BatchNormalization, and constants that are added to or multiplied with each channel, into the weight and bias of
 * the Conv, ConvTranspose, Gemm or MatMul in front, also through changes of the layout. A BatchNormalization that has no
 * layer in front goes into the one behind it where that is exact.
 */
export const foldBatchNormalization: CleanPass = {
  name: "fold-batch-normalization",
  async run(model, context): Promise<PassResult> {
    const changed: string[] = [];
    let current = model;
    for (;;) {
      const round = await findFolds(current, context);
      if (round.patches.length === 0) {
        return { model: changed.length > 0 ? current : model, changed, skipped: round.skipped };
      }
      for (const { label } of round.patches) changed.push(label);
      current = withGraph(current, applyPatch(current.graph, joinPatches(foldBatchNormalization.name, round.patches)));
    }
  },
};

interface Round {
  /** Folds that do not touch each other's nodes. */
  readonly patches: readonly GraphPatch[];
  readonly skipped: readonly Skipped[];
}

async function findFolds(model: Model, context: CleanContext): Promise<Round> {
  const { graph } = model;
  const patches: GraphPatch[] = [];
  const skipped: Skipped[] = [];
  const touched = new Set<Node>();
  const names = createNameSource(graph);
  const accept = (patch: GraphPatch) => {
    const nodes = patch.remove ?? [];
    if (nodes.some((node) => touched.has(node))) return;
    for (const node of nodes) touched.add(node);
    patches.push(patch);
  };
  const affines = graph.nodes.flatMap((node) => {
    const affine = readAffine(graph, node, opsetOf(model));
    if (typeof affine === "string") skipped.push({ node: labelOf(node), reason: affine });
    return affine === undefined || typeof affine === "string" ? [] : [affine];
  });
  const traces = affines.map((affine) => traceLayer(graph, affine));
  const unranked = traces.filter((trace): trace is Trace => typeof trace !== "string" && needsRank(trace));
  const types: ValueTypes =
    unranked.length === 0
      ? new Map()
      : await inferStaticTypes(
          model,
          context,
          unranked.map((trace) => trace.value),
        );
  for (const [i, affine] of affines.entries()) {
    const found = traces[i];
    const trace =
      typeof found === "string" ? found : { ...found, rank: found.rank ?? shapeOf(types, found.value)?.length };
    const patch = typeof trace === "string" ? trace : foldTrace(graph, trace, names);
    if (typeof patch !== "string") accept(patch);
    else if (isOperator(affine.node, "BatchNormalization")) {
      const forward = foldForward(graph, affine, names);
      if (typeof forward !== "string") accept(forward);
      else skipped.push({ node: labelOf(affine.node), reason: `${patch}; ${forward}` });
    }
  }
  return { patches, skipped };
}

function foldTrace(graph: Graph, trace: Trace, names: NameSource): GraphPatch | string {
  const reason = mismatch(trace) ?? keepsForm(graph, trace);
  return reason ?? foldIntoLayer(graph, trace, names);
}

/** Arithmetic that is in place already, or whose folding would cost a second copy of a weight. */
function keepsForm(graph: Graph, { affine, layer, transposes }: Trace): string | undefined {
  if (isOperator(affine.node, "BatchNormalization")) return undefined;
  const isBias = isOperator(layer.node, "MatMul") && layer.biasNode === undefined && isOperator(affine.node, "Add");
  // Of another form than a vector, it becomes one.
  if (isBias && transposes.length === 0 && affine.leastRank <= 1) return "it is the layer's bias";
  const isScaled = affine.scale.some((factor) => factor !== 1);
  return isScaled && !isReadOnce(graph, layer.weightName) ? "others read the layer's weight too" : undefined;
}
