import { floats, image, type OpsetCase, oneNode, testRaising, testRefusing } from "../../../test/opset-cases.js";
import { makeNode } from "../../graph/node.js";
import { float32Tensor, int64Tensor } from "../../tensor/tensor.js";

const none = float32Tensor([0], []);

const oldResizes = ["nearest", "linear"].flatMap((mode) =>
  [
    [1, 1, 2, 3],
    [1, 1, 0.6, 0.6],
    [1, 1, 2.5, 0.6],
    [1, 1, 0.5, 1.3],
  ].map((scales): OpsetCase => {
    const growsAndShrinks = scales.some((scale) => scale > 1) && scales.some((scale) => scale < 1);
    return {
      about: `Resize 10, ${mode}, by ${scales}`,
      opset: 10,
      feeds: { x: image },
      nodes: [makeNode("Resize", ["x", "s"], ["y"], { mode })],
      initializers: { s: float32Tensor([4], scales) },
      nodeCount: mode === "nearest" && growsAndShrinks ? 2 : 1,
    };
  }),
);

/** A Resize of 11 with the inputs that follow the data. */
function resize11(
  about: string,
  inputs: Readonly<Record<string, ReturnType<typeof float32Tensor>>>,
  attributes: Parameters<typeof makeNode>[3],
): OpsetCase {
  return {
    about: `Resize 11, ${about}`,
    opset: 11,
    feeds: { x: image },
    nodes: [makeNode("Resize", ["x", ...Object.keys(inputs)], ["y"], attributes)],
    initializers: inputs,
  };
}

const gone = { coordinate_transformation_mode: "tf_half_pixel_for_nn" };

testRaising([
  ...oldResizes,
  oneNode("Upsample 7, nearest", 7, "Upsample", { scales: floats([1, 2, 3]) }),
  {
    ...oneNode("Upsample 8, linear", 8, "Upsample", { mode: "linear", scales: floats([1, 1, 2, 3]) }),
    feeds: { x: image },
  },
  {
    about: "Upsample 9 by scales that are not constant",
    opset: 9,
    feeds: { x: image, s: float32Tensor([4], [1, 1, 1.5, 2]) },
    nodes: [makeNode("Upsample", ["x", "s"], ["y"], { mode: "nearest" })],
  },
  {
    about: "scales from a Constant node",
    opset: 10,
    feeds: { x: image },
    nodes: [
      makeNode("Constant", [], ["s"], { value: float32Tensor([4], [1, 1, 0.6, 0.6]) }),
      makeNode("Resize", ["x", "s"], ["y"]),
    ],
    nodeCount: 2,
  },
  ...["floor", "round_prefer_ceil"].map((rule) =>
    resize11(rule, { none, s: float32Tensor([4], [1, 1, 1.6, 0.7]) }, { nearest_mode: rule }),
  ),
  {
    ...resize11("to sizes", {}, {}),
    nodes: [makeNode("Resize", ["x", "none", "none", "sizes"], ["y"], { mode: "cubic" })],
    initializers: { none, sizes: int64Tensor([4], [1, 2, 7, 5]) },
  },
  resize11(
    "tf_half_pixel_for_nn",
    { none, s: float32Tensor([4], [1, 1, 0.5, 1.7]) },
    { ...gone, nearest_mode: "floor" },
  ),
  resize11(
    "a region",
    { roi: float32Tensor([8], [0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9]), none, sizes: int64Tensor([4], [1, 2, 3, 3]) },
    { mode: "linear", coordinate_transformation_mode: "tf_crop_and_resize" },
  ),
]);

testRefusing([
  {
    about: "nearest pixels by scales that are not constant",
    opset: 10,
    feeds: { x: image, s: float32Tensor([4], [1, 1, 2, 2]) },
    nodes: [makeNode("Resize", ["x", "s"], ["y"])],
  },
  resize11("with a coordinate rule that is gone", { none, s: float32Tensor([4], [1, 1, 2, 2]) }, gone),
]);
