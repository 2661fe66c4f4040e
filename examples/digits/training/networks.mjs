import { cnn } from "./cnn.mjs";
import { vit } from "./vit.mjs";

/** The networks by the names of their folders under `models`. */
export const networks = { cnn, vit };
