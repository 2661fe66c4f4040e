import type { Model } from "../graph/model.js";
import { tensorsInPlace } from "../onnx/references.js";
import { checkExternalFile, defaultInlineLimit } from "./model-file.js";

/**
 * Where the runtime finds the tensors of a model that nobody has changed, so that gigabytes of them are not copied; undefined
 * where all of the model has to be written.
 *
 * @throws RecoupError `onnx/external-data` for files that are not to be read
 */
export function folderOfTensors({ graph }: Model): string | undefined {
  const found = tensorsInPlace(graph);
  if (found === undefined || found.otherBytes > defaultInlineLimit) return undefined;
  for (const [location, { end, tensor }] of found.ends) checkExternalFile(found.folder, location, end, tensor);
  return found.folder;
}
