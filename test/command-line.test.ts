import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeNpy } from "../src/data/npy.js";
import { withGraph } from "../src/graph/model.js";
import { renameReads } from "../src/graph/rename.js";
import { readModelFile, writeModelFile } from "../src/node/model-file.js";
import { float32Tensor, float32Values, int64Tensor, uint8Tensor } from "../src/tensor/tensor.js";
import { recoup } from "./command-line.js";

const cnn = "examples/digits/models/cnn/model.onnx";
const folder = mkdtempSync(join(tmpdir(), "recoup-cli-"));
const at = (...parts: readonly string[]) => join(folder, ...parts);
const samples = at("digits.npy");
const labels = at("labels.npy");

/** Pictures of nothing in particular: what is tested here is not accuracy. */
function somePictures(count: number): Uint8Array {
  return Uint8Array.from({ length: count * 28 * 28 }, (_, i) => (i * i * 7 + (i >> 5) * 31) % 256);
}

beforeAll(async () => {
  writeFileSync(samples, encodeNpy(uint8Tensor([12, 28, 28, 1], somePictures(12))));
  writeFileSync(labels, encodeNpy(int64Tensor([12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])));
  mkdirSync(at("empty"));
  mkdirSync(at("large"));
  mkdirSync(at("unlabelled"));
  const picture = sharp({ create: { width: 40, height: 40, channels: 3, background: "#888888" } }).png();
  writeFileSync(at("large", "a.png"), await picture.toBuffer());
  writeFileSync(at("unlabelled", "a.png"), await picture.clone().resize(28, 28).png().toBuffer());
  writeFileSync(at("unlabelled", "labels.csv"), "file,label\na.png,1\nmissing.png,2\n");
});
afterAll(() => rmSync(folder, { recursive: true }));

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

describe("recoup", () => {
  it("explains itself", async () => {
    const { exitCode, stdout } = await recoup("--help");
    expect(exitCode).toBe(0);
    for (const command of ["inspect", "quantize", "statistics", "evaluate", "compare", "recipes"]) {
      expect(stdout).toContain(command);
      const help = await recoup(command, "--help");
      expect(help.exitCode).toBe(0);
      expect(help.stdout).toMatch(/Examples?:\n {2}recoup /);
    }
  });

  it("says its version", async () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8"));
    expect((await recoup("--version")).stdout).toBe(`${version}\n`);
  });

  it("refuses what it does not know", async () => {
    for (const args of [["frobnicate"], ["quantize"], ["quantize", cnn], ["inspect", cnn, "--frob"], []]) {
      const { exitCode, stdout, stderr } = await recoup(...args);
      expect(exitCode).toBe(2);
      expect(stdout).toBe("");
      expect(stderr).not.toBe("");
    }
  });
});

describe("recoup quantize", () => {
  it("writes a small model, says what it cost, and gives the same bytes on any number of threads", async () => {
    const [one, two] = [at("one.onnx"), at("two.onnx")];
    const common = [cnn, "--data", samples, "--samples", "8", "--weights", "3", "--steps", "bc"];
    const first = await recoup(
      "quantize",
      ...common,
      "-o",
      one,
      "--threads",
      "1",
      "--report",
      at("r.html"),
      "--json",
      at("r.json"),
    );
    expect(first).toMatchObject({ exitCode: 0 });
    expect(first.stdout).toContain("size     296 kB");
    expect(first.stdout).toContain("22 of 22 places compensated");
    const second = await recoup("quantize", ...common, "-o", two, "--threads", "2", "--json");
    const report = JSON.parse(second.stdout);
    expect(report.cost.bytes).toBe(readFileSync(two).length);
    expect(report.recipe).toMatchObject({ samples: 8, seed: 0, steps: [{ use: "bc" }] });
    expect(JSON.parse(readFileSync(at("r.json"), "utf8")).layers).toEqual(report.layers);
    expect(readFileSync(at("r.html"), "utf8")).toContain("/stages/0/0/conv1/Conv");
    expect(sha256(one)).toBe(sha256(two));
    expect(JSON.parse(readModelFile(one).metadata.get("recoup.recipe") ?? "")).toEqual(report.recipe);
  });

  it("takes a recipe, which flags override", async () => {
    const recipe = at("recipe.json");
    const formats = [
      { match: "op:Gemm", weight: "float" },
      { weight: { bits: 4 }, activation: "float" },
    ];
    writeFileSync(recipe, JSON.stringify({ version: 1, formats, samples: 4 }));
    const args = [
      "quantize",
      cnn,
      "-o",
      at("recipe.onnx"),
      "--data",
      samples,
      "--recipe",
      recipe,
      "--weights",
      "2",
      "--json",
    ];
    const { exitCode, stdout } = await recoup(...args);
    expect(exitCode).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.data.samples).toBe(4);
    expect(new Set(report.layers.map((layer: { bits: number }) => layer.bits))).toEqual(new Set([2]));
    expect(report.skipped).toEqual([
      expect.objectContaining({ opType: "Gemm", reason: expect.stringContaining("float") }),
    ]);
  });
});

describe("a sample that holds what is not a number", () => {
  const nan = at("nan.npy");
  const output = at("nan.onnx");
  beforeAll(() => {
    const values = Float32Array.from(somePictures(12), (value) => value / 255);
    values[9 * 28 * 28 + 3] = Number.NaN;
    writeFileSync(nan, encodeNpy(float32Tensor([12, 1, 28, 28], values)));
  });

  it.each<readonly [about: string, args: readonly string[]]>([
    ["quantize", ["quantize", cnn, "-o", output, "--steps", "qwt"]],
    ["quantize with trials", ["quantize", cnn, "-o", output, "--weights", "4", "--steps", "auto"]],
    ["a dry run", ["quantize", cnn, "--dry-run"]],
    ["compensate", ["compensate", cnn, cnn, "-o", output]],
    ["statistics", ["statistics", cnn, "-o", output]],
    ["compare", ["compare", cnn, cnn]],
    ["evaluate", ["evaluate", cnn, "--task", "classification", "--labels", labels]],
  ])("is named, and nothing is written: %s", async (_about, args) => {
    const { exitCode, stdout, stderr } = await recoup(...args, "--data", nan, "--threads", "1");
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain(`${nan}: pixel_values: sample nan.npy[9] holds NaN at element 3 [data/not-finite]`);
    expect(stderr).not.toContain("--resume");
    expect(existsSync(output)).toBe(false);
    expect(existsSync(`${output}.checkpoint`)).toBe(false);
  });
});

describe("recoup quantize --dry-run", () => {
  const command = ["quantize", cnn, "--data", samples, "--weights", "4", "--steps", "bc"];

  it("tells what a run would take and writes nothing", async () => {
    const before = readdirSync(folder);
    const { exitCode, stdout } = await recoup(...command, "--dry-run", "--json");
    expect(exitCode).toBe(0);
    const found = JSON.parse(stdout);
    expect(found).toMatchObject({ model: cnn, samples: 12, layers: 22, skipped: 0 });
    expect(found.diskBytes).toBeGreaterThanOrEqual(found.sourceBytes + found.bytes);
    expect(found.sourceBytes).toBe(readFileSync(cnn).length);
    expect(Object.keys(found.elapsedMs)).toEqual(expect.arrayContaining(["calibrate", "refine", "measure"]));
    const table = await recoup(...command, "--dry-run", "-o", at("dry.onnx"));
    expect(table).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("layers  22 quantized") });
    for (const row of ["time", "memory", "disk", "size"]) expect(table.stdout).toMatch(new RegExp(`^  ${row} `, "m"));
    expect(readdirSync(folder)).toEqual(before);
  });

  it("writes what it tells as JSON where a file for it is given", async () => {
    const { stdout } = await recoup(...command, "--dry-run", "--json", at("dry.json"));
    expect(stdout).toContain("layers  22 quantized");
    expect(JSON.parse(readFileSync(at("dry.json"), "utf8"))).toMatchObject({ model: cnn, samples: 12, layers: 22 });
    rmSync(at("dry.json"));
  });

  it("is what lets a command go without an output", async () => {
    const { exitCode, stdout, stderr } = await recoup(...command);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain("required option '-o, --output <file>'");
  });
});

describe("recoup evaluate and compare", () => {
  it("measure a model beside another", async () => {
    const evaluation = await recoup(
      ...["evaluate", cnn, "--task", "classification", "--data", samples, "--labels", labels, "--reference", cnn],
      ...["--limit", "5", "--json"],
    );
    expect(evaluation.exitCode).toBe(0);
    const result = JSON.parse(evaluation.stdout);
    expect(result).toMatchObject({ task: "classification", n: 5, agreement: 100, kl: 0 });
    expect(result.model).toEqual({ bytes: readFileSync(cnn).length, sha256: sha256(cnn) });
    const comparison = await recoup("compare", cnn, cnn, "--data", samples, "--limit", "3", "--json");
    expect(JSON.parse(comparison.stdout)).toMatchObject({
      sizeRatio: 1,
      output: { agreement: 100, kl: 0, sqnrDb: null },
    });
    expect((await recoup("compare", cnn, cnn, "--data", samples, "--limit", "3")).stdout).toContain(
      "Layers, worst first",
    );
  });
});

describe("recoup recipes", () => {
  it("lists presets, steps and ranges, for people and for machines", async () => {
    const { stdout } = await recoup("recipes");
    expect(stdout).toMatch(/^ {2}balanced +8 bits/m);
    expect(stdout).toMatch(/^ {2}bc +bias compensation/m);
    expect(stdout).toMatch(/^ {4}:places=\S+ +/m);
    expect(stdout).toMatch(/^ {2}moving-average +the extremes of the samples/m);
    const listed = JSON.parse((await recoup("recipes", "--json")).stdout);
    expect(listed.presets).toContainEqual(
      expect.objectContaining({ name: "cnn-low-bit", recipe: expect.objectContaining({ edges: 8, samples: 128 }) }),
    );
    expect(listed.steps.map((step: { name: string }) => step.name)).toContain("qwt");
    expect(listed.ranges).toContainEqual({ name: "mse", summary: "the range with the smallest squared error" });
  });

  it("are taken by name, with flags over them, and from models that were made with them", async () => {
    const bits = async (...flags: readonly string[]) => {
      const { quantized } = JSON.parse((await recoup("inspect", cnn, "--json", ...flags)).stdout);
      return quantized.map((layer: { weightBits: number; activationBits: number }) => [
        layer.weightBits,
        layer.activationBits,
      ]);
    };
    const found = await bits("--preset", "cnn-low-bit", "--weights", "3");
    expect([found[0], found[1], found.at(-1)]).toEqual([
      [8, 8],
      [3, 4],
      [8, 8],
    ]);
    const made = await recoup(
      "quantize",
      cnn,
      "--data",
      samples,
      "-o",
      at("made.onnx"),
      "--preset",
      "fastest",
      "--samples",
      "4",
    );
    expect(made.exitCode).toBe(0);
    expect(await bits("--from", at("made.onnx"))).toEqual(await bits());
  });
});

describe("recoup inspect", () => {
  it("says what would be quantized", async () => {
    expect((await recoup("inspect", cnn)).stdout).toContain("22 layers");
    const found = JSON.parse((await recoup("inspect", cnn, "--json", "--skip", "op:Gemm")).stdout);
    expect(found.quantized).toHaveLength(21);
    writeFileSync(at("float.json"), JSON.stringify({ formats: [{ activation: "float" }] }));
    const told = await recoup("inspect", cnn, "--recipe", at("float.json"), "--weights", "3", "--json");
    expect(JSON.parse(told.stdout).quantized[0]).toMatchObject({ weightBits: 3, activationBits: "float" });
    const refused = await recoup("inspect", cnn, "--granularity", "row");
    expect(refused).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("--granularity: ") });
    expect(found.skipped).toEqual([expect.objectContaining({ opType: "Gemm" })]);
  });
});

describe("bad input", () => {
  const model = readFileSync(cnn);
  const files = {
    "picture.onnx": Buffer.from("89504e470d0a1a0a0000000d49484452", "hex"),
    "pointer.onnx": Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 12345\n"),
    "cut.onnx": model.subarray(0, model.length - 1000),
    "empty.onnx": Buffer.alloc(0),
    "broken.json": Buffer.from("{"),
    "null.json": Buffer.from("null"),
    "output.json": Buffer.from(JSON.stringify({ steps: ["bc", { use: "cat", output: "nope" }] })),
    "wrong.json": Buffer.from('{"formats":[{"weight":{"bits":9}}]}'),
  };

  beforeAll(() => {
    for (const [name, bytes] of Object.entries(files)) writeFileSync(at(name), bytes);
    const sound = readModelFile(cnn);
    const [name, tensor] = [...sound.graph.initializers].find(([, candidate]) => candidate.shape.length === 4) ?? [];
    if (name === undefined || tensor === undefined) throw new Error("the example has no convolution");
    const values = float32Values(tensor).map((value, i) => (i === 5 ? Number.NaN : value));
    const initializers = new Map([...sound.graph.initializers, [name, float32Tensor(tensor.shape, values)]]);
    const inputs = sound.graph.inputs.map((input) => ({ ...input, name: "other" }));
    const nodes = sound.graph.nodes.map((node) => renameReads(node, new Map([[sound.graph.inputs[0].name, "other"]])));
    writeModelFile(at("renamed.onnx"), withGraph(sound, { ...sound.graph, inputs, nodes, origin: undefined }));
    const metadata = new Map([["recoup.compensation", JSON.stringify({ steps: ["ranges", "bc:places=all"] })]]);
    writeModelFile(at("compensated.onnx"), { ...sound, metadata });
    writeModelFile(at("both.onnx"), { ...sound, metadata: new Map([...metadata, ["recoup.recipe", "{}"]]) });
    writeModelFile(at("nan.onnx"), withGraph(sound, { ...sound.graph, initializers, origin: undefined }));
  });

  const output = at("out.onnx");
  const quantize = (path: string, ...rest: readonly string[]) => [
    "quantize",
    path,
    "-o",
    output,
    "--data",
    samples,
    ...rest,
  ];
  const dryRun = (path: string, ...rest: readonly string[]) => [
    "quantize",
    path,
    "--data",
    samples,
    "--dry-run",
    ...rest,
  ];
  const cases: readonly (readonly [string, readonly string[], RegExp])[] = [
    ["a picture", quantize(at("picture.onnx")), /picture\.onnx: is no ONNX model but a PNG picture/],
    ["a Git LFS pointer", quantize(at("pointer.onnx")), /pointer\.onnx: is no ONNX model but a Git LFS pointer/],
    ["a truncated model", quantize(at("cut.onnx")), /cut\.onnx: .*\[onnx\/malformed\]/],
    ["an empty model", quantize(at("empty.onnx")), /empty\.onnx: is empty/],
    ["a missing model", quantize(at("none.onnx")), /none\.onnx: does not exist/],
    ["a weight that is not a number", quantize(at("nan.onnx")), /nan\.onnx: .*conv.*: holds NaN at element 5/],
    ["an empty folder", ["quantize", cnn, "-o", output, "--data", at("empty")], /empty: holds no/],
    ["missing data", ["quantize", cnn, "-o", output, "--data", at("none")], /none: does not exist/],
    ["pictures of the wrong size", ["quantize", cnn, "-o", output, "--data", at("large")], /a\.png.*40.*28/],
    ["too many bits", quantize(cnn, "--weights", "9"), /--weights: is a whole number from 2 to 8/],
    ["half a bit", quantize(cnn, "--weights", "4.5"), /--weights: is a whole number from 2 to 8/],
    ["no bits", quantize(cnn, "--activations", "None"), /--activations: .* or none, not "None"/],
    ["a range estimator that is none", quantize(cnn, "--weight-range", "median"), /--weight-range: must be "minmax"/],
    ["a rounding that is none", quantize(cnn, "--rounding", "gtpq"), /--rounding: must be "rtn" or "gptq"/],
    ["a target that is none", quantize(cnn, "--rounding", "gptq", "--target", "x"), /--target: must be "auto" or/],
    ["a preset that is none", quantize(cnn, "--preset", "best"), /--preset: is no preset: there are balanced, /],
    ["two recipes", quantize(cnn, "--preset", "vit", "--from", cnn), /--from: says what --preset says too/],
    ["the recipe of a model that has none", quantize(cnn, "--from", cnn), /onnx: holds no recipe/],
    [
      "an option that a step does not have",
      quantize(cnn, "--steps", "bc:rank=3"),
      /--steps bc: has no option "rank": there are bias,/,
    ],
    ["a target of nothing", quantize(cnn, "--target", "float"), /--target: is for weights that "gptq" rounds/],
    ["far too many threads", quantize(cnn, "--threads", "100000"), /--threads: is a whole number from 1 to 256/],
    ["an output that is a device", ["quantize", cnn, "-o", "/dev/zero", "--data", samples], /zero: is no regular file/],
    ["a recipe that is nothing", quantize(cnn, "--recipe", at("null.json")), /null\.json: .*must be a recipe/],
    ["other inputs", ["compare", cnn, at("renamed.onnx"), "--data", samples], /renamed\.onnx: takes other where/],
    ["a number that is none", quantize(cnn, "--samples", "many"), /--samples: is a whole number/],
    ["a granularity that is none", quantize(cnn, "--granularity", "row"), /--granularity: /],
    ["a step that is none", quantize(cnn, "--steps", "magic"), /--steps magic: must be a step/],
    [
      "a folder that is missing",
      ["quantize", cnn, "-o", at("no", "out.onnx"), "--data", samples],
      /out\.onnx: the folder .* does not exist/,
    ],
    [
      "a folder that is a file",
      ["quantize", cnn, "-o", join(samples, "out.onnx"), "--data", samples],
      /out\.onnx: .*digits\.npy is no folder/,
    ],
    ["samples below a file", ["quantize", cnn, "-o", output, "--data", join(samples, "x")], /digits\.npy\/x: cannot/],
    ["an output that is the samples", ["quantize", cnn, "-o", samples, "--data", samples], /is an input too/],
    ["JSON over the samples", quantize(cnn, "--json", samples), /digits\.npy: is an input too/],
    [
      "a report over the recipe",
      quantize(cnn, "--recipe", at("broken.json"), "--report", at("broken.json")),
      /broken\.json: is an input too/,
    ],
    ["a report over the output", quantize(cnn, "--report", output), /out\.onnx: is to be written twice/],
    [
      "two reports in one file",
      quantize(cnn, "--report", at("both"), "--json", at(".", "both")),
      /both: is to be written twice/,
    ],
    ["an output that is the input", ["quantize", cnn, "-o", cnn, "--data", samples], /is an input too/],
    ["a recipe that is no JSON", quantize(cnn, "--recipe", at("broken.json")), /broken\.json: is not JSON/],
    [
      "a recipe that is wrong",
      quantize(cnn, "--recipe", at("wrong.json")),
      /wrong\.json: formats\[0\]\.weight\.bits: /,
    ],
    ["everything skipped", quantize(cnn, "--skip", "*"), /no layer to quantize: .*skips/],
    ["a dry run of a truncated model", dryRun(at("cut.onnx")), /cut\.onnx: .*\[onnx\/malformed\]/],
    ["a dry run of nothing", dryRun(cnn, "--skip", "*"), /no layer to quantize: .*skips/],
    ["a dry run with a step that is none", dryRun(cnn, "--steps", "magic"), /--steps magic: /],
    ["a dry run with a report", dryRun(cnn, "--report", at("dry.html")), /--report: .*: leave it out with --dry-run/],
    ["a dry run that goes on", dryRun(cnn, "-o", output, "--resume"), /--resume: .*: leave it out with --dry-run/],
    ["an option twice", quantize(cnn, "--weights", "4", "--weights", "3"), /^recoup: --weights: is given twice/],
    [
      "two shards",
      ["statistics", cnn, "-o", output, "--data", samples, "--shard", "1/2", "--shard", "2/2"],
      /^recoup: --shard: is given twice/,
    ],
    ["steps beside auto", quantize(cnn, "--steps", "auto,bc"), /--steps: "auto" .* stands alone/],
    [
      "a rounding beside auto",
      quantize(cnn, "--steps", "auto", "--rounding", "rtn"),
      /^recoup: --rounding: --steps auto chooses the rounding: leave one of them out/,
    ],
    [
      "an option of a step twice",
      quantize(cnn, "--steps", "bc:places=layers:places=all"),
      /^recoup: --steps bc:places: is given twice/,
    ],
    [
      "the recipe of a model that was compensated behind it",
      quantize(cnn, "--from", at("both.onnx")),
      /both\.onnx: was changed by recoup compensate with --steps ranges,bc:places=all after its recipe: .* before that \[/,
    ],
    ["data without a name", ["quantize", cnn, "-o", output, "--data", ""], /^recoup: "": does not exist/],
    [
      "the recipe of a model that was compensated",
      quantize(cnn, "--from", at("compensated.onnx")),
      /compensated\.onnx: holds no recipe: recoup compensate .* with --steps ranges,bc:places=all \[recipe/,
    ],
    [
      "an output of a step that the model does not have",
      quantize(cnn, "--steps", "bc,cat:output=nope"),
      /^recoup: --steps cat:output: "nope" is no output of the model: there are \w+ \[usage/,
    ],
    [
      "an output in a recipe that the model does not have",
      quantize(cnn, "--recipe", at("output.json")),
      /output\.json: steps\[1\]\.output: "nope" is no output of the model/,
    ],
    [
      "an output of a compensation that the model does not have",
      ["compensate", cnn, cnn, "-o", output, "--data", samples, "--steps", "ranges,cat:output=nope"],
      /^recoup: --steps cat:output: "nope" is no output of the model/,
    ],
    [
      "an option of a step without a value",
      quantize(cnn, "--steps", "bc:places"),
      /--steps bc: takes a value for places: bc:places=VALUE/,
    ],
    ["a dry run over the samples", dryRun(cnn, "-o", samples), /is an input too/],
    ["a dry run with JSON over the samples", dryRun(cnn, "--json", samples), /digits\.npy: is an input too/],
    [
      "a label of a missing picture",
      ["evaluate", cnn, "--task", "classification", "--data", at("unlabelled")],
      /missing\.png.*\[data\/label\]/,
    ],
    ["no labels", ["evaluate", cnn, "--task", "classification", "--data", samples], /has no label/],
    ["a broken model", ["inspect", at("cut.onnx")], /cut\.onnx: /],
  ];

  it.each(cases)("%s: one line, exit code 2, nothing written", async (_, args, line) => {
    const before = readdirSync(folder);
    const { exitCode, stdout, stderr } = await recoup(...args);
    expect(stderr).toMatch(line);
    const lines = stderr
      .trim()
      .split("\n")
      .filter((text) => !/^\w+: [\d.]+ m?s$/.test(text) && !text.startsWith("warning: "));
    expect(lines).toHaveLength(1);
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(readdirSync(folder)).toEqual(before);
    expect(existsSync(output)).toBe(false);
  });
});
