import { describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Section } from "../blocks/sections.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { int64Tensor } from "../tensor/tensor.js";
import { mapsForm } from "./maps-form.js";

/** A section of some nodes from x to y. */
function formOf(nodes: readonly Node[], from: readonly (number | null)[], to: readonly (number | null)[], kernel = 1) {
  const { graph } = makeTestModel({
    feeds: { x: someFloats([1, 2, 8, 8]) },
    nodes,
    outputs: ["y"],
    initializers: {
      w: someFloats([2, 2, 3, 3]),
      v: someFloats([2, 2, 1, 1], 2),
      pads: int64Tensor([8], [0, 0, 1, 1, 0, 0, 0, 0]),
      copies: int64Tensor([2], [1, 0]),
      channel: int64Tensor([], [1]),
    },
  }).model;
  const section: Section = { label: "y", entry: "x", exit: "y", nodes: graph.nodes, sides: [] };
  return mapsForm(graph, section, from, to, kernel);
}

const conv = (input: string, output: string, attributes = {}, weight = "w") =>
  makeNode("Conv", [input, weight], [output], attributes);
const same = { pads: [1, 1, 1, 1] };
const halving = { pads: [1, 1, 1, 1], strides: [2, 2] };
const maps = (kernel: number, stride: number, padding: readonly number[]) => ({
  kind: "maps",
  kernel: [kernel, kernel],
  strides: [stride, stride],
  padding,
});

describe("mapsForm", () => {
  it("takes the strides of the nodes, and as many zeros as the sizes ask for", () => {
    expect(formOf([conv("x", "y", same)], [8, 8], [8, 8])).toEqual(maps(1, 1, [0, 0, 0, 0]));
    expect(formOf([conv("x", "a", halving), conv("a", "y", same)], [8, 8], [4, 4])).toEqual(maps(1, 2, [0, 0, 0, 0]));
    expect(formOf([conv("x", "y", same)], [8, 8], [8, 8], 3)).toEqual(maps(3, 1, [1, 1, 1, 1]));
    // Without padding six positions are left of eight: what a kernel of 1 sees of them is the first six.
    expect(formOf([conv("x", "y")], [8, 8], [6, 6])).toEqual({
      reason: "no convolution of stride 1 makes 6 of 8 positions",
    });
  });

  it("does for all sizes where every node makes one position of a stride", () => {
    const nodes = [
      conv("x", "a", halving),
      makeNode("Relu", ["a"], ["b"]),
      conv("b", "c", same),
      conv("x", "d", { strides: [2, 2] }, "v"),
      makeNode("Add", ["c", "d"], ["y"]),
    ];
    expect(formOf(nodes, [null, null], [null, null])).toEqual(maps(1, 2, [0, 0, 0, 0]));
    expect(formOf(nodes, [null, null], [null, null], 3)).toEqual(maps(3, 2, [1, 1, 1, 1]));
    const padded = conv("x", "y", { auto_pad: "SAME_UPPER", strides: [2, 2] });
    expect(formOf([padded], [null, null], [null, null])).toEqual(maps(1, 2, [0, 0, 0, 0]));
  });

  it("looks through a choice of channels", () => {
    const nodes = [makeNode("Gather", ["x", "copies"], ["a"], { axis: 1 }), conv("a", "y", same)];
    expect(formOf(nodes, [null, null], [null, null])).toEqual(maps(1, 1, [0, 0, 0, 0]));
  });

  it.each([
    ["a channel by itself", [makeNode("Gather", ["x", "channel"], ["y"], { axis: 1 })]],
    ["a choice of rows", [makeNode("Gather", ["x", "copies"], ["y"], { axis: 2 })]],
    ["a kernel without padding", [conv("x", "y")]],
    [
      "a pooling that rounds up",
      [makeNode("MaxPool", ["x"], ["y"], { kernel_shape: [3, 3], ceil_mode: 1, ...halving })],
    ],
    ["a Pad", [makeNode("Pad", ["x", "pads"], ["y"])]],
    ["no padding by name", [conv("x", "y", { auto_pad: "VALID" })]],
  ])("does not know open sizes behind %s", (_about, nodes) => {
    expect(formOf(nodes, [null, null], [null, null])).toEqual({ reason: "the size of its maps is open" });
  });

  it("has no form where one position is left of open sizes", () => {
    const nodes = [conv("x", "a", same), makeNode("GlobalAveragePool", ["a"], ["b"]), conv("b", "y", {}, "v")];
    expect(formOf(nodes, [null, null], [1, 1])).toEqual({
      reason: "the size of its maps is open, and 1 is left of it",
    });
  });

  it("has no form where maps grow", () => {
    expect(formOf([makeNode("Resize", ["x"], ["y"])], [8, 8], [16, 16])).toEqual({
      reason: "how its maps shrink is not known",
    });
  });
});
