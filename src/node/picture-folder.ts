import { type Dirent, readdirSync, type Stats, statSync } from "node:fs";
import { basename, join } from "node:path";
import { checkLabelCount, checkLabelRows, type Labels } from "../data/labels.js";
import type { Pictures } from "../data/picture-source.js";
import { RecoupError } from "../errors.js";
import { decodePictureFile, pictureName, readPictureFile } from "./pictures.js";

/** The file that gives the labels of the pictures beside it. */
export const labelFile = "labels.csv";

/** The pictures of a folder, in the order in which they are samples. */
export interface PictureFolder {
  readonly folder: string;
  /** Relative to the folder, parts joined by `/`. */
  readonly names: readonly string[];
  readonly labels?: readonly number[];
  readonly warnings: readonly string[];
}

/**
 * Lists the pictures of a folder by name. Where there are none but subfolders, each of these is a class, numbered by name.
 *
 * @throws RecoupError `data/empty`, `file/unreadable`
 */
export function listPictures(folder: string): PictureFolder {
  const entries = readEntries(folder);
  const direct = entries.filter((entry) => isPicture(entry, folder)).map(({ name }) => name);
  const classes = entries.filter((entry) => isFolder(entry, folder)).map(({ name }) => name);
  if (direct.length > 0) return { folder, names: direct, warnings: warnOfSubfolders(classes) };
  const found = classes.flatMap((name, label) =>
    picturesBelow(folder, name).map((picture) => ({ name: picture, label })),
  );
  if (found.length === 0) throw new RecoupError("data/empty", "holds no pictures (jpg, png, webp)", { file: folder });
  return {
    folder,
    names: found.map(({ name }) => name),
    labels: found.map(({ label }) => label),
    warnings: warnOfNumbers(classes),
  };
}

/**
 * The folder with the labels of a file: a table also says which pictures are samples and in what order.
 *
 * @throws RecoupError `data/label`
 */
export function labelPictures(pictures: PictureFolder, labels: Labels): PictureFolder {
  if (labels.kind === "list") {
    checkLabelCount(labels.labels, pictures.names.length);
    return { ...pictures, labels: labels.labels, warnings: [] };
  }
  checkLabelRows(labels.rows, new Set(pictures.names));
  return {
    folder: pictures.folder,
    names: labels.rows.map(({ file }) => file),
    labels: labels.rows.map(({ label }) => label),
    warnings: [],
  };
}

export function picturesOfFolder({ folder, names }: PictureFolder): Pictures {
  return {
    length: names.length,
    description: `${names.length} pictures of ${basename(folder)}`,
    idOf: (index) => names[index],
    decode: (index) => decodePictureFile(join(folder, names[index])),
    async *contents(index) {
      yield await readPictureFile(join(folder, names[index]));
    },
  };
}

/** Every picture below a folder, at any depth, by name. Links to folders are not followed: they may lead in a circle. */
function picturesBelow(root: string, folder: string): readonly string[] {
  return readEntries(join(root, folder)).flatMap((entry) => {
    const name = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return picturesBelow(root, name);
    return isPicture(entry, join(root, folder)) ? [name] : [];
  });
}

/** What is in a folder, by name; the order is the same on every machine and in every language. */
function readEntries(folder: string): readonly Dirent[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true }).filter(({ name }) => !name.startsWith("."));
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (cause) {
    throw new RecoupError("file/unreadable", "cannot be listed", { file: folder }, { cause });
  }
}

function isPicture(entry: Dirent, folder: string): boolean {
  return pictureName.test(entry.name) && (entry.isFile() || targetOf(entry, folder)?.isFile() === true);
}

function isFolder(entry: Dirent, folder: string): boolean {
  return entry.isDirectory() || targetOf(entry, folder)?.isDirectory() === true;
}

function targetOf(entry: Dirent, folder: string): Stats | undefined {
  if (!entry.isSymbolicLink()) return undefined;
  try {
    return statSync(join(folder, entry.name));
  } catch {
    // A link that leads nowhere is no picture and no folder.
    return undefined;
  }
}

function warnOfSubfolders(folders: readonly string[]): readonly string[] {
  return folders.length > 0 ? [`${folders.length} subfolders beside the pictures were left out`] : [];
}

/** By name, "10" comes before "2": whoever names folders by numbers may mean the numbers. */
function warnOfNumbers(classes: readonly string[]): readonly string[] {
  const label = classes.findIndex((name, index) => /^\d+$/.test(name) && Number(name) !== index);
  return label < 0
    ? []
    : [`class folders are numbered in the order of their names: ${classes[label]} is class ${label}`];
}
