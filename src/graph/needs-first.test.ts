import { describe, expect, it } from "vitest";
import { needsFirst } from "./needs-first.js";

const refuse = (item: unknown) => new Error(`${item} needs itself`);

function order(items: string, needs: Readonly<Record<string, string>>): string {
  return needsFirst([...items], (item) => [...(needs[item] ?? "")], refuse).join("");
}

describe("needsFirst", () => {
  it("puts each item behind those that it needs, once, and leaves the order apart from that", () => {
    expect(order("abcd", {})).toBe("abcd");
    expect(order("abcd", { a: "c", b: "a" })).toBe("cabd");
    expect(order("abcd", { a: "dc", c: "d" })).toBe("dcab");
    expect(order("a", { a: "bc", b: "d", c: "d" })).toBe("dbca");
  });

  it("refuses an item that needs itself, by way of others too", () => {
    expect(() => order("ab", { b: "b" })).toThrow("b needs itself");
    expect(() => order("abc", { a: "b", b: "c", c: "b" })).toThrow("b needs itself");
  });

  it("takes a long chain, and an item that needs very many", () => {
    const count = 200_000;
    const numbers = Array.from({ length: count }, (_, i) => i);
    const chained = needsFirst(numbers, (i) => (i + 1 < count ? [i + 1] : []), refuse);
    expect([chained[0], chained.at(-1), chained.length]).toEqual([count - 1, 0, count]);
    const wide = needsFirst([0], (i) => (i === 0 ? numbers.slice(1) : []), refuse);
    expect([wide[0], wide.at(-1), wide.length]).toEqual([1, 0, count]);
  });
});
