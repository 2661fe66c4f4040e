import { type FactoredGram, factorGram, type GptqOptions } from "../quantize/gptq.js";

/** Factors the Gram matrix of each group; layers that read the same input ask for the same. */
export type FactorOnce = (products: Float64Array, columns: number, options: GptqOptions) => readonly FactoredGram[];

/** Remembers the factors of Gram matrices as long as somebody holds the matrices. */
export function rememberFactors(): FactorOnce {
  const known = new WeakMap<Float64Array, Map<string, readonly FactoredGram[]>>();
  return (products, columns, { order, damping }) => {
    const key = `${order} ${damping}`;
    const factored = known.get(products) ?? new Map<string, readonly FactoredGram[]>();
    known.set(products, factored);
    const size = columns ** 2;
    const found =
      factored.get(key) ??
      Array.from({ length: products.length / size }, (_, g) =>
        factorGram(products.subarray(g * size, (g + 1) * size), columns, { order, damping }),
      );
    factored.set(key, found);
    return found;
  };
}
