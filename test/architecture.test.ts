import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const source = resolve("src");

/** `tensor/` or `errors.ts`: the unit that the map speaks of. */
function unitOf(path: string): string {
  const [first, ...rest] = relative(source, path).split("/");
  return rest.length > 0 ? `${first}/` : first;
}

function sourceFiles(folder: string): readonly string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return sourceFiles(path);
    return path.endsWith(".ts") && !path.endsWith(".test.ts") ? [path] : [];
  });
}

/** The rows of the map in docs/architecture.md: unit → units it depends on. */
function readMap(): ReadonlyMap<string, ReadonlySet<string>> {
  const rows = readFileSync("docs/architecture.md", "utf8").matchAll(/^\| `([^`]+)` +\|[^|]*\|([^|]*)\|$/gm);
  return new Map(
    [...rows].map(([, unit, allowed]) => [unit, new Set([...allowed.matchAll(/`([^`]+)`/g)].map(([, name]) => name))]),
  );
}

const files = sourceFiles(source);
const map = readMap();

function importsOf(file: string): readonly string[] {
  const lines = readFileSync(file, "utf8").matchAll(/(?:from|import) "([^"]+)"/g);
  return [...lines].map(([, target]) => target);
}

describe("the map in docs/architecture.md", () => {
  it("names every folder", () => {
    expect([...map.keys()].sort()).toEqual([...new Set(files.map(unitOf))].sort());
  });

  it("is what the import lines say", () => {
    const found = new Map([...map.keys()].map((unit) => [unit, new Set<string>()]));
    for (const file of files) {
      for (const target of importsOf(file).filter((name) => name.startsWith("."))) {
        const unit = unitOf(resolve(dirname(file), target.replace(/\.js$/, ".ts")));
        if (unit !== unitOf(file)) found.get(unitOf(file))?.add(unit);
      }
    }
    for (const [unit, allowed] of map)
      expect([unit, [...(found.get(unit) ?? [])].sort()]).toEqual([unit, [...allowed].sort()]);
  });

  it("has no circle", () => {
    const order = [...map.keys()];
    for (const [unit, allowed] of map) {
      for (const needed of allowed)
        expect(order.indexOf(needed), `${unit} needs ${needed}`).toBeLessThan(order.indexOf(unit));
    }
  });

  it("keeps Node out of the core", () => {
    const core = files.filter((file) => !["node/", "cli/"].includes(unitOf(file)));
    for (const file of core) expect(importsOf(file).filter((name) => name.startsWith("node:"))).toEqual([]);
  });

  it("lets each dependency into one file, or one folder", () => {
    const users = new Map<string, Set<string>>();
    for (const file of files) {
      for (const name of importsOf(file).filter((target) => /^[@a-z]/.test(target) && !target.startsWith("node:"))) {
        const dependency = name
          .split("/")
          .slice(0, name.startsWith("@") ? 2 : 1)
          .join("/");
        users.set(dependency, (users.get(dependency) ?? new Set()).add(unitOf(file)));
      }
    }
    const spread = [...users].filter(([, units]) => units.size > 1).map(([name, units]) => [name, [...units].sort()]);
    // Schemas stand beside what they describe.
    expect(spread).toEqual([["zod", ["checkpoint/", "data/", "recipe/", "shards/"]]]);
  });
});
