import type { RecipeInput } from "./recipe.js";

/** A recipe with a name. */
export interface Preset {
  readonly name: string;
  /** What it is for, in a line. */
  readonly summary: string;
  readonly recipe: RecipeInput;
}

const gptqToOwnInput = { use: "gptq", target: "unquantized" } as const;
const gptqToFloat = { use: "gptq", target: "float" } as const;

/** Every preset, in the order of help. Settings override what it says: `--preset vit --activations 8`. */
export const presets: readonly Preset[] = [
  {
    name: "balanced",
    summary: "8 bits, biases compensated: a quarter of the size on integer kernels, at the accuracy of the original",
    recipe: { steps: ["bc"] },
  },
  {
    name: "fastest",
    summary: "8 bits as plain int8, nothing to unpack: the shortest calibration and the shortest time to load",
    recipe: { storage: "int8" },
  },
  {
    name: "smallest",
    summary: "3-bit weights, edges at 8 bits: a tenth of the size where a few points of accuracy may go",
    recipe: {
      formats: [{ weight: { bits: 3, rounding: { use: "gptq" } }, activation: { bits: 8 } }],
      edges: 8,
      steps: ["bc"],
    },
  },
  {
    name: "cnn-low-bit",
    summary: "convolutional networks at 4 bits and below: GPTQ towards the float network, biases compensated",
    recipe: {
      formats: [{ weight: { bits: 4, rounding: gptqToFloat }, activation: { bits: 4 } }],
      edges: 8,
      steps: ["bc"],
    },
  },
  {
    name: "vit",
    summary: "vision transformers at 4 bits: normalized channels in one range, GPTQ, biases and blocks compensated",
    recipe: {
      formats: [{ weight: { bits: 4, rounding: gptqToOwnInput }, activation: { bits: 4 } }],
      edges: 8,
      steps: ["layernorm", "bc", "qwt"],
    },
  },
  {
    name: "llm-weight-only",
    summary: "language models: 4-bit weights in groups of 32, rounded with GPTQ; activations stay in float",
    recipe: {
      formats: [
        {
          weight: { bits: 4, granularity: "group:32", rounding: { use: "gptq", target: "same" } },
          activation: "float",
        },
      ],
    },
  },
];
