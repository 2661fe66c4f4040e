import type { Node, ValueName } from "../graph/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ProbeWriter } from "./probe-writer.js";
import type { Tap } from "./statistic.js";

/** A part of one network that reads what the other network computes. */
export interface FedPart {
  /** The network whose part it is. */
  readonly of: Tap["from"];
  /** What enters it: in the other network. */
  readonly entry: ValueName;
  /** What it reads besides, the same in both networks, as masks. */
  readonly sides: readonly ValueName[];
  /** What computes the output from these, in topological order. */
  readonly nodes: readonly Node[];
  readonly constants: ReadonlyMap<ValueName, Tensor>;
}

/**
 * Which two values are held against each other: what a part of one network and the other network itself compute of an output
 * from the same input; where there is no part, what each network computes of it from its own input.
 */
export interface OutputPair {
  readonly output: ValueName;
  readonly part?: FedPart;
}

export function pairTaps({ output, part }: OutputPair): readonly Tap[] {
  if (part === undefined) {
    return [
      { from: "float", value: output },
      { from: "current", value: output },
    ];
  }
  const from = part.of === "float" ? "current" : "float";
  const sides = part.sides.map((value): Tap => ({ from: "float", value }));
  return [{ from, value: output }, { from, value: part.entry }, ...sides];
}

/**
 * Both values in float32: how the output should be, then how it is.
 *
 * @param taps the names of `pairTaps` in the running graph
 */
export function writePair(
  writer: ProbeWriter,
  taps: readonly ValueName[],
  { output, part }: OutputPair,
): readonly [reference: ValueName, current: ValueName] {
  const own = writer.float32(taps[0]);
  if (part === undefined) return [own, writer.float32(taps[1])];
  const [, entry, ...sides] = taps;
  const feeds = new Map([[part.entry, entry], ...part.sides.map((side, i) => [side, sides[i]] as const)]);
  const computed = writer.float32(writer.part(part.nodes, part.constants, feeds).get(output) as ValueName);
  return part.of === "float" ? [computed, own] : [own, computed];
}

/** What tells pairs apart. */
export function pairKey({ output, part }: OutputPair): string {
  return part === undefined ? output : `${output} of ${part.of} on ${part.entry}`;
}
