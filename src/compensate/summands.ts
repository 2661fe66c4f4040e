import { findLayerBlocks } from "../blocks/layer-blocks.js";
import type { Node, ValueName } from "../graph/graph.js";
import { isOperator, onlyConsumer } from "../graph/node.js";
import { shapeOf } from "../graph/value-types.js";
import type { SiteLayer, StepContext } from "../step/step.js";
import { resolveAxis } from "../tensor/shape.js";
import { biasedOutput, biasObstacle } from "./fold-bias.js";

/** Finds the layers whose biases a constant for a value can go into. */
export class Summands {
  readonly #context: StepContext;
  /** Layers by their outputs with bias. */
  readonly #layers = new Map<ValueName, SiteLayer>();
  /** The block of the walk in which each value is computed. */
  readonly #homes = new Map<ValueName, number>();

  constructor(context: StepContext, nodes: readonly Node[]) {
    const { float, types, layers } = context;
    this.#context = context;
    for (const layer of layers) {
      const node = float.producer(layer.output);
      const axis = this.axisOf(layer);
      if (node === undefined || axis === undefined || biasObstacle(node) !== undefined) continue;
      this.#layers.set(biasedOutput(float, types, layer.output, axis), layer);
    }
    for (const [index, block] of findLayerBlocks(float, types, nodes).entries()) {
      for (const output of block.nodes.flatMap((node) => node.outputs)) this.#homes.set(output, index);
    }
  }

  /** The layer whose output with bias a value is. */
  layerOf(value: ValueName): SiteLayer | undefined {
    return this.#layers.get(value);
  }

  /** The axis of a layer's output channels, counted from the end. */
  axisOf({ output, outputAxis }: SiteLayer): number | undefined {
    const rank = shapeOf(this.#context.types, output)?.length;
    return rank === undefined ? undefined : resolveAxis(outputAxis, rank) - rank;
  }

  /** Whether both are computed in one block of the walk: what an earlier one computes is not computed again. */
  areNear(one: ValueName, other: ValueName): boolean {
    return this.#homes.get(one) === this.#homes.get(other);
  }

  /**
   * The value itself, where a layer computes it, or the output of a layer that it is a sum with: a constant added to that is
   * one added to the sum. The value itself where there is none.
   */
  of(value: ValueName): ValueName {
    const { float, types } = this.#context;
    const add = float.producer(value);
    if (this.#layers.has(value) || !isOperator(add, "Add")) return value;
    const shape = JSON.stringify(shapeOf(types, value));
    const isSummand = (input: ValueName) =>
      this.#layers.has(input) &&
      onlyConsumer(float, input) === add &&
      this.areNear(input, value) &&
      JSON.stringify(shapeOf(types, input)) === shape;
    return add.inputs.find(isSummand) ?? value;
  }
}
