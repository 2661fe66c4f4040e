import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { renameReads } from "../graph/rename.js";
import { float32Tensor, uint8Tensor } from "../tensor/tensor.js";
import type { ActivationSite } from "./choose-activations.js";
import { type ActivationGrid, refineGrid } from "./grid.js";

/** A group of values with the grid that was chosen for it. */
export interface GriddedGroup {
  readonly sites: readonly ActivationSite[];
  readonly grid: ActivationGrid;
}

/**
 * Puts QuantizeLinear and DequantizeLinear behind every site and lets its readers read the dequantized value: all of them
 * where the value comes out of an integer kernel, else only those that asked for it.
 *
 * @param quantizedReaders nodes that read their inputs on a grid
 */
export function writeActivations(
  graph: Graph,
  groups: readonly GriddedGroup[],
  quantizedReaders: ReadonlySet<Node>,
  names: NameSource,
): GraphPatch {
  const writer = new PatchWriter(names);
  const activations = new ActivationWriter(graph, writer);
  const readable = new Map<ValueName, Readable>();
  for (const group of groups) {
    for (const [value, forms] of activations.writeGroup(group, quantizedReaders)) readable.set(value, forms);
  }
  const removed: Node[] = [];
  for (const node of graph.nodes) {
    const forms = [...readsOf(node)].map((value) => [value, readable.get(value)?.nameFor(node) ?? value] as const);
    const rewired = renameReads(node, new Map(forms.filter(([value, form]) => form !== value)));
    if (rewired === node) continue;
    removed.push(node);
    writer.add(rewired);
  }
  return writer.finish("quantize activations", { remove: removed });
}

/** Which form of a value a node reads; undefined means the value itself. */
interface Readable {
  nameFor(reader: Node): ValueName | undefined;
}

class ActivationWriter {
  readonly #graph: Graph;
  readonly #writer: PatchWriter;
  readonly #largestCodes = new Map<number, ValueName>();

  constructor(graph: Graph, writer: PatchWriter) {
    this.#graph = graph;
    this.#writer = writer;
  }

  *writeGroup(group: GriddedGroup, readers: ReadonlySet<Node>): Iterable<readonly [ValueName, Readable]> {
    const members = new Set(group.sites.map((site) => site.value));
    const base = group.sites[0].value;
    const parameters = this.#writeGrid(base, group.grid);
    for (const site of group.sites) {
      const isOnGrid = (node: Node) => readers.has(node) || node.outputs.some((output) => members.has(output));
      if (!site.isIntegerOutput) {
        // A value may have been wanted by a Concat alone, which reads it as it is where the grids are too different.
        if (!this.#graph.consumers(site.value).some(isOnGrid)) continue;
        const dequantized = this.#writePair(site.value, site.value, group.grid, parameters);
        yield [site.value, { nameFor: (node) => (isOnGrid(node) ? dequantized : undefined) }];
        continue;
      }
      const isLowBit = group.grid.bits < 8 && !this.#graph.consumers(site.value).every(isOnGrid);
      if (!isLowBit) {
        const dequantized = this.#writePair(site.value, site.value, group.grid, parameters);
        yield [site.value, { nameFor: () => dequantized }];
        continue;
      }
      // Readers in float get 8 bits; the coarse grid is a part of the fine one, so its codes are the same as ever.
      const fineGrid = refineGrid(group.grid);
      const fineBase = `${site.value}_fine`;
      const fine = this.#writePair(site.value, fineBase, fineGrid, this.#writeGrid(fineBase, fineGrid));
      const coarse = this.#writePair(fine, site.value, group.grid, parameters);
      yield [site.value, { nameFor: (node) => (isOnGrid(node) ? coarse : fine) }];
    }
  }

  #writeGrid(base: ValueName, grid: ActivationGrid): readonly [ValueName, ValueName] {
    return [
      this.#writer.constant(`${base}_scale`, float32Tensor([], [grid.scale])),
      this.#writer.constant(`${base}_zero_point`, uint8Tensor([], [grid.zeroPoint])),
    ];
  }

  /** @returns the name of the dequantized value */
  #writePair(
    source: ValueName,
    base: ValueName,
    grid: ActivationGrid,
    parameters: readonly [ValueName, ValueName],
  ): ValueName {
    let codes = this.#writer.node("QuantizeLinear", [source, ...parameters], `${base}_quantized`);
    if (grid.bits < 8) codes = this.#writer.node("Clip", [codes, "", this.#largestCode(grid.bits)], `${base}_clipped`);
    return this.#writer.node("DequantizeLinear", [codes, ...parameters], `${base}_dequantized`);
  }

  /** uint8 saturates at 0 and 255 by itself; grids below 8 bits need their upper end held. */
  #largestCode(bits: number): ValueName {
    const known = this.#largestCodes.get(bits);
    if (known) return known;
    const name = this.#writer.constant(`largest_${bits}bit_code`, uint8Tensor([], [2 ** bits - 1]));
    this.#largestCodes.set(bits, name);
    return name;
  }
}
