import { groupBy } from "../math/group-by.js";

/** The forms that steps took somewhere in a network, by the names of the steps. */
export type FormsTaken = Readonly<Record<string, readonly string[]>>;

/** What was taken here or there. */
export function joinForms(all: readonly FormsTaken[]): FormsTaken {
  const taken = groupBy(all.flatMap(Object.entries<readonly string[]>), ([step]) => step);
  return Object.fromEntries(
    [...taken].map(([step, lists]) => [step, [...new Set(lists.flatMap(([, forms]) => forms))]]),
  );
}
