import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeNode } from "../graph/node.js";
import { matchesNode, matchesText } from "./match.js";

describe("matchesText", () => {
  it.each([
    ["/layer.1/*", "/layer.1/attn/MatMul", true],
    ["/layer.1/*", "/layer.10/attn/MatMul", false],
    ["*attn*", "/layer.1/attn/MatMul", true],
    ["*.MatMul", "/layer.1/attn/MatMul", false],
    ["*", "", true],
    ["", "", true],
    ["", "a", false],
    ["a*b*c", "a--b-b-c-c", true],
    ["a*b*c", "a--b-b-c-d", false],
    ["a**c", "ac", true],
  ])("%j on %j: %s", (pattern, text, expected) => {
    expect(matchesText(pattern, text)).toBe(expected);
  });

  it("agrees with a regular expression", () => {
    const letters = (of: readonly string[]) =>
      fc.array(fc.constantFrom(...of), { maxLength: 8 }).map((all) => all.join(""));
    fc.assert(
      fc.property(letters(["a", ".", "*"]), letters(["a", ".", "b"]), (pattern, text) => {
        const expression = pattern.replaceAll(".", "\\.").replaceAll("*", ".*");
        expect(matchesText(pattern, text)).toBe(new RegExp(`^${expression}$`).test(text));
      }),
      { seed: 1, numRuns: 2000 },
    );
  });

  it("ends soon on a pattern that makes others slow", () => {
    expect(matchesText("*a".repeat(50), `${"a".repeat(20_000)}b`)).toBe(false);
  });
});

describe("matchesNode", () => {
  const node = makeNode("Conv", ["x", "w"], ["y"], {}, "stem");
  it.each([
    ["stem", true],
    ["y", true],
    ["weight", true],
    ["x", false],
    ["w", false],
    ["op:Conv", true],
    ["op:Con*", true],
    ["op:stem", false],
    ["Conv", false],
  ])("%s: %s", (pattern, expected) => {
    expect(matchesNode([pattern], node, "weight")).toBe(expected);
    expect(matchesNode(["nothing", pattern], node, "weight")).toBe(expected);
  });

  it("goes by the first output where a node has no name", () => {
    expect(matchesNode(["y"], makeNode("Conv", ["x", "w"], ["y"], {}, ""), undefined)).toBe(true);
    expect(matchesNode([], node, undefined)).toBe(false);
  });
});
