/**
 * Items in such an order that each stands behind those that it needs; apart from that the order stays. Works without
 * recursion: chains may be long.
 *
 * @param refuse makes the error for an item that needs itself, perhaps by way of others
 */
export function needsFirst<Item>(
  items: Iterable<Item>,
  needsOf: (item: Item) => readonly Item[],
  refuse: (item: Item) => Error,
): readonly Item[] {
  const sorted: Item[] = [];
  const state = new Map<Item, "open" | "done">();
  for (const root of items) {
    const stack = [root];
    while (stack.length > 0) {
      const item = stack[stack.length - 1];
      if (state.get(item) === "done") {
        stack.pop();
        continue;
      }
      state.set(item, "open");
      const waiting = needsOf(item).filter((need) => state.get(need) !== "done");
      const looping = waiting.find((need) => state.get(need) === "open");
      if (looping !== undefined) throw refuse(looping);
      if (waiting.length === 0) {
        state.set(item, "done");
        sorted.push(item);
        stack.pop();
      }
      for (const need of waiting.reverse()) stack.push(need);
    }
  }
  return sorted;
}
