import { describe, expect, it } from "vitest";
import { formatJson } from "./format.js";

describe("formatJson", () => {
  it("tells a ratio without error from one that is all error", () => {
    const { NaN: unknown, POSITIVE_INFINITY: most, NEGATIVE_INFINITY: least } = Number;
    const data = { sqnrDb: most, layers: [{ sqnrDb: least }, { sqnrDb: 20 }], kl: most, agreement: unknown };
    expect(JSON.parse(formatJson(data))).toEqual({
      sqnrDb: null,
      layers: [{ sqnrDb: "-Infinity" }, { sqnrDb: 20 }],
      kl: "Infinity",
      agreement: "NaN",
    });
  });
});
