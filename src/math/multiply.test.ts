import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dotProduct, multiply, rowProducts } from "./multiply.js";
import { createRandom } from "./random.js";

function someNumbers(count: number, seed: number): Float64Array {
  const random = createRandom(seed);
  return Float64Array.from({ length: count }, () => random.next() / 2 ** 32 - 0.5);
}

const count = fc.integer({ min: 1, max: 12 });

describe("multiply", () => {
  it("sums products over the inner size, whatever the sizes", () => {
    fc.assert(
      fc.property(count, fc.integer({ min: 0, max: 101 }), count, (rows, inner, columns) => {
        const [left, right] = [someNumbers(rows * inner, 1), someNumbers(inner * columns, 2)];
        const product = multiply(left, right, rows, inner, columns);
        expect(product.length).toBe(rows * columns);
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < columns; j++) {
            let sum = 0;
            for (let k = 0; k < inner; k++) sum += left[i * inner + k] * right[k * columns + j];
            expect(product[i * columns + j]).toBeCloseTo(sum, 10);
          }
        }
      }),
      { seed: 1, numRuns: 50 },
    );
  });
});

describe("rowProducts", () => {
  it("multiplies some rows with others over the first columns, whatever the sizes", () => {
    fc.assert(
      fc.property(count, fc.nat(9), fc.integer({ min: 1, max: 7 }), fc.nat(3), (leftRows, length, width, start) => {
        const columns = length + 2;
        const [left, right] = [someNumbers(leftRows * columns, 3), someNumbers((start + width) * columns, 4)];
        const products = rowProducts(left, leftRows, right, [start, start + width], columns, length);
        for (let row = 0; row < leftRows; row++) {
          for (let j = 0; j < width; j++) {
            let sum = 0;
            for (let i = 0; i < length; i++) sum += left[row * columns + i] * right[(start + j) * columns + i];
            expect(products[row * width + j]).toBeCloseTo(sum, 10);
          }
        }
      }),
      { seed: 1, numRuns: 50 },
    );
  });
});

describe("dotProduct", () => {
  it.each([0, 1, 3, 4, 5, 11])("sums %i products from one place on in each row", (length) => {
    const [left, right] = [someNumbers(20, 5), someNumbers(20, 6)];
    let sum = 0;
    for (let i = 0; i < length; i++) sum += left[2 + i] * right[7 + i];
    expect(dotProduct(left, 2, right, 7, length)).toBeCloseTo(sum, 12);
  });
});
