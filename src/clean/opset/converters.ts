import { axesConverters } from "./axes.js";
import { batchNormalizationConverters } from "./batch-normalization.js";
import { clipConverters } from "./clip.js";
import type { OpsetConverter } from "./converter.js";
import { dftConverters } from "./dft.js";
import { dropoutConverters } from "./dropout.js";
import { goneConverters } from "./gone.js";
import { gridSampleConverters } from "./grid-sample.js";
import { groupNormalizationConverters } from "./group-normalization.js";
import { padConverters } from "./pad.js";
import { resizeConverters } from "./resize.js";
import { roiAlignConverters } from "./roi-align.js";
import { scatterConverters } from "./scatter.js";
import { sliceConverters } from "./slice.js";
import { softmaxConverters } from "./softmax.js";
import { splitConverters } from "./split.js";
import { topKConverters } from "./top-k.js";

/**
 * Every change of the standard between operator sets 7 and 26 that gives a node another meaning. All others widen what is
 * allowed: more element types, attributes whose default is the old behaviour, further optional inputs, negative axes.
 *
 * @see onnx/onnx, docs/Changelog.md
 */
export const opsetConverters: readonly OpsetConverter[] = [
  ...axesConverters,
  ...batchNormalizationConverters,
  ...clipConverters,
  ...dftConverters,
  ...dropoutConverters,
  ...goneConverters,
  ...gridSampleConverters,
  ...groupNormalizationConverters,
  ...padConverters,
  ...resizeConverters,
  ...roiAlignConverters,
  ...scatterConverters,
  ...sliceConverters,
  ...softmaxConverters,
  ...splitConverters,
  ...topKConverters,
];

/** The first change of an operator after an operator set. */
export function findConverter(opType: string, after: number): OpsetConverter | undefined {
  return opsetConverters
    .filter((converter) => converter.opType === opType && converter.version > after)
    .sort((a, b) => a.version - b.version)[0];
}
