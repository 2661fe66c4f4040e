import { describe, expect, it } from "vitest";
import { groupBy } from "./group-by.js";

describe("groupBy", () => {
  it("keeps the order of groups and of what is in them", () => {
    expect([...groupBy([5, 2, 8, 3, 5], (value) => value % 3)]).toEqual([
      [2, [5, 2, 8, 5]],
      [0, [3]],
    ]);
  });
});
