import { collect, type NamedRunFeeds } from "../calibrate/collect.js";
import type { Statistic, Tap } from "../calibrate/statistic.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine, HeldTensor } from "../engine/engine.js";
import { runAhead } from "../engine/run-ahead.js";
import { extractGraph } from "../graph/extract.js";
import type { Graph, Value, ValueName } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, withGraph } from "../graph/model.js";
import { freePrefix } from "../graph/names.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { bytesFor } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";

/** The float network and the one that is being rewritten: values of the same name mean the same in both. */
export type Networks = Readonly<Record<Tap["from"], Model>>;

/** Some values of either network. */
export type Values = Readonly<Record<Tap["from"], readonly ValueName[]>>;

/** What is held of a batch, by the names that values have where both networks run as one graph. */
interface HeldBatch {
  readonly id: string;
  readonly tensors: ReadonlyMap<ValueName, HeldTensor>;
}

/**
 * What both networks have computed of every batch so far, held by the runtime. Whatever else is asked for is computed
 * from it.
 */
export class Streams {
  readonly #engine: Engine;
  readonly #types: ValueTypes;
  /** Values of the float network get this prefix where both networks run as one graph. */
  readonly #floatPrefix: string;
  readonly #held = new Set<HeldTensor>();
  #batches: readonly HeldBatch[] = [];

  private constructor(engine: Engine, types: ValueTypes, floatPrefix: string) {
    this.#engine = engine;
    this.#types = types;
    this.#floatPrefix = floatPrefix;
  }

  /** Hands the batches over to the runtime; both networks start from the same tensors. */
  static async open(
    engine: Engine,
    networks: Networks,
    types: ValueTypes,
    batches: AsyncIterable<NamedFeeds> | Iterable<NamedFeeds>,
  ): Promise<Streams> {
    const streams = new Streams(engine, types, freePrefix([networks.float.graph, networks.current.graph], "float/"));
    try {
      const held: HeldBatch[] = [];
      for await (const batch of batches) held.push(await streams.#take(batch));
      streams.#batches = held;
      return streams;
    } catch (error) {
      // Nobody else knows yet what is held already.
      await streams.close();
      throw error;
    }
  }

  /** Folds all batches into statistics, with both networks as one graph: what is compared never leaves the runtime. */
  async collect(networks: Networks, statistics: readonly Statistic<unknown>[]): Promise<void> {
    const graph = this.#join(networks, tappedBy(statistics.flatMap((statistic) => statistic.taps)));
    const batches = this.#batches.map(({ id, tensors }): NamedRunFeeds => ({ id, feeds: tensors }));
    await collect(this.#engine, withGraph(networks.current, graph), statistics, (tap) => this.#nameOf(tap), batches);
  }

  /** Computes some values and holds them too, unless they would take more than so many bytes. */
  async hold(networks: Networks, values: Values, mostBytes: number): Promise<void> {
    const before = new Set(this.#held);
    const after: HeldBatch[] = [];
    let bytes = 0;
    for await (const [{ id, tensors }, computed] of this.#compute(networks, values)) {
      after.push({ id, tensors: new Map([...tensors, ...computed]) });
      for (const { type, shape } of computed.values()) bytes += bytesFor(type, elementCount(shape));
      if (bytes * (this.#batches.length / after.length) > mostBytes) break;
    }
    if (after.length === this.#batches.length && bytes <= mostBytes) this.#batches = after;
    else await this.#release([...this.#held].filter((tensor) => !before.has(tensor)));
  }

  /** Forgets all but some values. */
  async keep(values: Values): Promise<void> {
    const names = this.#namesOf(values);
    const after = this.#batches.map((batch) => onlyOf(batch, names));
    await this.#release(this.#batches.flatMap((batch, i) => dropped(batch, after[i])));
    this.#batches = after;
  }

  /** Computes some values and forgets all others, batch by batch. */
  async advance(networks: Networks, values: Values): Promise<void> {
    const names = this.#namesOf(values);
    const after: HeldBatch[] = [];
    for await (const [batch, computed] of this.#compute(networks, values)) {
      const { id, tensors } = onlyOf({ id: batch.id, tensors: new Map([...batch.tensors, ...computed]) }, names);
      after.push({ id, tensors });
      await this.#release(dropped(batch, { id, tensors }));
    }
    this.#batches = after;
  }

  /** Forgets everything. */
  async close(): Promise<void> {
    this.#batches = [];
    await this.#release([...this.#held]);
  }

  /** Of every batch in turn, those of some values that are not held yet; they are held from then on. */
  async *#compute(
    networks: Networks,
    values: Values,
  ): AsyncGenerator<readonly [batch: HeldBatch, computed: ReadonlyMap<ValueName, HeldTensor>]> {
    const graph = this.#join(networks, {
      float: values.float.filter((value) => !this.#isHeld({ from: "float", value })),
      current: values.current.filter((value) => !this.#isHeld({ from: "current", value })),
    });
    const names = graph.outputs.map((output) => output.name);
    if (names.length === 0) return yield* this.#batches.map((batch) => [batch, new Map()] as const);
    const fed = new Set(graph.inputs.map((input) => input.name));
    const session = await this.#engine.open(withGraph(networks.current, graph), { mode: "exact" });
    const run = async ({ tensors }: HeldBatch) => {
      const computed = await session.runAndHold(new Map([...tensors].filter(([name]) => fed.has(name))), names);
      for (const tensor of computed.values()) this.#held.add(tensor);
      return computed;
    };
    try {
      yield* runAhead(this.#batches, run);
    } finally {
      await session.close();
    }
  }

  /** What computes some values from those that are held, both networks as one graph. */
  #join(networks: Networks, values: Values): Graph {
    const held = [...(this.#batches[0]?.tensors ?? [])];
    const part = (from: Tap["from"]) => {
      const cut = held.flatMap(([name, tensor]): readonly Value[] => {
        const value = this.#valueOf(name, from);
        if (value === undefined) return [];
        // Sizes differ from batch to batch: what is known of all of them is in the types.
        const shape = shapeOf(this.#types, value) ?? tensor.shape.map(() => null);
        return [{ name: value, type: { kind: "tensor", elementType: tensor.type, shape } }];
      });
      const outputs = [...new Set(values[from])].map((name): Value => ({ name, type: { kind: "other" } }));
      return extractGraph(networks[from].graph, cut, outputs);
    };
    return joinGraphs(part("float"), this.#floatPrefix, part("current"), new Set());
  }

  /** Hands a batch over; the float network reads it by other names. */
  async #take({ id, feeds }: NamedFeeds): Promise<HeldBatch> {
    const tensors = await this.#engine.hold(feeds);
    for (const tensor of tensors.values()) this.#held.add(tensor);
    const renamed = [...tensors].map(([value, tensor]) => [this.#nameOf({ from: "float", value }), tensor] as const);
    return { id, tensors: new Map([...tensors, ...renamed]) };
  }

  #isHeld(tap: Tap): boolean {
    return this.#batches[0]?.tensors.has(this.#nameOf(tap)) ?? false;
  }

  #namesOf({ float, current }: Values): ReadonlySet<ValueName> {
    return new Set([...float.map((value) => this.#nameOf({ from: "float", value })), ...current]);
  }

  #nameOf({ from, value }: Tap): ValueName {
    return from === "float" ? this.#floatPrefix + value : value;
  }

  /** The opposite of `#nameOf`; undefined for a value of the other network. */
  #valueOf(name: ValueName, from: Tap["from"]): ValueName | undefined {
    const isFloat = name.startsWith(this.#floatPrefix);
    if (isFloat !== (from === "float")) return undefined;
    return isFloat ? name.slice(this.#floatPrefix.length) : name;
  }

  async #release(tensors: readonly HeldTensor[]): Promise<void> {
    for (const tensor of tensors) this.#held.delete(tensor);
    if (tensors.length > 0) await this.#engine.release(tensors);
  }
}

/** The values that some taps look at. */
export function tappedBy(taps: readonly Tap[]): Values {
  const from = (side: Tap["from"]) => taps.filter((tap) => tap.from === side).map((tap) => tap.value);
  return { float: from("float"), current: from("current") };
}

function onlyOf({ id, tensors }: HeldBatch, names: ReadonlySet<ValueName>): HeldBatch {
  return { id, tensors: new Map([...tensors].filter(([name]) => names.has(name))) };
}

/** Tensors that go with a change; one that both networks start from stays while either holds it. */
function dropped(before: HeldBatch, after: HeldBatch): readonly HeldTensor[] {
  const kept = new Set(after.tensors.values());
  return [...new Set(before.tensors.values())].filter((tensor) => !kept.has(tensor));
}
