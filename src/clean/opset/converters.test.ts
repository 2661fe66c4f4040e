import { someFloats } from "../../../test/models.js";
import { float, image, type OpsetCase, oneNode, testRaising, testRefusing, x } from "../../../test/opset-cases.js";
import { makeNode } from "../../graph/node.js";
import { float32Tensor, int64Tensor } from "../../tensor/tensor.js";
import { opsetConverters } from "./converters.js";

const positive = float32Tensor(
  [2, 3, 4],
  Array.from({ length: 24 }, (_, i) => 0.5 + ((i * 7) % 24) / 24),
);

const reductions = opsetConverters
  .filter((converter) => converter.opType.startsWith("Reduce"))
  .flatMap(({ opType }): readonly OpsetCase[] => [
    { ...oneNode(`${opType} with axes`, 9, opType, { axes: [1, 2], keepdims: 0 }), feeds: { x: positive } },
    { ...oneNode(`${opType} of everything`, 12, opType), feeds: { x: positive } },
  ]);

const axes: readonly OpsetCase[] = [
  ...reductions,
  oneNode("ReduceSum with negative axes", 11, "ReduceSum", { axes: [-1] }),
  oneNode("Unsqueeze", 11, "Unsqueeze", { axes: [0, -1] }),
  { ...oneNode("Squeeze of all axes of size 1", 9, "Squeeze"), feeds: { x: someFloats([1, 3, 1]) } },
  { ...oneNode("Squeeze of one axis", 11, "Squeeze", { axes: [-1] }), feeds: { x: someFloats([1, 3, 1]) } },
];

const moved: readonly OpsetCase[] = [
  {
    ...oneNode("Split in unequal parts", 11, "Split"),
    nodes: [makeNode("Split", ["x"], ["y", "z"], { axis: 2, split: [1, 3] })],
    outputs: ["y", "z"],
  },
  {
    ...oneNode("Split in equal parts", 7, "Split"),
    nodes: [makeNode("Split", ["x"], ["y", "z"], { axis: 0 })],
    outputs: ["y", "z"],
  },
  oneNode("Clip between limits", 7, "Clip", { min: float(-0.25), max: float(0.5) }),
  oneNode("Clip from above", 10, "Clip", { max: float(0.5) }),
  oneNode("Clip from below", 10, "Clip", { min: float(0.1) }),
  oneNode("Clip without limits", 10, "Clip"),
  {
    about: "Clip behind layers",
    opset: 9,
    feeds: { x: image },
    nodes: [
      makeNode("Conv", ["x", "w"], ["c"]),
      makeNode("Sigmoid", ["c"], ["s"]),
      makeNode("Clip", ["s"], ["y"], { min: float(0.4), max: float(0.6) }),
    ],
    initializers: { w: someFloats([3, 2, 1, 1]) },
    nodeCount: 3,
  },
  oneNode("Pad with a value", 10, "Pad", { pads: [0, 1, 2, 0, 0, 1], value: float(0.5) }),
  oneNode("Pad with nothing said", 7, "Pad", { pads: [0, 1, -1, 0, 0, 1] }),
  oneNode("Pad by reflection", 10, "Pad", { pads: [0, 1, 2, 0, 0, 1], mode: "reflect", value: float(3) }),
  oneNode("Slice to the end", 9, "Slice", { starts: [1, -2], ends: [2 ** 63, -1], axes: [1, 2] }),
  oneNode("Slice of the first axes", 7, "Slice", { starts: [0, 1], ends: [1, 3] }),
  {
    ...oneNode("TopK", 9, "TopK"),
    nodes: [makeNode("TopK", ["x"], ["y", "i"], { k: 2, axis: 1 })],
    outputs: ["y", "i"],
  },
  {
    ...oneNode("TopK with the count as input", 10, "TopK"),
    nodes: [makeNode("TopK", ["x", "k"], ["y", "i"])],
    initializers: { k: int64Tensor([1], [2]) },
    outputs: ["y", "i"],
  },
  ...[undefined, 2].map(
    (axis): OpsetCase => ({
      ...oneNode(`DFT along ${axis ?? "the default axis"}`, 17, "DFT", axis === undefined ? {} : { axis }),
      feeds: { x: someFloats([1, 4, 4, 1]) },
    }),
  ),
];

const normalizations: readonly OpsetCase[] = [
  ...[7, 10].map((opset) => oneNode(`Dropout ${opset}`, opset, "Dropout", { ratio: float(0.25) })),
  {
    ...oneNode("Dropout whose mask nobody reads", 11, "Dropout"),
    nodes: [makeNode("Dropout", ["x"], ["y", "mask"])],
  },
  ...[7, 9, 14].map((opset): OpsetCase => {
    return {
      about: `BatchNormalization ${opset}`,
      opset,
      feeds: { x: image },
      nodes: [
        makeNode("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], {
          epsilon: float(0.01),
          ...(opset < 9 && { spatial: 1 }),
        }),
      ],
      initializers: {
        s: float32Tensor([2], [1, 2]),
        b: float32Tensor([2], [0, 1]),
        m: float32Tensor([2], [0.5, 0.25]),
        v: float32Tensor([2], [1, 3]),
      },
    };
  }),
  {
    about: "GroupNormalization",
    opset: 18,
    feeds: { x: someFloats([2, 6, 3]) },
    nodes: [makeNode("GroupNormalization", ["x", "s", "b"], ["y"], { num_groups: 3 })],
    initializers: { s: float32Tensor([3], [1, 2, 3]), b: float32Tensor([3], [0, 1, -1]) },
    nodeCount: 10,
  },
];

const renamed: readonly OpsetCase[] = [
  {
    about: "Scatter",
    opset: 10,
    feeds: { x: someFloats([3, 3]) },
    nodes: [makeNode("Scatter", ["x", "i", "u"], ["y"], { axis: 1 })],
    initializers: { i: int64Tensor([1, 2], [0, 2]), u: float32Tensor([1, 2], [5, 6]) },
  },
  {
    about: "RoiAlign",
    opset: 10,
    lastRunnable: 21,
    feeds: { x: image },
    nodes: [makeNode("RoiAlign", ["x", "r", "b"], ["y"], { output_height: 2, output_width: 2, sampling_ratio: 2 })],
    initializers: { r: float32Tensor([1, 4], [0.5, 0.5, 4.5, 3]), b: int64Tensor([1], [0]) },
  },
  ...["bilinear", "bicubic", "nearest", undefined].map(
    (mode): OpsetCase => ({
      about: `GridSample ${mode ?? "with nothing said"}`,
      opset: 16,
      feeds: { x: image },
      nodes: [makeNode("GridSample", ["x", "g"], ["y"], mode === undefined ? {} : { mode })],
      initializers: { g: someFloats([1, 3, 3, 2], 5) },
    }),
  ),
];

testRaising([...axes, ...moved, ...normalizations, ...renamed]);

testRefusing([
  {
    ...oneNode("a Dropout whose mask is read", 11, "Dropout"),
    nodes: [makeNode("Dropout", ["x"], ["y", "mask"])],
    outputs: ["y", "mask"],
  },
  {
    ...oneNode("a Clip of unknown type", 10, "Clip"),
    nodes: [makeNode("Unheard", ["x"], ["u"]), makeNode("Clip", ["u"], ["y"], { min: float(0) })],
  },
  oneNode("a withdrawn operator", 9, "ScaledTanh"),
  oneNode("a Scan over a batch", 8, "Scan"),
  {
    about: "statistics for each position",
    opset: 8,
    feeds: { x },
    nodes: [makeNode("BatchNormalization", ["x", "x", "x", "x", "x"], ["y"], { spatial: 0 })],
  },
]);
