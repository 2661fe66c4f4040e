import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { renameReads } from "../graph/rename.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { float32Tensor, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import type { ActivationSite } from "./choose-activations.js";
import { type ActivationGrid, refineGrid } from "./grid.js";
import { tableOf, topCode } from "./spacing.js";

/** A group of values with the grid that was chosen for it. */
export interface GriddedGroup {
  readonly sites: readonly ActivationSite[];
  readonly grid: ActivationGrid;
}

/** The initializers that hold a grid. */
export interface GridParameters {
  readonly scale: ValueName;
  readonly zeroPoint: ValueName;
  /** Whether the grid is the 8-bit one that the group's own grid is a part of. */
  readonly isFine: boolean;
}

/** A patch, and where each group's grid stands in it. */
export interface WrittenActivations {
  readonly patch: GraphPatch;
  /** In the order of the groups. */
  readonly parameters: readonly (readonly GridParameters[])[];
}

/** The values of the initializers that hold a grid. */
export function gridTensors(
  parameters: readonly GridParameters[],
  grid: ActivationGrid,
): ReadonlyMap<ValueName, Tensor> {
  return new Map(
    parameters.flatMap(({ scale, zeroPoint, isFine }) => {
      const own = isFine ? refineGrid(grid) : grid;
      return [
        [scale, float32Tensor([], [own.scale])],
        [zeroPoint, uint8Tensor([], [own.zeroPoint])],
      ] as const;
    }),
  );
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
): WrittenActivations {
  const writer = new PatchWriter(names);
  const activations = new ActivationWriter(graph, writer);
  const readable = new Map<ValueName, Readable>();
  const parameters = groups.map((group) => {
    const written: GridParameters[] = [];
    for (const [value, forms] of activations.writeGroup(group, quantizedReaders, written)) readable.set(value, forms);
    return written;
  });
  const removed: Node[] = [];
  for (const node of graph.nodes) {
    const forms = [...readsOf(node)].map((value) => [value, readable.get(value)?.nameFor(node) ?? value] as const);
    const rewired = renameReads(node, new Map(forms.filter(([value, form]) => form !== value)));
    if (rewired === node) continue;
    removed.push(node);
    writer.add(rewired);
  }
  return { patch: writer.finish("quantize activations", { remove: removed }), parameters };
}

/** Which form of a value a node reads; undefined means the value itself. */
interface Readable {
  nameFor(reader: Node): ValueName | undefined;
}

class ActivationWriter {
  readonly #graph: Graph;
  readonly #writer: PatchWriter;
  readonly #largestCodes = new Map<number, ValueName>();
  readonly #tables = new Map<string, ValueName>();

  constructor(graph: Graph, writer: PatchWriter) {
    this.#graph = graph;
    this.#writer = writer;
  }

  /** @param written gets the initializers of the grids */
  *writeGroup(
    group: GriddedGroup,
    readers: ReadonlySet<Node>,
    written: GridParameters[],
  ): Iterable<readonly [ValueName, Readable]> {
    const members = new Set(group.sites.map((site) => site.value));
    const parameters = this.#writeGrid(group.sites[0].value, group.grid, false);
    written.push(parameters);
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
      const fineBase = `${site.value}_fine`;
      const fineParameters = this.#writeGrid(fineBase, group.grid, true);
      written.push(fineParameters);
      const fine = this.#writePair(site.value, fineBase, refineGrid(group.grid), fineParameters);
      const coarse = this.#writePair(fine, site.value, group.grid, parameters);
      yield [site.value, { nameFor: (node) => (isOnGrid(node) ? coarse : fine) }];
    }
  }

  #writeGrid(base: ValueName, grid: ActivationGrid, isFine: boolean): GridParameters {
    const scale = this.#writer.names.fresh(`${base}_scale`);
    const parameters = { scale, zeroPoint: this.#writer.names.fresh(`${base}_zero_point`), isFine };
    for (const [name, tensor] of gridTensors([parameters], grid)) this.#writer.initializers.set(name, tensor);
    return parameters;
  }

  /** @returns the name of the dequantized value */
  #writePair(
    source: ValueName,
    base: ValueName,
    grid: ActivationGrid,
    { scale, zeroPoint }: GridParameters,
  ): ValueName {
    const parameters = [scale, zeroPoint];
    let codes = this.#writer.node("QuantizeLinear", [source, ...parameters], `${base}_quantized`);
    if (grid.codes !== undefined) codes = this.#writeLookUp(codes, base, grid.codes);
    else if (grid.bits < 8) {
      codes = this.#writer.node("Clip", [codes, "", this.#largestCode(grid.bits)], `${base}_clipped`);
    }
    return this.#writer.node("DequantizeLinear", [codes, ...parameters], `${base}_dequantized`);
  }

  /** Codes of a fine grid become those that are in use: on integers up to the product. */
  #writeLookUp(codes: ValueName, base: ValueName, inUse: readonly number[]): ValueName {
    const key = inUse.join();
    const table = this.#tables.get(key) ?? this.#writer.constant("nearest_codes", tableTensor(inUse));
    this.#tables.set(key, table);
    const places = this.#writer.node("Cast", [codes], `${base}_places`, { to: elementCodeOf("int32") });
    return this.#writer.node("Gather", [table, places], `${base}_nearest`);
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

function tableTensor(inUse: readonly number[]): Tensor {
  return uint8Tensor([topCode + 1], tableOf(inUse));
}
