import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Offer, spendBudget } from "./spend-budget.js";

describe("spendBudget", () => {
  it("buys the largest drop per cost first, and what is left over after that", () => {
    const offers: readonly Offer[] = [
      { costs: [0, 2, 4], errors: [10, 6, 5] },
      { costs: [0, 1, 2], errors: [10, 9, 2] },
      { costs: [0, 1], errors: [10, 10] },
    ];
    expect(spendBudget(offers, 4)).toEqual([1, 2, 0]);
    expect(spendBudget(offers, 3)).toEqual([0, 2, 0]);
    expect(spendBudget(offers, 0)).toEqual([0, 0, 0]);
  });

  it("never spends more than there is, and nothing on what does not lower an error", () => {
    const offer = fc
      .array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 9 })), { maxLength: 4 })
      .map((steps) => ({
        costs: [0, ...steps.map((_, i) => steps.slice(0, i + 1).reduce((sum, [cost]) => sum + cost, 0))],
        errors: [9, ...steps.map(([, error]) => error)],
      }));
    fc.assert(
      fc.property(fc.array(offer, { maxLength: 5 }), fc.integer({ min: 0, max: 30 }), (offers, budget) => {
        const places = spendBudget(offers, budget);
        const spent = places.reduce((sum, place, i) => sum + offers[i].costs[place], 0);
        expect(spent).toBeLessThanOrEqual(budget);
        for (const [i, place] of places.entries()) {
          if (place > 0) expect(offers[i].errors[place]).toBeLessThan(offers[i].errors[0]);
        }
      }),
    );
  });
});
