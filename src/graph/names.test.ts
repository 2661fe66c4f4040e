import { describe, expect, it } from "vitest";
import { makeBody, makeIf } from "../../test/models.js";
import { float32Tensor } from "../tensor/tensor.js";
import { buildGraph } from "./graph.js";
import { collectNames, createNameSource, freePrefix } from "./names.js";
import { makeNode } from "./node.js";

const inner = makeBody(["deep"], [makeNode("Neg", ["x"], ["deep"], {}, "deep node")]);
const body = makeBody(["out"], [makeIf("out", inner, makeBody(["e"], [makeNode("Abs", ["x"], ["e"])]))]);
const graph = buildGraph({
  name: "g",
  inputs: ["x", "c"].map((name) => ({ name, type: { kind: "other" } })),
  outputs: [{ name: "y", type: { kind: "other" } }],
  nodes: [makeIf("y", body, body), makeNode("Relu", ["x"], ["", "r"], {}, "relu")],
  initializers: new Map([["w", float32Tensor([], [1])]]),
  valueInfo: new Map(),
});

it("collects the names of values and nodes, those inside bodies included", () => {
  const names = new Set<string>();
  collectNames(graph, names);
  expect([...names].sort()).toEqual(["", "c", "deep", "deep node", "e", "out", "r", "relu", "w", "x", "y"]);
});

describe("createNameSource", () => {
  it("gives a name itself where it is free, and never twice", () => {
    const names = createNameSource(graph);
    expect(["new", "new", "new"].map(names.fresh)).toEqual(["new", "new_2", "new_3"]);
  });

  it.each(["x", "w", "y", "r", "relu", "deep", "deep node"])("does not give %s, which is taken", (name) => {
    expect(createNameSource(graph).fresh(name)).toBe(`${name}_2`);
  });

  it("passes over numbered names that are taken", () => {
    const names = createNameSource(graph);
    names.fresh("w_2");
    names.fresh("w_3");
    expect(names.fresh("w")).toBe("w_4");
    expect(names.fresh("w_2")).toBe("w_2_2");
  });

  it("never gives an empty name", () => {
    expect(createNameSource({ ...graph, nodes: [] }).fresh("")).not.toBe("");
  });

  it("gives 100000 names of one base without counting from the start each time", () => {
    const names = createNameSource(graph);
    const given = Array.from({ length: 100_000 }, () => names.fresh("w"));
    expect(new Set(given).size).toBe(100_000);
    expect(given[99_999]).toBe("w_100001");
  });
});

it("finds a prefix that no name has", () => {
  expect(freePrefix([graph], "float/")).toBe("float/");
  expect(freePrefix([graph], "de")).toBe("_de");
  const other = { ...graph, initializers: new Map([["_de", float32Tensor([], [1])]]) };
  expect(freePrefix([graph, other], "de")).toBe("__de");
});
