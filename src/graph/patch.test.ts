import { describe, expect, it } from "vitest";
import { makeBody, makeIf } from "../../test/models.js";
import { float32Tensor } from "../tensor/tensor.js";
import { buildGraph, type Graph, type Node, subgraphsOf, type Value } from "./graph.js";
import { createNameSource } from "./names.js";
import { makeNode, withInputs } from "./node.js";
import { applyPatch, applyPatches, type GraphPatch, joinPatches } from "./patch.js";
import { PatchWriter, type SharedConstants } from "./patch-writer.js";

const value = (name: string): Value => ({ name, type: { kind: "other" } });
const one = float32Tensor([], [1]);

const relu = makeNode("Relu", ["x"], ["r"]);
const add = makeNode("Add", ["r", "w"], ["a"]);
const mul = makeNode("Mul", ["a", "v"], ["m"]);
const branch = makeBody(["n"], [makeNode("Add", ["r", "u"], ["n"])]);
const choice = makeIf("y", branch, makeBody(["r"], []));
const graph = buildGraph({
  name: "g",
  inputs: ["x", "c"].map(value),
  outputs: ["m", "y"].map(value),
  nodes: [relu, add, mul, choice],
  initializers: new Map(["w", "v", "u", "spare"].map((name) => [name, one])),
  valueInfo: new Map(["x", "r", "a", "m", "w", "spare"].map((name) => [name, value(name)])),
});

const patch = (changes: Omit<GraphPatch, "label">, target = graph): Graph =>
  applyPatch(target, { label: "test", ...changes });
const shown = ({ opType, inputs, outputs }: Node) => `${outputs} = ${opType}(${inputs})`;
const refused = (message: string, field?: string) =>
  expect.objectContaining({ code: "patch/invalid", message: `test: ${message}`, place: { field } });

describe("applyPatch", () => {
  it("exchanges a node and keeps the others as they are", () => {
    const sub = makeNode("Sub", ["r", "w"], ["a"]);
    const changed = patch({ remove: [add], add: [sub] });
    expect(changed.nodes).toEqual([relu, sub, mul, choice]);
    expect(changed.nodes[3]).toBe(choice);
    expect(changed.producer("a")).toBe(sub);
    expect(changed.consumers("a")).toEqual([mul]);
  });

  it("leaves the graph it was given as it was", () => {
    patch({ remove: [mul, choice], add: [makeNode("Abs", ["a"], ["m"]), makeNode("Abs", ["a"], ["y"])] });
    expect(graph.nodes).toEqual([relu, add, mul, choice]);
    expect(graph.consumers("a")).toEqual([mul]);
    expect([...graph.initializers.keys()]).toEqual(["w", "v", "u", "spare"]);
  });

  it("redirects all readers, those inside bodies and what bodies give back included", () => {
    const changed = patch({ redirect: new Map([["r", "r2"]]), add: [makeNode("Neg", ["r"], ["r2"])] });
    expect(changed.nodes.map(shown)).toEqual([
      "r = Relu(x)",
      "r2 = Neg(r)",
      "a = Add(r2,w)",
      "m = Mul(a,v)",
      "y = If(c)",
    ]);
    const [yes, no] = subgraphsOf(changed.nodes[4]);
    expect(yes.nodes.map(shown)).toEqual(["n = Add(r2,u)"]);
    expect(no.outputs.map((output) => output.name)).toEqual(["r2"]);
    expect(changed.consumers("r2").map((node) => node.outputs[0])).toEqual(["a", "y"]);
    expect(changed.consumers("r").map((node) => node.outputs[0])).toEqual(["r2"]);
  });

  it("redirects in one step, also where two values change places", () => {
    const changed = patch({
      redirect: new Map([
        ["w", "v"],
        ["v", "w"],
      ]),
    });
    expect(changed.nodes.map(shown).slice(1, 3)).toEqual(["a = Add(r,v)", "m = Mul(a,w)"]);
  });

  it("takes new nodes in any order and puts them before their first reader", () => {
    const chain = [makeNode("B", ["p"], ["q"]), makeNode("A", ["r"], ["p"]), makeNode("C", ["q"], ["s"])];
    const changed = patch({ add: chain, redirect: new Map([["a", "s"]]) });
    expect(changed.nodes.map((node) => node.outputs[0])).toEqual(["r", "a", "p", "q", "s", "m", "y"]);
  });

  it("lets a constant take over the name of a removed node's value", () => {
    const changed = patch({ remove: [add], initializers: new Map([["a", one]]) });
    expect(changed.constant("a")).toBe(one);
    expect(changed.nodes).toEqual([relu, mul, choice]);
  });

  it("drops initializers whose last reader it takes, and no others", () => {
    const kept = (changes: Omit<GraphPatch, "label">) => [...patch(changes).initializers.keys()].join(" ");
    expect(kept({ remove: [add], add: [withInputs(add, ["r", "r"])] })).toBe("v u spare");
    expect(kept({ redirect: new Map([["w", "v"]]) })).toBe("v u spare");
    expect(kept({ redirect: new Map([["u", "v"]]) })).toBe("w v spare");
    expect(kept({ initializers: new Map([["new", one]]) })).toBe("w v u spare");
    expect(kept({})).toBe("w v u spare");
  });

  it("keeps initializers that callers may override or that leave the graph", () => {
    const outer = buildGraph({
      ...graph,
      inputs: [...graph.inputs, value("w")],
      outputs: [...graph.outputs, value("v")],
    });
    const changed = patch(
      { redirect: new Map([["w", "u"]]), remove: [mul], add: [withInputs(mul, ["a", "u"])] },
      outer,
    );
    expect([...changed.initializers.keys()]).toEqual(["w", "v", "u", "spare"]);
  });

  it("keeps remarks on what it does not touch", () => {
    const remarks = (changed: Graph) => [...changed.valueInfo.keys()].join(" ");
    expect(remarks(patch({ redirect: new Map([["r", "r2"]]), add: [makeNode("Neg", ["r"], ["r2"])] }))).toBe(
      "x r a m w spare",
    );
    expect(remarks(patch({ remove: [add], add: [withInputs(add, ["r", "r"])] }))).toBe("x r m spare");
    expect(remarks(patch({ initializers: new Map([["w", one]]) }))).toBe("x r a m spare");
  });

  it("works inside a body", () => {
    const changed = patch({ remove: branch.nodes, add: [makeNode("Sub", ["r", "x"], ["n"])] }, branch);
    expect([...changed.captures]).toEqual(["r", "x"]);
  });

  it.each<readonly [about: string, message: string, field: string | undefined, changes: Omit<GraphPatch, "label">]>([
    [
      "a node that is not there",
      "removes a node that is not in the graph",
      "b",
      { remove: [makeNode("Abs", ["x"], ["b"])] },
    ],
    ["a copy of a node", "removes a node that is not in the graph", "a", { remove: [{ ...add }] }],
    ["a value that is there", "defines a value whose name is taken", "a", { add: [makeNode("Abs", ["x"], ["a"])] }],
    ["an input", "defines a value whose name is taken", "x", { add: [makeNode("Abs", ["r"], ["x"])] }],
    ["a value inside a body", "defines a value whose name is taken", "n", { add: [makeNode("Abs", ["x"], ["n"])] }],
    ["an output that is there", "is defined twice", "m", { add: [makeNode("Abs", ["x"], ["m"], {}, "abs")] }],
    [
      "a constant in the place of an input",
      "adds an initializer whose name is taken",
      "x",
      { initializers: new Map([["x", one]]) },
    ],
    [
      "a constant in the place of a value",
      "adds an initializer whose name is taken",
      "a",
      { initializers: new Map([["a", one]]) },
    ],
    [
      "a constant that a body makes",
      "adds an initializer whose name is taken",
      "n",
      { initializers: new Map([["n", one]]) },
    ],
    [
      "a value that nobody makes any more",
      "is read but no node, input or initializer defines it",
      "a",
      { remove: [add] },
    ],
    [
      "an output that nobody makes any more",
      "is read but no node, input or initializer defines it",
      "m",
      { remove: [mul] },
    ],
    [
      "a detour to nowhere",
      "is read but no node, input or initializer defines it",
      "z",
      { redirect: new Map([["r", "z"]]) },
    ],
    [
      "an output that leaves under its name",
      "redirects a value that leaves the graph",
      "m",
      { redirect: new Map([["m", "a"]]) },
    ],
    ["a circle", "is part of a cycle", "r", { redirect: new Map([["x", "a"]]) }],
    ["two nodes of a name", "is the name of two nodes", "r", { add: [makeNode("Abs", ["x"], ["b"], {}, "r")] }],
  ])("refuses %s and says who asked", (_about, message, field, changes) => {
    expect(() => patch(changes)).toThrow(refused(message, field));
  });

  it("changes 100000 nodes at once", () => {
    const fan = Array.from({ length: 100_000 }, (_, i) => makeNode("Relu", ["x"], [`v${i}`], {}, ""));
    const large = buildGraph({ ...graph, outputs: [], nodes: fan, initializers: new Map(), valueInfo: new Map() });
    const changed = patch({ redirect: new Map([["x", "x2"]]), add: [makeNode("Abs", ["x"], ["x2"])] }, large);
    expect(changed.nodes[0].opType).toBe("Abs");
    expect(changed.consumers("x2")).toHaveLength(100_000);
  });
});

describe("several patches", () => {
  const first: GraphPatch = { label: "one", remove: [add], add: [makeNode("Sub", ["r", "w"], ["a"])] };
  const second: GraphPatch = { label: "two", redirect: new Map([["v", "k"]]), initializers: new Map([["k", one]]) };

  it("may be applied one by one or as one", () => {
    const apart = applyPatches(graph, [first, second]);
    const together = applyPatch(graph, joinPatches("both", [first, second]));
    expect(together.nodes.map(shown)).toEqual(apart.nodes.map(shown));
    expect([...together.initializers.keys()]).toEqual([...apart.initializers.keys()]);
    expect(applyPatches(graph, [])).toBe(graph);
  });
});

describe("PatchWriter", () => {
  it("writes nodes and constants under free names", () => {
    const shared: SharedConstants = new Map();
    const names = createNameSource(graph);
    const write = () => {
      const writer = new PatchWriter(names, shared);
      const two = writer.constant("w", one);
      const same = writer.sharedConstant("shared", () => one);
      const product = writer.node("Mul", ["r", two], "r", { axis: 1 });
      writer.nodeTo("a", "Add", [product, same], add.attributes);
      return writer.finish("test", { remove: [add] });
    };
    expect((write().add ?? []).map(shown)).toEqual(["r_2 = Mul(r,w_2)", "a = Add(r_2,shared)"]);
    const again = write();
    expect((again.add ?? []).map(shown)).toEqual(["r_3 = Mul(r,w_3)", "a = Add(r_3,shared)"]);
    expect([...(again.initializers ?? new Map()).keys()]).toEqual(["w_3"]);
  });
});
