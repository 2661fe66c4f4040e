/** Before 7, operators broadcast and mark inference in ways that no runtime at hand reads any more. */
export const oldestOpset = 7;

/** What the converters lead to is whole from here on; nothing asks for less. */
export const oldestTarget = 13;

/** The newest operator set whose changes the converters know. */
export const newestOpset = 26;

/** First operator set that needs each version of the file format. */
const irVersions: readonly (readonly [opset: number, irVersion: number])[] = [
  [25, 13],
  [24, 12],
  [23, 11],
  [21, 10],
  [19, 9],
  [15, 8],
  [12, 7],
  [11, 6],
  [10, 5],
  [9, 4],
];

/**
 * The version of the file format that came with an operator set.
 *
 * @see onnx/onnx, docs/Versioning.md, table of releases
 */
export function irVersionFor(opset: number): number {
  return irVersions.find(([first]) => opset >= first)?.[1] ?? 3;
}
