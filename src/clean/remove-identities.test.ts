import { afterAll, describe, expect, it } from "vitest";
import {
  largestDifference,
  makeBody,
  makeIf,
  makeTestModel,
  runModel,
  someFloats,
  type TestModelParts,
  yes,
} from "../../test/models.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, int64Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { removeIdentities } from "./remove-identities.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 3, 4]);
const initializers = {
  zero: float32Tensor([], [0]),
  one: float32Tensor([1], [1]),
  zeros: float32Tensor([4], [0, 0, 0, 0]),
  wide: float32Tensor([1, 1, 1, 1], [1]),
  minus: float32Tensor([3, 1], [1, 1, -1]),
  same: int64Tensor([3], [2, -1, 4]),
  copied: int64Tensor([3], [0, 0, -1]),
  flat: int64Tensor([3], [2, 4, 3]),
  nothing: int64Tensor([6], [0, 0, 0, 0, 0, 0]),
  ratio: float32Tensor([], [0.5]),
  no: tensorFromBytes("bool", [], new Uint8Array([0])),
};

/** Between two nodes that stay: `a` is read, `b` is written. */
function between(...nodes: readonly Node[]): Omit<TestModelParts, "feeds"> {
  return { nodes: [makeNode("Neg", ["x"], ["a"]), ...nodes, makeNode("Relu", ["b"], ["y"])], outputs: ["y"] };
}

const opTypes = (nodes: readonly Node[]) => nodes.map((node) => node.opType).join(" ");

async function clean(parts: Omit<TestModelParts, "feeds">) {
  const { model, feeds } = makeTestModel({ feeds: { x, c: yes }, initializers, ...parts });
  const result = await removeIdentities.run(model, { engine });
  const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, result.model, feeds)];
  expect(largestDifference(before, after)).toBe(0);
  return { model, result, left: opTypes(result.model.graph.nodes) };
}

const passing: readonly (readonly [about: string, parts: Omit<TestModelParts, "feeds">])[] = [
  ["Identity", between(makeNode("Identity", ["a"], ["b"]))],
  [
    "a chain",
    between(makeNode("Identity", ["a"], ["i"]), makeNode("Identity", ["i"], ["j"]), makeNode("Identity", ["j"], ["b"])),
  ],
  ["Dropout", between(makeNode("Dropout", ["a", "ratio"], ["b"]))],
  ["Dropout told not to train", between(makeNode("Dropout", ["a", "ratio", "no"], ["b", "mask"]))],
  ["old Dropout", { ...between(makeNode("Dropout", ["a"], ["b"])), opset: 10 }],
  ["Cast to the same type", between(makeNode("Cast", ["a"], ["b"], { to: 1 }))],
  ["Transpose of nothing", between(makeNode("Transpose", ["a"], ["b"], { perm: [0, 1, 2] }))],
  ["Reshape to the same shape", between(makeNode("Reshape", ["a", "same"], ["b"]))],
  [
    "Reshape with one open size",
    { ...between(makeNode("Reshape", ["a", "copied"], ["b"])), shapes: { x: ["batch", 3, 4] } },
  ],
  ["Pad of nothing", between(makeNode("Pad", ["a", "nothing"], ["b"]))],
  ["old Pad of nothing", { ...between(makeNode("Pad", ["a"], ["b"], { pads: [0, 0, 0, 0, 0, 0] })), opset: 10 }],
  ["Concat of one", between(makeNode("Concat", ["a"], ["b"], { axis: 1 }))],
  ["Sum of one", between(makeNode("Sum", ["a"], ["b"]))],
  ["Max of one", between(makeNode("Max", ["a"], ["b"]))],
  ["Add of 0", between(makeNode("Add", ["zero", "a"], ["b"]))],
  ["Sub of 0", between(makeNode("Sub", ["a", "zeros"], ["b"]))],
  ["Mul by 1", between(makeNode("Mul", ["a", "one"], ["b"]))],
  ["Div by 1", between(makeNode("Div", ["a", "one"], ["b"]))],
];

const staying: readonly (readonly [about: string, parts: Omit<TestModelParts, "feeds">])[] = [
  ["Dropout whose mask is read", { ...between(makeNode("Dropout", ["a"], ["b", "mask"])), outputs: ["y", "mask"] }],
  [
    "Cast to another type",
    between(makeNode("Cast", ["a"], ["d"], { to: 11 }), makeNode("Cast", ["d"], ["b"], { to: 1 })),
  ],
  ["Transpose of something", between(makeNode("Transpose", ["a"], ["b"], { perm: [0, 2, 1] }))],
  ["Reshape to another shape", between(makeNode("Reshape", ["a", "flat"], ["b"]))],
  [
    "Reshape with two open sizes",
    { ...between(makeNode("Reshape", ["a", "copied"], ["b"])), shapes: { x: ["n", "m", "k"] } },
  ],
  ["Mul that adds axes", between(makeNode("Mul", ["a", "wide"], ["b"]))],
  ["Mul by more than 1", between(makeNode("Mul", ["a", "minus"], ["b"]))],
  ["0 less it", between(makeNode("Sub", ["zero", "a"], ["b"]))],
  [
    "Add of zeros along an open size",
    { ...between(makeNode("Add", ["a", "zeros"], ["b"])), shapes: { x: [2, 3, "n"] } },
  ],
];

describe("removeIdentities", () => {
  it.each(passing)("removes %s", async (_about, parts) => {
    expect((await clean(parts)).left).toBe("Neg Relu");
  });

  it.each(staying)("leaves %s", async (_about, parts) => {
    const { model, result } = await clean(parts);
    expect(result.model).toBe(model);
  });

  it("lets transposes cancel, and keeps one that others read", async () => {
    const there = makeNode("Transpose", ["a"], ["t"], { perm: [1, 2, 0] });
    const back = makeNode("Transpose", ["t"], ["b"], { perm: [2, 0, 1] });
    expect((await clean(between(there, back))).left).toBe("Neg Transpose Relu");
    const reversed = [makeNode("Transpose", ["a"], ["t"]), makeNode("Transpose", ["t"], ["b"])];
    expect((await clean(between(...reversed))).result.changed).toHaveLength(1);
    const twice = between(there, makeNode("Transpose", ["t"], ["b"], { perm: [1, 2, 0] }));
    expect((await clean(twice)).result.changed).toEqual([]);
  });

  it("keeps the names of outputs", async () => {
    const nodes = [
      makeNode("Neg", ["x"], ["a"], {}, "neg"),
      makeNode("Identity", ["a"], ["y"]),
      makeNode("Relu", ["a"], ["z"]),
    ];
    const { result } = await clean({ nodes, outputs: ["y", "z"] });
    expect(opTypes(result.model.graph.nodes)).toBe("Neg Relu");
    expect(result.model.graph.producer("y")?.name).toBe("neg");
  });

  it("takes out the nodes of many outputs at once, whoever else reads what they pass on", async () => {
    const { result, left } = await clean({
      nodes: [
        makeNode("Neg", ["x"], ["a"]),
        makeNode("Identity", ["a"], ["p"]),
        makeNode("Relu", ["a"], ["b"]),
        makeNode("Identity", ["b"], ["q"]),
        makeNode("Identity", ["b"], ["r"]),
        makeNode("Abs", ["b"], ["s"]),
      ],
      outputs: ["p", "q", "r", "s"],
    });
    expect(left).toBe("Neg Relu Identity Abs");
    expect(result.changed).toHaveLength(2);
  });

  it("keeps a node whose other outputs are read, whether its operator has them or not", async () => {
    const { model } = makeTestModel({
      feeds: { x },
      nodes: [
        { ...makeNode("Cast", ["x"], ["a", "more"], { to: 1 }) },
        makeNode("Relu", ["a"], ["y"]),
        makeNode("Relu", ["more"], ["z"]),
      ],
      outputs: ["y", "z"],
    });
    const types = {
      ...engine,
      open: () =>
        engine.open(makeTestModel({ feeds: { x }, nodes: [makeNode("Identity", ["x"], ["a"])], outputs: ["a"] }).model),
    };
    expect((await removeIdentities.run(model, { engine: types })).model).toBe(model);
  });

  it("keeps an output that is an input, a constant, or another output", async () => {
    const nodes = [
      makeNode("Identity", ["x"], ["y"]),
      makeNode("Identity", ["one"], ["z"]),
      makeNode("Neg", ["x"], ["v"]),
      makeNode("Identity", ["v"], ["w"]),
    ];
    const { model, result } = await clean({ nodes, outputs: ["y", "z", "v", "w"] });
    expect(result.model).toBe(model);
  });

  it("serves bodies that read the value, unless they have a value of the new name", async () => {
    const other = makeBody(["e"], [makeNode("Abs", ["x"], ["e"])]);
    const reading = makeBody(["t"], [makeNode("Relu", ["b"], ["t"])]);
    const nodes = [makeNode("Neg", ["x"], ["a"]), makeNode("Identity", ["a"], ["b"])];
    expect((await clean({ nodes: [...nodes, makeIf("y", reading, other)], outputs: ["y"] })).left).toBe("Neg If");
    const hiding = makeBody(["t"], [makeNode("Relu", ["b"], ["a"]), makeNode("Neg", ["a"], ["t"])]);
    const { model } = makeTestModel({
      feeds: { x, c: yes },
      nodes: [...nodes, makeIf("y", hiding, other)],
      outputs: ["y"],
    });
    expect((await removeIdentities.run(model, { engine })).model).toBe(model);
  });
});
