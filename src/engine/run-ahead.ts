/**
 * Runs items one after the other and gives each with its result, in order. The next item is under way while the caller
 * looks at a result, so that the runtime need not wait.
 */
export async function* runAhead<Item, Result>(
  items: Iterable<Item> | AsyncIterable<Item>,
  run: (item: Item) => Promise<Result>,
): AsyncGenerator<readonly [item: Item, result: Result]> {
  let ahead: readonly [Item, Promise<Result>] | undefined;
  try {
    for await (const item of items) {
      const last = ahead;
      ahead = [item, run(item)];
      // Whoever takes the result sees its error; one that nobody takes must not end the process.
      ahead[1].catch(() => undefined);
      if (last) yield [last[0], await last[1]];
    }
    if (ahead) yield [ahead[0], await ahead[1]];
  } finally {
    await ahead?.[1].catch(() => undefined);
  }
}
