import { readdirSync, readFileSync } from "node:fs";

/**
 * Resident memory of a process and those that it started.
 *
 * @returns bytes; undefined on systems that keep no files about processes
 */
export function residentBytes(pid = process.pid): number | undefined {
  const own = statusBytes(pid, "VmRSS");
  const children = childrenOf(pid);
  if (own === undefined || children === undefined) return undefined;
  return children.reduce((sum, child) => sum + (statusBytes(child, "VmRSS") ?? 0), own);
}

/**
 * Memory of a process by one of the keys of its status.
 *
 * @returns bytes; undefined for a process that has just ended too
 */
export function statusBytes(pid: number, key: "VmRSS" | "RssAnon" | "RssShmem"): number | undefined {
  const status = read(`/proc/${pid}/status`);
  const [, kibibytes] = new RegExp(`^${key}:\\s*(\\d+) kB$`, "m").exec(status ?? "") ?? [];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** @returns undefined on systems that keep no files about processes, and for a process that has ended */
export function childrenOf(pid: number): readonly number[] | undefined {
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
