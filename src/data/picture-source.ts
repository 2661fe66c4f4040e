import { withPlace } from "../errors.js";
import type { Value } from "../graph/graph.js";
import type { Parts } from "./fingerprint.js";
import type { Picture } from "./picture.js";
import { pictureInput } from "./picture-input.js";
import { pictureTensor, pixelValues } from "./picture-tensor.js";
import { describePreprocess, type Preprocess } from "./preprocess.js";
import type { SampleSource } from "./sample-source.js";

/** Pictures wherever they are kept. */
export interface Pictures {
  readonly length: number;
  /** What they are, without how they are prepared: `800 pictures of val`. */
  readonly description: string;
  idOf(index: number): string;
  /** @throws RecoupError `data/unreadable` */
  decode(index: number): Promise<Picture>;
  /**
   * The picture as it is kept, for a fingerprint.
   *
   * @throws RecoupError `data/unreadable`
   */
  contents(index: number): Parts;
}

/**
 * Pictures prepared for a model's only input.
 *
 * @throws RecoupError `data/mismatch` where the model takes no pictures, `preprocess/invalid` where mean or std are for
 * another number of channels
 */
export function pictureSource(pictures: Pictures, inputs: readonly Value[], preprocess: Preprocess): SampleSource {
  const input = pictureInput(inputs, preprocess);
  // Asked for once ahead of the first picture: what does not fit the model should not wait for it.
  pixelValues(preprocess, input);
  const isRaw = input.type === "uint8";
  const shown: Preprocess = isRaw ? { ...preprocess, rescaleFactor: 1, normalize: undefined } : preprocess;
  const isChanged = preprocess.rescaleFactor !== 1 || preprocess.normalize !== undefined;
  const warnings = isRaw && isChanged ? [`${input.name} takes uint8: pixels are neither rescaled nor normalized`] : [];
  return {
    length: pictures.length,
    description: `${pictures.description}: ${describePreprocess(shown)}`,
    warnings,
    idOf: (index) => pictures.idOf(index),
    load: async (index) => {
      const picture = await pictures.decode(index);
      try {
        return new Map([[input.name, pictureTensor(picture, preprocess, input)]]);
      } catch (error) {
        throw withPlace(error, { field: `picture ${pictures.idOf(index)}` });
      }
    },
    async *contents(index) {
      yield JSON.stringify([shown, input]);
      yield* pictures.contents(index);
    },
  };
}
