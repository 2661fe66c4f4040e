import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeNpy } from "../src/data/npy.js";
import { measureStatistics, quantize, writeModelFile } from "../src/node/index.js";
import { recoup } from "./command-line.js";
import { someFloats } from "./models.js";
import { makeResidualNet } from "./networks.js";

const folder = mkdtempSync(join(tmpdir(), "recoup-shards-"));
const at = (name: string) => join(folder, name);
const model = at("model.onnx");
const data = at("data.npy");
const shards = [1, 2, 3].map((index) => at(`${index}.statistics`));

const statistics = (shard: string, output: string, ...rest: readonly string[]) =>
  recoup("statistics", model, "--data", data, "--shard", shard, "-o", output, ...rest);

beforeAll(async () => {
  const net = makeResidualNet();
  const [{ shape }] = net.feeds.values();
  writeModelFile(model, net.model);
  const { graph } = net.model;
  const [name, tensor] = [...graph.initializers][0];
  const initializers = new Map([...graph.initializers, [name, someFloats(tensor.shape, 500)]]);
  writeModelFile(at("other.onnx"), { ...net.model, graph: { ...graph, initializers } });
  const samples = [40, ...shape.slice(1)];
  writeFileSync(data, encodeNpy(someFloats(samples, 300)));
  writeFileSync(at("other.npy"), encodeNpy(someFloats(samples, 301)));
  for (const [i, output] of shards.entries()) expect((await statistics(`${i + 1}/3`, output)).exitCode).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("recoup statistics and quantize --from-statistics", () => {
  it("give the model of a plain run, whatever the order of the files", async () => {
    const common = [model, "--data", data, "--weights", "4", "--steps", "bc"];
    const plain = await recoup("quantize", ...common, "-o", at("plain.onnx"));
    const [first, second, third] = shards;
    const files = ["--from-statistics", third, first, second];
    const merged = await recoup("quantize", ...common, "-o", at("merged.onnx"), ...files, "--json");
    expect([plain.exitCode, merged.exitCode]).toEqual([0, 0]);
    expect(readFileSync(at("merged.onnx")).equals(readFileSync(at("plain.onnx")))).toBe(true);
    expect(JSON.parse(merged.stdout).data).toMatchObject({ samples: 40, available: 40 });
  });

  it("say what was measured", async () => {
    const { exitCode, stdout } = await statistics("2/3", at("again.statistics"));
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/model\.onnx → .*again\.statistics: shard 2\/3, 16 of 40 samples, [\d.]+ kB\n$/);
    expect(readFileSync(at("again.statistics")).equals(readFileSync(shards[1]))).toBe(true);
    const told = JSON.parse((await statistics("2/3", at("again.statistics"), "--json")).stdout);
    expect(told).toMatchObject({
      output: at("again.statistics"),
      bytes: readFileSync(shards[1]).length,
      header: { samples: 40, shard: { index: 2, count: 3 }, data: { samples: 16 } },
    });
  });

  it("measure all samples where no shard is given", async () => {
    const { statistics: measured, bytes } = await measureStatistics(model, {
      data,
      range: "moving-average",
      threads: 1,
    });
    expect(measured.header).toMatchObject({ shard: { index: 1, count: 1 }, data: { samples: 40 }, batchSize: 1 });
    expect(bytes).toBeGreaterThan(0);
  });

  it("take a file that stands for all samples through the API", async () => {
    const output = at("all.statistics");
    await measureStatistics(model, { data, output, range: "minmax", threads: 1 });
    const options = { data, range: "minmax", threads: 1 };
    await quantize(model, { ...options, output: at("all.onnx"), fromStatistics: [output] });
    await quantize(model, { ...options, output: at("run.onnx") });
    expect(readFileSync(at("all.onnx")).equals(readFileSync(at("run.onnx")))).toBe(true);
    await expect(quantize(model, { ...options, fromStatistics: [] })).rejects.toMatchObject({ code: "usage/argument" });
  });
});

describe("bad input", () => {
  const output = at("out");
  const [first, second, third] = shards;
  const measure = (...rest: readonly string[]) => ["statistics", model, "--data", data, "-o", output, ...rest];
  const from = (files: readonly string[], ...rest: readonly string[]) => [
    ...["quantize", model, "--data", data, "-o", output],
    ...["--from-statistics", ...files, ...rest],
  ];

  beforeAll(async () => {
    const bytes = readFileSync(first);
    writeFileSync(at("cut.statistics"), bytes.subarray(0, bytes.length - 100));
    writeFileSync(at("garbage.statistics"), "these are no statistics\n".repeat(100));
    const half = await statistics("1/2", at("half.statistics"));
    expect(half.exitCode).toBe(0);
  });

  const cases: readonly (readonly [about: string, args: readonly string[], line: RegExp])[] = [
    ["shard 0", measure("--shard", "0/2"), /--shard: is a part like 2\/8, .*not "0\/2" \[usage\/argument\]/],
    ["a shard beyond the last", measure("--shard", "3/2"), /--shard: .*not "3\/2"/],
    ["a shard that is no number", measure("--shard", "x/y"), /--shard: .*not "x\/y"/],
    ["a shard of nothing", measure("--shard", "1"), /--shard: .*not "1"/],
    ["more shards than batches", measure("--shard", "1/4"), /--shard: is 1\/4, but the 40 samples .* 3 shards at most/],
    ["activations in float", measure("--activations", "none"), /model\.onnx: keeps all activations in float/],
    ["statistics over the data", ["statistics", model, "--data", data, "-o", data], /data\.npy: is an input too/],
    ["statistics without a file", ["statistics", model, "--data", data], /--output/],
    [
      "a missing shard",
      from([first, third]),
      /1\.statistics: shard: is 1\/3, but 2\/3 is missing \[statistics\/mismatch\]/,
    ],
    ["a shard given twice", from([first, second, second, third]), /2\.statistics: shard: is 2\/3, and so is .*2\.stat/],
    [
      "shards of two numbers",
      from([first, at("half.statistics")]),
      /half\.statistics: shard: is 1\/2, .*1\.statistics 1\/3/,
    ],
    ["a missing file", from([first, at("none")]), /none: does not exist/],
    ["a truncated file", from([at("cut.statistics"), second, third]), /cut\.statistics: .*\[statistics\/malformed\]/],
    ["no statistics", from([at("garbage.statistics")]), /garbage\.statistics: is not a file of statistics/],
    ["a model for statistics", from([model]), /model\.onnx: is not a file of statistics/],
    [
      "another range",
      from(shards, "--range", "minmax"),
      /1\.statistics: statistics: hold "histogram .*--range differs/,
    ],
    [
      "layers that are skipped",
      from(shards, "--skip", "op:Gemm", "op:MatMul", "*1*"),
      /1\.statistics: statistics: hold "/,
    ],
    ["another seed", from(shards, "--seed", "5"), /1\.statistics: seed: is 0, in this run 5/],
    ["fewer samples", from(shards, "--samples", "30"), /1\.statistics: samples: is 40, in this run 30/],
    [
      "another model",
      ["quantize", at("other.onnx"), "--data", data, "-o", output, "--from-statistics", ...shards],
      /1\.statistics: model: is another one than in this run/,
    ],
    [
      "other data",
      ["quantize", model, "--data", at("other.npy"), "-o", output, "--from-statistics", ...shards],
      /1\.statistics: data: are other samples than in this run/,
    ],
    [
      "a model over the statistics",
      ["quantize", model, "--data", data, "-o", first, "--from-statistics", ...shards],
      /1\.statistics: is an input too/,
    ],
  ];

  it.each(cases)("%s: one line, exit code 2, nothing written", async (_, args, line) => {
    const before = readdirSync(folder);
    const { exitCode, stdout, stderr } = await recoup(...args);
    expect(stderr).toMatch(line);
    expect(stderr.split("\n").filter((text) => text.startsWith("recoup: ") || text.startsWith("error: "))).toHaveLength(
      1,
    );
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(readdirSync(folder)).toEqual(before);
    expect(existsSync(output)).toBe(false);
  });
});
