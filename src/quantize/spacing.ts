/**
 * How the levels of a grid lie. `uniform`: equidistant. `log`: each larger than the one below by the same ratio. `twin`: two
 * equidistant runs from zero, one in fine steps for small values and one in coarse steps.
 */
export const spacings = ["uniform", "log", "twin"] as const;
export type Spacing = (typeof spacings)[number];

/** The largest code of the 8-bit grid that the others are parts of. */
export const topCode = 255;

/** Where few levels are spread over all of the 8-bit grid the ratio between them is too large: they start higher up. */
const lowestLogCodes: ReadonlyMap<number, number> = new Map([
  [2, 12],
  [3, 3],
]);

/**
 * The codes of an 8-bit grid from zero upwards that a grid of fewer bits has in use, ascending from 0 to 255: 2^bits of them for
 * `log`, almost as many for `twin`. With 8 bits all codes are in use, however they shall lie.
 *
 * `log`: zero, and powers of the smallest ratio for which the codes suffice: 1.43 at 4 bits, where the paper has √2 whatever the
 * bits. Near zero, where powers fall between two codes, every code. `twin`: 2^(bits - 1) codes in coarse steps, as many in steps
 * that are 2^bits times finer, or as fine as the codes are.
 *
 * @param bits 2 to 8
 * @see docs/methods/softmax-grids.md; Li et al., RepQ-ViT, arXiv:2212.08254; Yuan et al., PTQ4ViT, arXiv:2111.12293
 */
export function codesInUse(spacing: Exclude<Spacing, "uniform">, bits: number): readonly number[] {
  if (bits === 8) return Array.from({ length: topCode + 1 }, (_, code) => code);
  return spacing === "log" ? logCodes(bits) : twinCodes(bits);
}

/** What each of the 256 codes becomes: the nearest code in use, of two equally near ones the lower, which more values lie below. */
export function tableOf(codes: readonly number[]): Uint8Array {
  let nearest = 0;
  return Uint8Array.from({ length: topCode + 1 }, (_, code) => {
    while (nearest + 1 < codes.length && codes[nearest + 1] - code < code - codes[nearest]) nearest++;
    return codes[nearest];
  });
}

function logCodes(bits: number): readonly number[] {
  const lowest = lowestLogCodes.get(bits) ?? 1;
  const most = 2 ** bits - 1;
  let [tooSmall, ratio] = [1, topCode];
  // The number of codes falls with the ratio: halved until float64 tells no more apart.
  for (let i = 0; i < 60; i++) {
    const middle = (tooSmall + ratio) / 2;
    if (powersDownTo(lowest, middle).length > most) tooSmall = middle;
    else ratio = middle;
  }
  return [...powersDownTo(lowest, ratio), 0].reverse();
}

/** From the top code downwards, each smaller than the one before by a ratio and by one at least. */
function powersDownTo(lowest: number, ratio: number): readonly number[] {
  const codes = [topCode];
  for (let code = topCode; code > lowest; codes.push(code)) {
    code = Math.max(Math.min(code - 1, Math.round(code / ratio)), lowest);
  }
  return codes;
}

function twinCodes(bits: number): readonly number[] {
  const run = 2 ** (bits - 1);
  const coarse = topCode / (run - 1);
  const fine = Math.max(coarse / 2 ** bits, 1);
  const codes = Array.from({ length: run }, (_, i) => [Math.round(i * fine), Math.round(i * coarse)]).flat();
  return [...new Set(codes)].sort((a, b) => a - b);
}
