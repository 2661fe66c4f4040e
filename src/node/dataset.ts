import { existsSync } from "node:fs";
import { basename, extname, join } from "node:path";
import { arraySource, feedsSource, isPictureArray, partsOfPicture, pictureOfArray } from "../data/array-source.js";
import { checkNames } from "../data/fit.js";
import { readJsonl } from "../data/jsonl.js";
import { checkLabelCount, type Labels, labelsOfArray, readLabels } from "../data/labels.js";
import { readNpy } from "../data/npy.js";
import { readNpz } from "../data/npz.js";
import { takesPictures } from "../data/picture-input.js";
import { type Pictures, pictureSource } from "../data/picture-source.js";
import { assumedPreprocess } from "../data/preprocess.js";
import { type PreprocessConfig, readPreprocessConfig } from "../data/preprocess-config.js";
import { type SampleSource, samplesFrom } from "../data/sample-source.js";
import type { Samples } from "../data/samples.js";
import { RecoupError, withPlace } from "../errors.js";
import type { Value, ValueName } from "../graph/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import { isFolder } from "./file-stats.js";
import { labelFile, labelPictures, listPictures, picturesOfFolder } from "./picture-folder.js";
import { readWholeFile } from "./whole-file.js";

export interface DatasetOptions {
  /** A Hugging Face `preprocessor_config.json`. */
  readonly preprocess?: string;
  /** A `labels.csv`, a file of one label a line, or a `.npy` of integers. */
  readonly labels?: string;
  /** Where the model stands: `preprocessor_config.json` is looked for here when `preprocess` is not given. */
  readonly modelFolder?: string;
}

/**
 * Opens calibration or evaluation data: a folder of pictures (with `labels.csv`, with a subfolder for each class, or
 * unlabelled), a `.npy` array of pictures or of feeds, a `.npz` archive with an array for each input, or a `.jsonl` file
 * with a sample a line.
 *
 * @param inputs what the model is fed; without its initializers
 * @throws RecoupError `data/empty`, `data/unreadable`, `data/label`, `data/mismatch`, `preprocess/invalid`,
 * `file/not-found`, `file/unreadable`
 */
export async function openDataset(
  path: string,
  inputs: readonly Value[],
  options: DatasetOptions = {},
): Promise<Samples> {
  try {
    const { source, labels } = openSource(path, inputs, options);
    if (source.length === 0) throw new RecoupError("data/empty", "holds no samples");
    return samplesFrom(source, inputs, { labels, file: path });
  } catch (error) {
    throw withPlace(error, { file: path });
  }
}

interface Opened {
  readonly source: SampleSource;
  readonly labels?: readonly number[];
}

function openSource(path: string, inputs: readonly Value[], options: DatasetOptions): Opened {
  if (isFolder(path)) return openFolder(path, inputs, options);
  switch (extname(path).toLowerCase()) {
    case ".npy": {
      const array = readNpy(readWholeFile(path));
      if (isPictureArray(array) && takesPictures(inputs)) return openPictureArray(path, array, inputs, options);
      if (inputs.length !== 1) {
        const names = inputs.map(({ name }) => name).join(", ");
        const message = `feeds one input, the model has ${inputs.length} (${names}): give .npz or .jsonl`;
        throw new RecoupError("data/mismatch", message);
      }
      return openArrays(path, new Map([[inputs[0].name, array]]), options);
    }
    case ".npz": {
      const arrays = readNpz(readWholeFile(path));
      const [array] = arrays.values();
      if (arrays.size === 1 && isPictureArray(array) && takesPictures(inputs)) {
        return openPictureArray(path, array, inputs, options);
      }
      checkNames("archive", [...arrays.keys()], inputs);
      return openArrays(path, arrays, options);
    }
    case ".jsonl": {
      const samples = readJsonl(readWholeFile(path), inputs);
      return openFeeds(path, feedsSource(samples, `${samples.length} samples of ${basename(path)}`), options);
    }
    default:
      // Says so where there is no such file.
      readWholeFile(path);
      throw new RecoupError("data/unreadable", "is neither a folder of pictures nor a .npy, .npz or .jsonl file");
  }
}

function openFolder(folder: string, inputs: readonly Value[], options: DatasetOptions): Opened {
  const beside = join(folder, labelFile);
  const labelPath = options.labels ?? (existsSync(beside) ? beside : undefined);
  const listed = listPictures(folder);
  const pictures =
    labelPath === undefined ? listed : readLabelFile(labelPath, (labels) => labelPictures(listed, labels));
  const source = preparePictures(picturesOfFolder(pictures), inputs, options);
  return { source: withWarnings(source, pictures.warnings), labels: pictures.labels };
}

function openPictureArray(path: string, array: Tensor, inputs: readonly Value[], options: DatasetOptions): Opened {
  const [length] = array.shape;
  const pictures: Pictures = {
    length,
    description: `${length} pictures of ${basename(path)}`,
    idOf: namesIn(path),
    decode: async (index) => pictureOfArray(array, index),
    contents: (index) => partsOfPicture(pictureOfArray(array, index)),
  };
  return withListedLabels(preparePictures(pictures, inputs, options), options);
}

function openArrays(path: string, arrays: ReadonlyMap<ValueName, Tensor>, options: DatasetOptions): Opened {
  const [{ shape }] = arrays.values();
  return openFeeds(path, arraySource(arrays, `${shape[0]} samples of ${basename(path)}`), options);
}

/** Samples that are what the model takes already. */
function openFeeds(path: string, source: SampleSource, options: DatasetOptions): Opened {
  const warnings = options.preprocess ? [`${options.preprocess} was not used: the data are no pictures`] : [];
  return withListedLabels(withWarnings({ ...source, idOf: namesIn(path) }, warnings), options);
}

/** What a person calls the samples of a file: `calib.npy[3]`. */
function namesIn(path: string): (index: number) => string {
  return (index) => `${basename(path)}[${index}]`;
}

function preparePictures(pictures: Pictures, inputs: readonly Value[], options: DatasetOptions): SampleSource {
  const path = findPreprocess(options);
  if (path === undefined) {
    const [input] = inputs;
    const isRaw = input?.type.kind === "tensor" && input.type.elementType === "uint8";
    const assumed = isRaw ? "go in as they are" : "are scaled to 0 … 1";
    const warning = `no preprocessor_config.json was given or stands beside the model: pixels ${assumed}, nothing is resized`;
    const preprocess = isRaw ? { ...assumedPreprocess, rescaleFactor: 1 } : assumedPreprocess;
    return withWarnings(pictureSource(pictures, inputs, preprocess), [warning]);
  }
  try {
    const { preprocess, warnings } = readPreprocessFile(path);
    return withWarnings(pictureSource(pictures, inputs, preprocess), warnings);
  } catch (error) {
    // What the file says is wrong there; what does not fit the model is wrong with the data.
    throw error instanceof RecoupError && error.code === "preprocess/invalid"
      ? withPlace(error, { file: path })
      : error;
  }
}

function findPreprocess({ preprocess, modelFolder }: DatasetOptions): string | undefined {
  if (preprocess !== undefined || modelFolder === undefined) return preprocess;
  const beside = join(modelFolder, "preprocessor_config.json");
  return existsSync(beside) ? beside : undefined;
}

function readPreprocessFile(path: string): PreprocessConfig {
  return readPreprocessConfig(new TextDecoder().decode(readWholeFile(path)));
}

/** Labels of samples that have no names. */
function withListedLabels(source: SampleSource, { labels: path }: DatasetOptions): Opened {
  if (path === undefined) return { source };
  return readLabelFile(path, (labels) => {
    if (labels.kind === "table") {
      throw new RecoupError("data/label", "names files, the samples have no names: give one label a line or a .npy");
    }
    checkLabelCount(labels.labels, source.length);
    return { source, labels: labels.labels };
  });
}

/** Gives the labels to `use`; what is wrong with them is wrong in their file. */
function readLabelFile<Result>(path: string, use: (labels: Labels) => Result): Result {
  try {
    const bytes = readWholeFile(path);
    const isArray = extname(path).toLowerCase() === ".npy";
    return use(
      isArray ? { kind: "list", labels: labelsOfArray(readNpy(bytes)) } : readLabels(new TextDecoder().decode(bytes)),
    );
  } catch (error) {
    throw withPlace(error, { file: path });
  }
}

function withWarnings(source: SampleSource, warnings: readonly string[]): SampleSource {
  return { ...source, warnings: [...source.warnings, ...warnings] };
}
