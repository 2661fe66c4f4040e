import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { float32Tensor } from "../tensor/tensor.js";
import { prefetch } from "./prefetch.js";
import type { Sample } from "./samples.js";

const sampleOf = (index: number): Sample => ({
  id: `${index}`,
  feeds: new Map([["x", float32Tensor([1], [index])]]),
});

/** Samples that take their time, and how many were read so far. */
function source(count: number, failAt = -1) {
  const read = { count: 0 };
  async function* samples() {
    for (let i = 0; i < count; i++) {
      if (i % 3 === 1) await new Promise((resolve) => setTimeout(resolve, 0));
      if (i === failAt) throw new Error("unreadable");
      read.count++;
      yield sampleOf(i);
    }
  }
  return { samples: samples(), read };
}

const later = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("prefetch", () => {
  it("gives every sample once and in order, however many may wait and however slow the consumer is", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(12), fc.nat(40), fc.boolean(), async (count, most, isSlow) => {
        const ids: string[] = [];
        for await (const { id } of prefetch(source(count).samples, most)) {
          if (isSlow) await new Promise((resolve) => setTimeout(resolve, 0));
          ids.push(id);
        }
        expect(ids).toEqual(Array.from({ length: count }, (_, i) => `${i}`));
      }),
      { seed: 1, numRuns: 40 },
    );
  });

  it("reads before it is asked, as many bytes as may wait", async () => {
    const { samples, read } = source(100);
    const prefetched = prefetch(samples, 10);
    await later();
    // The third sample of four bytes goes over the limit.
    expect(read.count).toBe(3);
    for await (const { id } of prefetched) if (id === "4") break;
    await later();
    expect(read.count).toBeLessThanOrEqual(9);
  });

  it("passes an error on when its turn comes, and not before", async () => {
    const prefetched = prefetch(source(5, 2).samples);
    await later();
    const ids: string[] = [];
    const all = async () => {
      for await (const { id } of prefetched) ids.push(id);
    };
    await expect(all()).rejects.toThrow("unreadable");
    expect(ids).toEqual(["0", "1"]);
  });

  it("reads no more once it is closed, and an error that nobody takes harms nobody", async () => {
    const { samples, read } = source(100, 7);
    const prefetched = prefetch(samples, 10);
    await later();
    prefetched.close();
    await later();
    expect(read.count).toBeLessThanOrEqual(4);
    prefetch(source(3, 1).samples).close();
    await later();
  });
});
