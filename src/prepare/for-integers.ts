import type { Model } from "../graph/model.js";
import { withGraph } from "../graph/model.js";
import { createNameSource } from "../graph/names.js";
import { applyPatches } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import { expandLrn } from "./expand-lrn.js";

/** The network in the form that onnxruntime's integer kernels are found in; every value keeps its name and meaning. */
export function prepareForIntegers(model: Model, types: ValueTypes): Model {
  const { graph } = model;
  const patches = expandLrn(graph, types, createNameSource(graph));
  return patches.length === 0 ? model : withGraph(model, applyPatches(graph, patches));
}
