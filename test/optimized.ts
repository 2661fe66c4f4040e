import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import type { Graph } from "../src/graph/graph.js";
import type { Model } from "../src/graph/model.js";
import { readModelFile, writeModelFile } from "../src/node/model-file.js";

/** What onnxruntime makes of a model at its default options: the graph that it runs. */
export async function optimize(model: Model): Promise<Graph> {
  const folder = mkdtempSync(join(tmpdir(), "recoup-optimized-"));
  const [path, optimizedModelFilePath] = ["model.onnx", "optimized.onnx"].map((name) => join(folder, name));
  try {
    writeModelFile(path, model, { isTemporary: true });
    const session = await InferenceSession.create(path, {
      optimizedModelFilePath,
      executionProviders: ["cpu"],
      intraOpNumThreads: 1,
      // Errors only: it warns that the file may be used on this kind of machine alone.
      logSeverityLevel: 3,
    });
    await session.release();
    return readModelFile(optimizedModelFilePath).graph;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** How often each operator stands in a graph. */
export function countOperators(graph: Graph): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { opType } of graph.nodes) counts[opType] = (counts[opType] ?? 0) + 1;
  return counts;
}

const floatKernels = [
  "Conv",
  "FusedConv",
  "ConvTranspose",
  "Gemm",
  "FusedGemm",
  "MatMul",
  "FusedMatMul",
  "MatMulNBits",
];

/** The layers of a graph that are computed in float. */
export function countFloatLayers(graph: Graph): number {
  return graph.nodes.filter((node) => floatKernels.includes(node.opType)).length;
}
