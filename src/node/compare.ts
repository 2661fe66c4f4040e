import { compareLayers, type LayerComparison } from "../compare/layers.js";
import {
  compareLatency,
  compareOutputs,
  type LatencyComparison,
  type OutputComparison,
  warnOfOutputs,
} from "../compare/outputs.js";
import type { Sample } from "../data/samples.js";
import type { Engine } from "../engine/engine.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { RecoupError, withPlace } from "../errors.js";
import { fedInputs } from "../graph/fed-inputs.js";
import { type ModelSource, openDataFor, openModel } from "./model-source.js";
import { createRuntimeEngine } from "./runtime-engine.js";
import { naming, withBoth } from "./side-by-side.js";

export interface CompareOptions {
  /** Samples, labelled or not. */
  readonly data: string;
  readonly preprocess?: string;
  /** Only the first samples; default 64. */
  readonly limit?: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number) => void;
}

export interface Comparison {
  readonly samples: number;
  /** Model by reference. */
  readonly sizeRatio: number;
  readonly latencyRatio: number;
  readonly latency: LatencyComparison;
  readonly output: OutputComparison;
  /** Worst first; none where a warning says why. */
  readonly layers: readonly LayerComparison[];
  readonly warnings: readonly string[];
}

const defaultLimit = 64;

/**
 * Holds a quantized model against its original: size, latency in turns, outputs at the runtime's default options, and the
 * outputs of layers as the files say.
 *
 * @throws RecoupError for input that has to be changed and for work that broke off
 */
export async function compare(floatPath: string, path: string, options: CompareOptions): Promise<Comparison> {
  const reference = openModel(floatPath);
  const source = openModel(path);
  refuseOtherInputs(reference, source);
  const samples = await openDataFor(reference, options.data, options);
  const count = Math.min(options.limit ?? defaultLimit, samples.length);
  const indices = Array.from({ length: count }, (_, i) => i);
  const engine = createRuntimeEngine({ threads: options.threads, signal: options.signal });
  let done = 0;
  const step = () => options.onProgress?.(++done / (2 * count));
  try {
    const { output, latency } = await withBoth(reference, source, options, async (left, right) => {
      const few: Sample[] = [];
      for await (const sample of samples.read(indices.slice(0, 12))) few.push(sample);
      const timed = await compareLatency(left, right, few);
      return { output: await compareOutputs(left, right, samples.read(indices), step), latency: timed };
    });
    const compared = await layersOf(engine, reference, source, samples.read(indices), step);
    const sizeRatio = source.bytes / reference.bytes;
    const warnings = [...samples.warnings, ...warnOfOutputs(output), ...compared.warnings];
    const { layers } = compared;
    return { samples: count, sizeRatio, latencyRatio: latency.ratio, latency, output, layers, warnings };
  } catch (error) {
    throw withPlace(error, { file: path });
  } finally {
    await engine.close();
  }
}

/** Both models as one graph may be more than the runtime or an operator set takes; the other figures stand without it. */
async function layersOf(
  engine: Engine,
  reference: ModelSource,
  source: ModelSource,
  samples: AsyncIterable<Sample>,
  onSample: () => void,
): Promise<Pick<Comparison, "layers" | "warnings">> {
  try {
    const types = await inferValueTypes(naming(engine, reference.path), reference.model);
    const layers = await compareLayers(engine, reference.model, source.model, types, samples, onSample);
    return { layers, warnings: layers.length > 0 ? [] : ["no layer has an output of the same name in both models"] };
  } catch (error) {
    if (!(error instanceof RecoupError) || !["engine/refused", "onnx/unsupported"].includes(error.code)) throw error;
    const { field } = error.place;
    return { layers: [], warnings: [`layers were not compared: ${field ? `${field}: ` : ""}${error.message}`] };
  }
}

function refuseOtherInputs(reference: ModelSource, source: ModelSource): void {
  const namesOf = ({ model }: ModelSource) => fedInputs(model.graph).map(({ name }) => name);
  const [expected, found] = [namesOf(reference), namesOf(source)];
  if (found.length === expected.length && found.every((name) => expected.includes(name))) return;
  const message = `takes ${found.join(", ")} where the original takes ${expected.join(", ")}`;
  throw new RecoupError("data/mismatch", message, { file: source.path });
}
