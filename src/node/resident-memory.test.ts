import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { residentBytes } from "./resident-memory.js";

describe.skipIf(process.platform !== "linux")("residentBytes", () => {
  it("is that of this process and those that it started", async () => {
    const alone = residentBytes() ?? 0;
    expect(alone).toBeGreaterThan(0.5 * process.memoryUsage.rss());
    const hold = "const held = new Uint8Array(3e8).fill(1); console.log(held.length); setInterval(() => {}, 1e6)";
    const child = spawn(process.execPath, ["-e", hold], { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    expect(residentBytes()).toBeGreaterThan(alone + 2e8);
    child.kill();
    await once(child, "exit");
    expect(residentBytes()).toBeLessThan(alone + 2e8);
  });
});

describe.skipIf(process.platform === "linux")("residentBytes elsewhere", () => {
  it("is not known", () => {
    expect(residentBytes()).toBeUndefined();
  });
});
