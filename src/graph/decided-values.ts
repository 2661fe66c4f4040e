import type { ValueName } from "./graph.js";

/** @returns the answer for a value, or the values that have to be decided before */
export type DecisionRule = (
  value: ValueName,
  known: (value: ValueName) => boolean | undefined,
) => boolean | readonly ValueName[];

/**
 * What holds for a value because of what holds for the values that it is made of. Each is decided once, and without
 * recursion: networks may be deep, and a value may lead up to another on very many ways.
 */
export class DecidedValues {
  readonly #rule: DecisionRule;
  readonly #known = new Map<ValueName, boolean>();

  constructor(rule: DecisionRule) {
    this.#rule = rule;
  }

  of(value: ValueName): boolean {
    const known = (input: ValueName) => this.#known.get(input);
    const open = [value];
    for (let next = open.at(-1); next !== undefined; next = open.at(-1)) {
      const decided = known(next) ?? this.#rule(next, known);
      if (typeof decided === "boolean") {
        this.#known.set(next, decided);
        open.pop();
      } else for (const input of decided) open.push(input);
    }
    return this.#known.get(value) === true;
  }
}
