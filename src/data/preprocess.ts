/** PIL's filters by name; see `resample.ts`. */
export type Filter = "nearest" | "lanczos" | "bilinear" | "bicubic" | "box" | "hamming";

export type Layout = "channels-first" | "channels-last";

/** Width and height in pixels. */
export interface Extent {
  readonly width: number;
  readonly height: number;
}

/** How large a picture is made before anything is cut off or added. */
export type Resize =
  /** Whatever its aspect ratio was. */
  | { readonly to: "exact"; readonly width: number; readonly height: number }
  /** The shorter edge becomes `edge`; then, if the other one is longer than `longest`, all shrinks until it is not. */
  | { readonly to: "shortest-edge"; readonly edge: number; readonly longest?: number }
  | { readonly to: "longest-edge"; readonly edge: number }
  /** As large as fits. */
  | { readonly to: "fit"; readonly width: number; readonly height: number; readonly rounding: "nearest" | "down" };

/** What is cut out of the resized picture, or laid around it. */
export type Frame =
  /** A picture that is too small gets a black border. */
  | { readonly kind: "center-crop"; readonly width: number; readonly height: number }
  | {
      readonly kind: "pad";
      readonly width: number;
      readonly height: number;
      readonly position: "center" | "top-left";
      /** Of all channels, 0 … 255, as a pixel: before rescaling and normalizing. */
      readonly value: number;
    };

/** What a picture goes through on its way into a model, in this order. Plain data with every default filled in. */
export interface Preprocess {
  readonly resize?: Resize;
  /** Used by `resize`. */
  readonly filter: Filter;
  readonly frame?: Frame;
  readonly channelOrder: "RGB" | "BGR";
  /** 1 where pixels stay 0 … 255. */
  readonly rescaleFactor: number;
  /** (x − mean) / std after rescaling, per channel in the order the model takes them; one number is for all channels. */
  readonly normalize?: { readonly mean: readonly number[]; readonly std: readonly number[] };
  /** Taken from the model's input where it is not given. */
  readonly layout?: Layout;
}

/** What is done where nobody says what to do: pixels become 0 … 1, and pictures keep their size. */
export const assumedPreprocess: Preprocess = {
  filter: "bilinear",
  channelOrder: "RGB",
  rescaleFactor: 1 / 255,
};

/** One line for a report. */
export function describePreprocess(preprocess: Preprocess): string {
  const { resize, filter, frame, channelOrder, rescaleFactor, normalize } = preprocess;
  const parts = [
    resize ? `${describeResize(resize)}, ${filter}` : "not resized",
    frame?.kind === "center-crop" && `center crop ${frame.width}×${frame.height}`,
    frame?.kind === "pad" && `padded with ${frame.value} to ${frame.width}×${frame.height}, ${frame.position}`,
    channelOrder === "BGR" && "BGR",
    rescaleFactor !== 1 && `times ${Number(rescaleFactor.toPrecision(6))}`,
    normalize && `mean ${describeNumbers(normalize.mean)}, std ${describeNumbers(normalize.std)}`,
  ];
  return parts.filter((part) => part).join("; ");
}

function describeResize(resize: Resize): string {
  switch (resize.to) {
    case "exact":
      return `resized to ${resize.width}×${resize.height}`;
    case "fit":
      return `resized to fit ${resize.width}×${resize.height}`;
    case "longest-edge":
      return `longest edge resized to ${resize.edge}`;
    case "shortest-edge":
      return `shortest edge resized to ${resize.edge}${resize.longest ? `, at most ${resize.longest}` : ""}`;
  }
}

function describeNumbers(numbers: readonly number[]): string {
  return numbers.map((number) => Number(number.toPrecision(4))).join(" ");
}
