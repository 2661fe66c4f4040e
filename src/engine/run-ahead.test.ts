import { describe, expect, it } from "vitest";
import { runAhead } from "./run-ahead.js";

const items = [0, 1, 2, 3];

describe("runAhead", () => {
  it("gives each item with its result, in order", async () => {
    const results: unknown[] = [];
    for await (const pair of runAhead(items, async (item) => item * 2)) results.push(pair);
    expect(results).toEqual([
      [0, 0],
      [1, 2],
      [2, 4],
      [3, 6],
    ]);
  });

  it("has the next item under way while a result is looked at, and no more", async () => {
    const started: number[] = [];
    const run = async (item: number) => started.push(item);
    for await (const [item] of runAhead(items, run)) expect(started).toEqual(items.slice(0, item + 2));
  });

  it("fails where the item that failed comes up", async () => {
    const seen: number[] = [];
    const run = async (item: number) => {
      if (item >= 2) throw new Error(`item ${item}`);
    };
    const work = async () => {
      for await (const [item] of runAhead(items, run)) seen.push(item);
    };
    await expect(work()).rejects.toThrow("item 2");
    expect(seen).toEqual([0, 1]);
  });

  it("ends only when what is under way has ended", async () => {
    const ended: number[] = [];
    const run = async (item: number) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      ended.push(item);
    };
    for await (const [item] of runAhead(items, run)) if (item === 1) break;
    expect(ended).toEqual([0, 1, 2]);
  });
});
