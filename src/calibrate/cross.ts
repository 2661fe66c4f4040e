import type { Node, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { withAttributes } from "../graph/node.js";
import type { Layer } from "../operators/layer.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, numbersOfBytes } from "./encoding.js";
import { HalvedSums, type Halves } from "./halved-sums.js";
import { type InputSite, writeInputMatrix } from "./input-matrix.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** How the input of a layer goes together with what its output lacks. */
export interface Cross {
  /** EᵀX of the one and of the other half of the runs. `[groups, O / groups, K]` each */
  readonly halves: Halves;
  /** EᵀX of all runs. `[groups, O / groups, K]` */
  readonly products: Float64Array;
}

/**
 * EᵀX of a layer, with X the input in the current network and E what the float weight makes of the difference between a
 * wanted input and X.
 */
export class CrossStatistic implements Statistic<Cross> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: InputSite;
  readonly #layer: Layer;
  readonly #weight: Tensor;
  readonly #products = new HalvedSums();

  /**
   * @param wanted the input that the layer should have had
   * @param weight the layer's weight in float
   */
  constructor(site: InputSite, layer: Layer, weight: Tensor, wanted: Tap) {
    this.key = `cross ${layer.node.outputs[0]} ${site.input} ${wanted.from} ${wanted.value} ${site.rowsPerRun}`;
    this.taps = [{ from: "current", value: site.input }, wanted];
    this.#site = site;
    this.#layer = layer;
    this.#weight = weight;
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const [input, wanted] = taps.map((tap) => writer.float32(tap));
    const error = writeLayer(writer, this.#layer, this.#weight, writer.node("Sub", [wanted, input]));
    const matrix = writeInputMatrix(writer, input, this.#site);
    return writer.finish([matrix.rowCount, matrix.cross(error, this.#layer.outputAxis)]);
  }

  update([rows, products]: readonly Tensor[]): void {
    if (Number(integerValues(rows)[0]) > 0) this.#products.add(float32Values(products));
  }

  merge(other: Statistic<Cross>): void {
    if (!(other instanceof CrossStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#products.merge(other.#products);
  }

  encode(): Uint8Array {
    return bytesOfNumbers(this.#products.encode());
  }

  mergeEncoded(encoded: Uint8Array): void {
    this.#products.mergeEncoded(numbersOfBytes(encoded));
  }

  result(): Cross {
    return { halves: this.#products.halves, products: this.#products.total() };
  }
}

/** The product of a layer in float32, without bias and factors. */
function writeLayer(writer: ProbeWriter, layer: Layer, tensor: Tensor, input: ValueName): ValueName {
  const { node, weightInput, transpose } = layer;
  const weight = writer.constant(float32Tensor(tensor.shape, float32Values(tensor)));
  const turned = transpose === undefined ? weight : writer.copy(transpose, [weight]);
  return writer.copy(withoutFactors(node), weightInput === 0 ? [turned, input] : [input, turned]);
}

function withoutFactors(node: Node): Node {
  return withAttributes(node, { alpha: undefined, beta: undefined });
}
