import { describe, expect, it } from "vitest";
import { flat, productsOf, someInputs } from "../../test/slow-rounding.js";
import { factorGram, type GptqOptions } from "../quantize/gptq.js";
import { rememberFactors } from "./factors.js";

const options: GptqOptions = { order: "activation", damping: 0.01 };

function someGram(groups: number, size: number): Float64Array {
  const inputs = Array.from({ length: groups }, (_, g) => someInputs(9, size, g + 1));
  return Float64Array.from(inputs.flatMap((own) => [...flat(productsOf(own, own))]));
}

describe("rememberFactors", () => {
  it("factors the Gram matrix of each group", () => {
    const products = someGram(3, 4);
    const factored = rememberFactors()(products, 4, options);
    const expected = [0, 1, 2].map((g) => factorGram(products.slice(16 * g, 16 * (g + 1)), 4, options));
    expect(factored).toEqual(expected);
  });

  it("factors a matrix once for all that ask for the same", () => {
    const factorOnce = rememberFactors();
    const products = someGram(2, 4);
    const first = factorOnce(products, 4, options);
    expect(factorOnce(products, 4, { ...options })).toBe(first);
    expect(factorOnce(products, 4, { ...options, order: "natural" })).not.toEqual(first);
    expect(factorOnce(products, 4, { ...options, damping: 0.5 })).not.toEqual(first);
    expect(factorOnce(products, 4, options)).toBe(first);
  });

  it("does not take an equal matrix for the same one", () => {
    const factorOnce = rememberFactors();
    const products = someGram(1, 4);
    const doubled = products.map((value) => 2 * value);
    expect(factorOnce(doubled, 4, options)).not.toEqual(factorOnce(products, 4, options));
  });
});
