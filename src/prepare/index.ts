import type { AnyStep } from "../step/open-step.js";
import { layerNormReparametrization } from "./layer-norm.js";
import { outlierChannelSplitting } from "./ocs.js";

/**
 * Every step that changes a float network before it is quantized and keeps its function, in the order of help. To add one is
 * a file and a line here.
 */
export const preparations: readonly AnyStep[] = [layerNormReparametrization, outlierChannelSplitting];
