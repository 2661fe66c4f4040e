export { checkpointFolder } from "./checkpoint-folder.js";
export { type CompareOptions, type Comparison, compare } from "./compare.js";
export { type DatasetOptions, openDataset } from "./dataset.js";
export { type EvaluateOptions, type Evaluation, evaluate, type Task } from "./evaluate.js";
export { type FileInspection, type InspectOptions, inspect } from "./inspect.js";
export { readModelFile, writeModelFile } from "./model-file.js";
export { type Cost, type Quantized, type QuantizeOptions, quantize } from "./quantize.js";
export { createRuntimeEngine, type RuntimeOptions } from "./runtime-engine.js";
export { type MeasuredStatistics, measureStatistics, type StatisticsOptions } from "./statistics.js";
