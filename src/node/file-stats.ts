import { lstatSync, type Stats, statSync } from "node:fs";

/** What is known of a file or folder; nothing where none can be reached by that path, whatever the reason. */
export function statsOf(path: string): Stats | undefined {
  return statsBy(statSync, path);
}

/** Like `statsOf`, but of a link itself, not of what it leads to. */
export function statsOfEntry(path: string): Stats | undefined {
  return statsBy(lstatSync, path);
}

export function isFolder(path: string): boolean {
  return statsOf(path)?.isDirectory() === true;
}

/** `throwIfNoEntry: false` throws all the same where a folder of the path is a file, or a name is too long. */
function statsBy(read: (path: string) => Stats, path: string): Stats | undefined {
  try {
    return read(path);
  } catch {
    return undefined;
  }
}
