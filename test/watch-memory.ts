import { spawn } from "node:child_process";
import { childrenOf, statusBytes } from "../src/node/resident-memory.js";

const lookMs = 10;

/** What a command took. */
export interface Watched {
  readonly exitCode: number | null;
  readonly output: string;
  readonly seconds: number;
  /** The most megabytes that the process alone had, without pages of files, which the system takes away when it needs room. */
  readonly ownMB: number;
  /** The same for it and all processes that it started. */
  readonly allMB: number;
  /** The most that all of them had resident, pages of files included. */
  readonly residentMB: number;
}

/** Runs a Node program and looks at the memory of its processes, on systems that tell. */
export function watchMemory(args: readonly string[]): Promise<Watched> {
  const start = performance.now();
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  const most = { own: 0, all: 0, resident: 0 };
  const timer = setInterval(() => {
    const tree = treeOf(child.pid ?? 0).map(memoryOf);
    most.own = Math.max(most.own, tree[0].anonymous);
    most.all = Math.max(most.all, sum(tree.map(({ anonymous }) => anonymous)));
    most.resident = Math.max(most.resident, sum(tree.map(({ resident }) => resident)));
  }, lookMs);
  return new Promise((resolve) => {
    child.on("close", (exitCode) => {
      clearInterval(timer);
      const [ownMB, allMB, residentMB] = [most.own, most.all, most.resident].map((bytes) => Math.round(bytes / 1e6));
      resolve({ exitCode, output, seconds: (performance.now() - start) / 1000, ownMB, allMB, residentMB });
    });
  });
}

/** A process and all below it. */
function treeOf(pid: number): readonly number[] {
  return [pid, ...(childrenOf(pid) ?? []).flatMap(treeOf)];
}

function memoryOf(pid: number): { readonly anonymous: number; readonly resident: number } {
  const bytes = (key: Parameters<typeof statusBytes>[1]) => statusBytes(pid, key) ?? 0;
  return { anonymous: bytes("RssAnon") + bytes("RssShmem"), resident: bytes("VmRSS") };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
