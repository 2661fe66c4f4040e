import { readdirSync, readFileSync } from "node:fs";

/**
 * Resident memory of this process and those that it started.
 *
 * @returns bytes; undefined on systems that keep no files about processes
 */
export function residentBytes(): number | undefined {
  const own = residentOf(process.pid);
  const children = childrenOf(process.pid);
  if (own === undefined || children === undefined) return undefined;
  return children.reduce((sum, child) => sum + (residentOf(child) ?? 0), own);
}

/** Undefined for a process that has just ended too. */
function residentOf(pid: number): number | undefined {
  const status = read(`/proc/${pid}/status`);
  const [, kibibytes] = /^VmRSS:\s*(\d+) kB$/m.exec(status ?? "") ?? [];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

function childrenOf(pid: number): readonly number[] | undefined {
  const tasks = `/proc/${pid}/task`;
  try {
    // Any thread may have started them; a thread that has just ended has none.
    const lists = readdirSync(tasks).map((task) => read(`${tasks}/${task}/children`));
    if (lists.every((list) => list === undefined)) return undefined;
    return lists.flatMap((list) => (list ?? "").split(" ").filter(Boolean).map(Number));
  } catch {
    return undefined;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
