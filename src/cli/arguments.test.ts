import { describe, expect, it } from "vitest";
import { byteSize } from "./arguments.js";

describe("byteSize", () => {
  const parse = byteSize("--memory");

  it.each([
    ["0", 0],
    ["1000000", 1e6],
    ["12B", 12],
    ["3kB", 3e3],
    ["256MB", 256e6],
    ["256mb", 256e6],
    ["2 GB", 2e9],
    ["1.5GB", 1.5e9],
    ["1TB", 1e12],
  ])("takes %s", (text, bytes) => {
    expect(parse(text)).toBe(bytes);
  });

  it.each(["", " ", "MB", "-1", "-1GB", "1e9", "1,5GB", "2GiB", "lots", "NaN", "Infinity", "2000TB", "1 2MB"])(
    "refuses %j and names the flag",
    (text) => {
      expect(() => parse(text)).toThrow(
        expect.objectContaining({
          code: "usage/argument",
          exitCode: 2,
          place: { field: "--memory" },
          message: expect.stringContaining(JSON.stringify(text)),
        }),
      );
    },
  );
});
