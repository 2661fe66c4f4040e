import { RecoupError } from "../errors.js";
import { elementCount } from "../tensor/shape.js";
import { integerValues, type Tensor } from "../tensor/tensor.js";

/** One line of a `labels.csv`. */
export interface LabelRow {
  readonly file: string;
  readonly label: number;
  /** Counted from 1, the header included. */
  readonly line: number;
}

export type Labels =
  /** Labels by name, in the order of the file. */
  | { readonly kind: "table"; readonly rows: readonly LabelRow[] }
  /** Labels in the order of the samples. */
  | { readonly kind: "list"; readonly labels: readonly number[] };

/**
 * Reads a table with the columns `file` and `label`, or one label a line (with or without the header `label`).
 *
 * @throws RecoupError `data/label`, place: the line
 */
export function readLabels(text: string): Labels {
  const lines = text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .map((content, index) => ({ number: index + 1, fields: splitFields(content) }))
    .filter(({ fields }) => fields.some((field) => field !== ""));
  const header = lines[0]?.fields.map((field) => field.toLowerCase()) ?? [];
  const [file, label] = ["file", "label"].map((column) => header.indexOf(column));
  if (file >= 0 && label >= 0) {
    const rows = lines.slice(1).map(({ number, fields }) => ({
      file: fields[file] ?? "",
      label: readLabel(fields[label] ?? "", number),
      line: number,
    }));
    return { kind: "table", rows };
  }
  const wide = lines.find(({ fields }) => fields.length > 1);
  if (wide) throw refuse("is no single label, and the first line is not file,label", wide.number);
  const listed = label === 0 ? lines.slice(1) : lines;
  return { kind: "list", labels: listed.map(({ number, fields }) => readLabel(fields[0], number)) };
}

/**
 * Labels as an array `[N]` of integers.
 *
 * @throws RecoupError `data/label`
 */
export function labelsOfArray(array: Tensor): readonly number[] {
  const isList = array.shape.length === 1 || (array.shape.length === 2 && array.shape[1] === 1);
  if (!isList || !/^u?int/.test(array.type)) {
    throw new RecoupError("data/label", `holds ${array.type}[${array.shape}]; labels are integers [N]`);
  }
  const labels = integerValues(array);
  const wrong = labels.findIndex((label) => label < 0);
  if (wrong >= 0) throw new RecoupError("data/label", `has the label ${labels[wrong]} at ${wrong}`);
  return labels.slice(0, elementCount(array.shape));
}

/** @throws RecoupError `data/label` where there is not one label for each sample */
export function checkLabelCount(labels: readonly number[], length: number): void {
  if (labels.length !== length) {
    throw new RecoupError("data/label", `has ${labels.length} labels for ${length} samples`);
  }
}

/**
 * Checks the names of a table against the pictures that are there.
 *
 * @throws RecoupError `data/label`, place: the line
 */
export function checkLabelRows(rows: readonly LabelRow[], names: ReadonlySet<string>): void {
  const seen = new Set<string>();
  for (const { file, line } of rows) {
    if (!names.has(file)) throw refuse(`names ${file || "no file"}, which is not among the pictures`, line);
    if (seen.has(file)) throw refuse(`names ${file} a second time`, line);
    seen.add(file);
  }
}

function readLabel(text: string, line: number): number {
  const label = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(label)) {
    throw refuse(`has the label "${text}", which is no class index (0, 1, 2 …)`, line);
  }
  return label;
}

/** Fields between commas; quotes around a field are taken off, doubled ones inside stand for one (RFC 4180). */
function splitFields(line: string): readonly string[] {
  const field = /\s*"((?:[^"]|"")*)"\s*(,|$)|([^,]*)(,|$)/y;
  const fields: string[] = [];
  for (let comma = ","; comma === ","; ) {
    const [, quoted, commaAfterQuote, plain, commaAfterPlain] = field.exec(line) ?? [];
    fields.push(quoted?.replaceAll('""', '"') ?? plain?.trim() ?? "");
    comma = commaAfterQuote ?? commaAfterPlain ?? "";
  }
  return fields;
}

function refuse(message: string, line: number): RecoupError {
  return new RecoupError("data/label", message, { field: `line ${line}` });
}
