/** Runs a command and looks at the memory of its processes. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const lookMs = 10;

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @returns {Promise<{ code: number | null, seconds: number, ownMB: number, allMB: number, residentMB: number, output: string }>}
 * `residentMB` is the most that the process and those that it started had resident together; `ownMB` for the process alone and
 * `allMB` for all of them without pages of files that are mapped into memory, which the system takes away when it needs room
 */
export function watchMemory(program, args) {
  const start = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [own, all, resident, output] = [0, 0, 0, ""];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  const look = () => {
    const tree = treeOf(child.pid ?? 0).map(memoryOf);
    const sum = (/** @type {"anonymous" | "resident"} */ kind) =>
      tree.reduce((total, memory) => total + memory[kind], 0);
    own = Math.max(own, tree[0].anonymous);
    all = Math.max(all, sum("anonymous"));
    resident = Math.max(resident, sum("resident"));
  };
  const timer = setInterval(look, lookMs);
  return new Promise((resolve) => {
    child.on("close", (code) => {
      clearInterval(timer);
      const seconds = (performance.now() - start) / 1000;
      resolve({ code, seconds, ownMB: own / 1e6, allMB: all / 1e6, residentMB: resident / 1e6, output });
    });
  });
}

/** @param {number} pid @returns {number[]} the process and all below it */
function treeOf(pid) {
  let tasks = [];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [pid];
  }
  const children = tasks.flatMap((task) => read(`/proc/${pid}/task/${task}/children`).split(" ").filter(Boolean));
  return [pid, ...children.flatMap((child) => treeOf(Number(child)))];
}

/** @param {number} pid */
function memoryOf(pid) {
  const status = read(`/proc/${pid}/status`);
  const kibibytes = (/** @type {string} */ key) =>
    Number(new RegExp(`^${key}:\\s*(\\d+) kB$`, "m").exec(status)?.[1] ?? 0);
  const anonymous = 1024 * (kibibytes("RssAnon") + kibibytes("RssShmem"));
  return { anonymous, resident: 1024 * kibibytes("VmRSS") };
}

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
