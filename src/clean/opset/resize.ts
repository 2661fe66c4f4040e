import type { Node, ValueName } from "../../graph/graph.js";
import { stringAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { float32Tensor, float32Values } from "../../tensor/tensor.js";
import { type ConversionScope, cannotRaise, inputOf, type OpsetConverter } from "./converter.js";

export const resizeConverters: readonly OpsetConverter[] = [
  { opType: "Upsample", version: 9, convert: moveScales },
  { opType: "Upsample", version: 11, convert: replaceUpsample },
  { opType: "Resize", version: 11, convert: sayCoordinates },
  { opType: "Resize", version: 13, convert: dropEmptyInputs },
];

function moveScales(node: Node, scope: ConversionScope): readonly Node[] {
  const scales = node.attributes.get("scales");
  if (scales?.kind !== "floats") throw cannotRaise(node, 9, "it has no scales");
  const tensor = float32Tensor([scales.value.length], scales.value);
  const bare = withAttributes(node, { scales: undefined });
  return [withInputs(bare, [node.inputs[0], scope.add(`${node.outputs[0]}_scales`, tensor)])];
}

/** Upsample only grows, so the nearest pixel is the one below. 10 put Resize in its place, with a rule of its own. */
function replaceUpsample(node: Node, scope: ConversionScope): readonly Node[] {
  const [input, scales] = node.inputs;
  return [asResize(node, [input, noRegion(node, scope), scales], node.outputs[0], "floor")];
}

/**
 * Before 11 pixel i of the output is at i / scale in the input. The nearest pixel is the one below when an axis grows and,
 * as runtimes read the standard, the one above when it shrinks. 11 has one rule for all axes: where some grow and others
 * shrink, nearest pixels are taken in two steps, which is the same since the axes do not depend on each other.
 */
function sayCoordinates(node: Node, scope: ConversionScope): readonly Node[] {
  const [input, scales] = node.inputs;
  const [output] = node.outputs;
  const region = noRegion(node, scope);
  const whole = (nearest: string) => [asResize(node, [input, region, scales], output, nearest)];
  if (stringAttribute(node, "mode", "nearest") !== "nearest") return whole("floor");
  const tensor = scope.constant(scales);
  if (tensor === undefined)
    throw cannotRaise(node, 11, "its scales are not constant, and the nearest pixel depends on them");
  const values = float32Values(tensor);
  if (values.every((scale) => scale >= 1)) return whole("floor");
  if (values.every((scale) => scale <= 1)) return whole("ceil");
  const part = (what: string, change: (scale: number) => number) =>
    scope.add(`${output}_scales_${what}`, float32Tensor(tensor.shape, values.map(change)));
  const [up, down] = [part("up", (scale) => Math.max(scale, 1)), part("down", (scale) => Math.min(scale, 1))];
  const grown = scope.fresh(`${output}_grown`);
  return [
    { ...asResize(node, [input, region, up], grown, "floor"), name: grown },
    asResize(node, [grown, region, down], output, "ceil"),
  ];
}

function asResize(node: Node, inputs: readonly ValueName[], output: ValueName, nearest: string): Node {
  const attributes = { coordinate_transformation_mode: "asymmetric", nearest_mode: nearest };
  return { ...withAttributes(node, attributes), opType: "Resize", inputs, outputs: [output] };
}

/** 11 wants a region even where none is looked at. */
function noRegion(node: Node, scope: ConversionScope): ValueName {
  return scope.add(`${node.outputs[0]}_roi`, float32Tensor([0], []));
}

/**
 * 11 wanted an empty tensor where 13 wants no input, and had one more coordinate rule. Of that rule the nearest pixel
 * below is floor((i + 0.5) / scale), which is the pixel nearest to (i + 0.5) / scale - 0.5, halves going up.
 */
function dropEmptyInputs(node: Node): readonly Node[] {
  const rule = stringAttribute(node, "coordinate_transformation_mode", "half_pixel");
  const region = rule === "tf_crop_and_resize" ? node.inputs[1] : "";
  const sizes = inputOf(node, 3);
  const [input, , scales] = node.inputs;
  const inputs = sizes === undefined ? [input, region, scales] : [input, region, "", sizes];
  const bare = withInputs(node, inputs);
  if (rule !== "tf_half_pixel_for_nn") return [bare];
  const nearest = stringAttribute(node, "nearest_mode", "round_prefer_floor");
  if (stringAttribute(node, "mode", "nearest") !== "nearest" || nearest !== "floor") {
    throw cannotRaise(node, 13, "it uses tf_half_pixel_for_nn, which is gone");
  }
  const changes = { coordinate_transformation_mode: "half_pixel", nearest_mode: "round_prefer_ceil" };
  return [withAttributes(bare, changes)];
}
