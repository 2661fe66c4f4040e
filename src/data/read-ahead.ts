/** Items that are prepared before they are asked for: enough to hide decoding, few enough to hold. */
const itemsAhead = 4;

/**
 * Loads items in the given order, some of them ahead of the consumer. An error reaches the consumer when the item's turn
 * comes; a consumer that stops early leaves nothing behind but what is being loaded already.
 */
export async function* readAhead<Key, Item>(
  keys: readonly Key[],
  load: (key: Key) => Promise<Item>,
  ahead = itemsAhead,
): AsyncGenerator<Item, void, undefined> {
  const loading: Promise<Item>[] = [];
  let next = 0;
  const start = () => {
    while (loading.length < ahead && next < keys.length) {
      const item = load(keys[next++]);
      // Whoever takes the item sees its error; one that nobody takes must not end the process.
      item.catch(() => undefined);
      loading.push(item);
    }
  };
  start();
  while (loading.length > 0) {
    const item = await loading[0];
    loading.shift();
    start();
    yield item;
  }
}
