/** What one place could spend, and what would be left of its error: nothing first, then ascending costs. */
export interface Offer {
  readonly costs: readonly number[];
  readonly errors: readonly number[];
}

/**
 * Spends a budget where it pays most: again and again the step with the largest drop of error per cost, of those that the rest
 * of the budget pays for.
 *
 * @returns for each offer the place in its list
 */
export function spendBudget(offers: readonly Offer[], budget: number): readonly number[] {
  const places = offers.map(() => 0);
  let left = budget;
  for (;;) {
    let best:
      | { readonly offer: number; readonly place: number; readonly cost: number; readonly gain: number }
      | undefined;
    for (const [offer, { costs, errors }] of offers.entries()) {
      const at = places[offer];
      for (let place = at + 1; place < costs.length; place++) {
        const cost = costs[place] - costs[at];
        const gain = (errors[at] - errors[place]) / cost;
        if (cost <= left && gain > (best?.gain ?? 0)) best = { offer, place, cost, gain };
      }
    }
    if (best === undefined) return places;
    places[best.offer] = best.place;
    left -= best.cost;
  }
}
