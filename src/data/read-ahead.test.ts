import { describe, expect, it } from "vitest";
import { readAhead } from "./read-ahead.js";

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

describe("readAhead", () => {
  it("keeps the order, whatever finishes first", async () => {
    const load = async (key: number) => {
      await new Promise((resolve) => setTimeout(resolve, key === 0 ? 20 : 1));
      return key * 10;
    };
    expect(await collect(readAhead([0, 1, 2, 3, 4], load))).toEqual([0, 10, 20, 30, 40]);
  });

  it("has a few items under way and no more", async () => {
    let underWay = 0;
    let most = 0;
    const load = async (key: number) => {
      most = Math.max(most, ++underWay);
      await Promise.resolve();
      underWay--;
      return key;
    };
    await collect(readAhead([...Array(20).keys()], load, 3));
    expect(most).toBe(3);
  });

  it("prepares the next items while the consumer works", async () => {
    const loaded: number[] = [];
    const items = readAhead([0, 1, 2, 3, 4, 5], async (key) => loaded.push(key), 2);
    await items.next();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(loaded).toEqual([0, 1, 2]);
  });

  it("gives an error when the item's turn comes", async () => {
    const load = async (key: number) => {
      if (key === 2) throw new Error("broken");
      return key;
    };
    const seen: number[] = [];
    const reading = (async () => {
      for await (const item of readAhead([0, 1, 2, 3], load)) seen.push(item);
    })();
    await expect(reading).rejects.toThrow("broken");
    expect(seen).toEqual([0, 1]);
  });

  it("leaves no unhandled rejection behind a consumer that stops", async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on("unhandledRejection", note);
    const load = async (key: number) => {
      if (key > 0) throw new Error("broken");
      return key;
    };
    for await (const item of readAhead([0, 1, 2], load)) if (item === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
    process.off("unhandledRejection", note);
    expect(unhandled).toEqual([]);
  });

  it("loads nothing where nothing is asked for", async () => {
    expect(await collect(readAhead([], async () => 1))).toEqual([]);
  });
});
