import { RecoupError } from "../errors.js";

/** Everything that decides which bytes a run writes: of equal runs one can go on where the other stopped. */
export interface RunDescription {
  /** Of Recoup. */
  readonly version: string;
  /** Fingerprint of the model as it was given. */
  readonly model: string;
  /** With every default filled in. */
  readonly recipe: object;
  /** Fingerprint of the samples that were chosen. */
  readonly data: string;
  /** Fingerprint of the statistics that ranges come from; null where the run measures them itself. */
  readonly statistics: string | null;
  /** How many samples run at once. */
  readonly batchSize: number;
  /** Name of the engine. */
  readonly engine: string;
}

/** The description, or some fields of it, as JSON data: what is undefined is not there. */
export function jsonOf(description: Partial<RunDescription>): Readonly<Record<string, unknown>> {
  return JSON.parse(JSON.stringify(description));
}

/** What is said of fields whose values tell a person nothing. */
const differences: Readonly<Record<string, string>> = {
  model: "is another one now",
  data: "are other samples now, or samples that are prepared otherwise",
  statistics: "are others now than those that ranges came from",
};

/** The longest value that is shown in an error. */
const mostCharacters = 60;

/**
 * Refuses to go on with another run.
 *
 * @param there what a checkpoint holds
 * @param here this run, or what is known of it
 * @throws RecoupError `checkpoint/mismatch`, naming the first field that differs
 */
export function refuseOtherRun(there: unknown, here: Partial<RunDescription>): void {
  const known = jsonOf(here);
  const found = firstDifference(isObject(there) ? fieldsOf(there, Object.keys(known)) : there, known, "");
  if (found === undefined) return;
  const message = differences[found.field] ?? `is ${textOf(found.here)} now, was ${textOf(found.there)}`;
  // A recipe's fields are called what they are called in the recipe.
  throw new RecoupError("checkpoint/mismatch", message, { field: found.field.replace(/^recipe\./, "") });
}

function fieldsOf(description: Readonly<Record<string, unknown>>, names: readonly string[]): object {
  return Object.fromEntries(names.map((name) => [name, description[name]]));
}

interface Difference {
  readonly field: string;
  readonly there: unknown;
  readonly here: unknown;
}

/** Of JSON data; lists of different lengths differ as a whole. */
function firstDifference(there: unknown, here: unknown, field: string): Difference | undefined {
  const isList = Array.isArray(there);
  if (!isObject(there) || !isObject(here) || isList !== Array.isArray(here) || (isList && isLonger(there, here))) {
    return there === here ? undefined : { field, there, here };
  }
  for (const name of new Set([...Object.keys(here), ...Object.keys(there)])) {
    const inner = isList ? `${field}[${name}]` : field === "" ? name : `${field}.${name}`;
    const found = firstDifference(there[name], here[name], inner);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isLonger(there: object, here: object): boolean {
  return Object.keys(there).length !== Object.keys(here).length;
}

function textOf(value: unknown): string {
  if (value === undefined) return "not given";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > mostCharacters ? `${text.slice(0, mostCharacters)}…` : text;
}
