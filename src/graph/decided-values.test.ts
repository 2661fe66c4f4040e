import { describe, expect, it } from "vitest";
import { DecidedValues } from "./decided-values.js";

describe("DecidedValues", () => {
  it("looks at each value once, on however many ways it is reached, and goes as deep as it has to", () => {
    const depth = 200_000;
    let asked = 0;
    const decided = new DecidedValues((value, known) => {
      const level = Number(value);
      if (level === 0) return true;
      // Two ways lead from each level to the next.
      const above = [level - 1, Math.max(0, level - 2)].map(String);
      const open = above.filter((one) => known(one) === undefined);
      if (open.length > 0) return open;
      asked++;
      return above.every(known);
    });
    expect(decided.of(String(depth))).toBe(true);
    expect(decided.of(String(depth - 1))).toBe(true);
    expect(asked).toBe(depth);
  });

  it("tells what does not hold", () => {
    const decided = new DecidedValues((value, known) => (value === "a" ? false : (known("a") ?? ["a"])));
    expect([decided.of("b"), decided.of("a")]).toEqual([false, false]);
  });
});
