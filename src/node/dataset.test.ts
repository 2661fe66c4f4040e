import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { zipSync } from "fflate";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeNpy } from "../data/npy.js";
import type { Sample, Samples } from "../data/samples.js";
import type { Dimension, Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import {
  float32Tensor,
  float32Values,
  int64Tensor,
  integerValues,
  type Tensor,
  uint8Tensor,
} from "../tensor/tensor.js";
import { openDataset } from "./dataset.js";

let root: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "recoup-dataset-"));
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

function write(name: string, content: string | Uint8Array): string {
  const path = join(root, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

/** A picture of one color, 4 wide and 2 high. */
async function writePicture(name: string, [r, g, b]: readonly number[]): Promise<string> {
  const image = sharp({ create: { width: 4, height: 2, channels: 3, background: { r, g, b } } });
  return write(name, await image.png().toBuffer());
}

function input(shape: readonly Dimension[], elementType: ElementType = "float32", name = "x"): Value {
  return { name, type: { kind: "tensor", elementType, shape } };
}

const color = [input(["n", 3, "h", "w"])];

async function readAll(samples: Samples): Promise<Sample[]> {
  const read: Sample[] = [];
  for await (const sample of samples.read([...Array(samples.length).keys()])) read.push(sample);
  return read;
}

function tensorOf(sample: Sample, name = "x"): Tensor {
  const tensor = sample.feeds.get(name);
  if (!tensor) throw new Error(`no ${name}`);
  return tensor;
}

describe("a folder of pictures", () => {
  it("is read by name, without labels, with a warning where nothing says how to prepare it", async () => {
    await writePicture("plain/b.png", [255, 0, 0]);
    await writePicture("plain/a.PNG", [0, 0, 51]);
    write("plain/notes.txt", "no picture");
    write("plain/.hidden.png", "no picture");
    const samples = await openDataset(join(root, "plain"), color);
    const [a, b] = await readAll(samples);
    expect([a.id, b.id, a.label]).toEqual(["a.PNG", "b.png", undefined]);
    expect(tensorOf(a).shape).toEqual([1, 3, 2, 4]);
    expect([...float32Values(tensorOf(a))]).toEqual([...Array(16).fill(0), ...Array(8).fill(Math.fround(0.2))]);
    expect(samples.description).toBe("2 pictures of plain: not resized; times 0.00392157");
    expect(samples.warnings).toEqual([expect.stringContaining("scaled to 0 … 1")]);
  });

  it("takes labels.csv for labels, choice and order", async () => {
    for (const name of ["a", "b", "c"]) await writePicture(`table/${name}.png`, [1, 2, 3]);
    write("table/labels.csv", "file,label\nc.png,5\na.png,0\n");
    const read = await readAll(await openDataset(join(root, "table"), color));
    expect(read.map(({ id, label }) => [id, label])).toEqual([
      ["c.png", 5],
      ["a.png", 0],
    ]);
    const list = write("list.txt", "7\n8\n9\n");
    const relabelled = await readAll(await openDataset(join(root, "table"), color, { labels: list }));
    expect(relabelled.map(({ id, label }) => [id, label])).toEqual([
      ["a.png", 7],
      ["b.png", 8],
      ["c.png", 9],
    ]);
  });

  it("takes each subfolder for a class", async () => {
    await writePicture("classes/dog/1.png", [1, 2, 3]);
    await writePicture("classes/cat/deep/2.png", [1, 2, 3]);
    await writePicture("classes/cat/1.png", [1, 2, 3]);
    symlinkSync("..", join(root, "classes/cat/circle"));
    const samples = await openDataset(join(root, "classes"), color);
    expect((await readAll(samples)).map(({ id, label }) => [id, label])).toEqual([
      ["cat/1.png", 0],
      ["cat/deep/2.png", 0],
      ["dog/1.png", 1],
    ]);
    expect(samples.warnings).toHaveLength(1);
  });

  it("warns where folders are numbered otherwise than by name", async () => {
    for (const name of ["0", "2", "10"]) await writePicture(`numbers/${name}/1.png`, [1, 2, 3]);
    const { warnings } = await openDataset(join(root, "numbers"), color);
    expect(warnings).toContainEqual(expect.stringContaining("10 is class 1"));
  });

  it("takes the preprocess of the option, else the one beside the model", async () => {
    await writePicture("config/a.png", [10, 20, 30]);
    const beside = write("model/preprocessor_config.json", '{"size": {"height": 1, "width": 1}, "do_rescale": false}');
    const given = write("given.json", '{"size": 2, "do_rescale": false, "data_format": "channels_last"}');
    const options = { modelFolder: dirname(beside) };
    const [first] = await readAll(await openDataset(join(root, "config"), color, options));
    expect([...float32Values(tensorOf(first))]).toEqual([10, 20, 30]);
    const last = [input([1, 2, 2, 3])];
    const [second] = await readAll(await openDataset(join(root, "config"), last, { ...options, preprocess: given }));
    expect([...float32Values(tensorOf(second))]).toEqual([10, 20, 30, 10, 20, 30, 10, 20, 30, 10, 20, 30]);
  });

  it("names a picture that does not fit the model, and says what to do", async () => {
    await writePicture("misfit/a.png", [1, 2, 3]);
    const samples = await openDataset(join(root, "misfit"), [input([1, 3, 224, 224])]);
    await expect(readAll(samples)).rejects.toMatchObject({
      code: "data/mismatch",
      message: expect.stringMatching(/4×2.*224×224.*--preprocess/),
      place: { file: join(root, "misfit"), field: "picture a.png" },
    });
  });

  it("names a picture that is broken when its turn comes", async () => {
    const good = await sharp({ create: { width: 64, height: 64, channels: 3, background: "red" } })
      .jpeg()
      .toBuffer();
    write("broken/1.jpg", good);
    write("broken/2.jpg", good.subarray(0, good.length - 40));
    write("broken/3.png", "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>");
    const samples = await openDataset(join(root, "broken"), color);
    const seen: string[] = [];
    const reading = async (indices: readonly number[]) => {
      for await (const { id } of samples.read(indices)) seen.push(id);
    };
    const file = (name: string) => ({ code: "data/unreadable", place: { file: join(root, "broken", name) } });
    await expect(reading([0, 1, 2])).rejects.toMatchObject(file("2.jpg"));
    expect(seen).toEqual(["1.jpg"]);
    await expect(reading([2])).rejects.toMatchObject(file("3.png"));
  });

  it.each([
    ["names a missing picture", "file,label\nx.png,1\n", "line 2"],
    ["holds no number", "file,label\na.png,one\n", "line 2"],
    ["has another length", "1\n2\n", undefined],
  ])("refuses a label file that %s", async (_, text, field) => {
    await writePicture("labelled/a.png", [1, 2, 3]);
    const labels = write("labels-of-others.csv", text);
    await expect(openDataset(join(root, "labelled"), color, { labels })).rejects.toMatchObject({
      code: "data/label",
      place: field === undefined ? { file: labels } : { file: labels, field },
    });
  });

  it("has a fingerprint of contents, names, order and preparation", async () => {
    await writePicture("print/a.png", [1, 2, 3]);
    await writePicture("print/b.png", [3, 2, 1]);
    const folder = join(root, "print");
    const preprocess = write("half.json", '{"rescale_factor": 0.5}');
    const fingerprint = async (options = {}) => (await openDataset(folder, color, options)).fingerprint([0, 1]);
    const first = await fingerprint();
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(await fingerprint()).toBe(first);
    const reordered = write("reordered.csv", "file,label\nb.png,0\na.png,0\n");
    const others = [await fingerprint({ preprocess }), await fingerprint({ labels: reordered })];
    await writePicture("print/b.png", [3, 2, 2]);
    others.push(await fingerprint());
    expect(new Set([first, ...others]).size).toBe(4);
  });

  it("looks only at the samples of a fingerprint, and names one that is gone", async () => {
    await writePicture("some/a.png", [1, 2, 3]);
    await writePicture("some/b.png", [3, 2, 1]);
    await writePicture("some/c.png", [3, 2, 1]);
    const samples = await openDataset(join(root, "some"), color);
    const [a, b, c] = await Promise.all([[0], [1], [2]].map((indices) => samples.fingerprint(indices)));
    expect(new Set([a, b, c]).size).toBe(3);
    rmSync(join(root, "some/b.png"));
    expect(await samples.fingerprint([0])).toBe(a);
    await expect(samples.fingerprint([0, 1])).rejects.toMatchObject({
      code: "data/unreadable",
      place: { file: join(root, "some/b.png") },
    });
  });
});

describe("arrays", () => {
  it("takes uint8 [N, H, W, 3] for pictures", async () => {
    const path = write(
      "pictures.npy",
      encodeNpy(
        uint8Tensor(
          [2, 1, 2, 3],
          Array.from({ length: 12 }, (_, i) => i * 17),
        ),
      ),
    );
    const labels = write("labels.npy", encodeNpy(int64Tensor([2], [4, 2])));
    const samples = await openDataset(path, [input([1, 3, 1, 2])], { labels });
    const [, second] = await readAll(samples);
    expect(second).toMatchObject({ id: "pictures.npy[1]", label: 2 });
    const expected = [102, 153, 119, 170, 136, 187].map((pixel) => Math.fround(pixel / 255));
    expect([...float32Values(tensorOf(second))]).toEqual(expected);
    expect(samples.description).toContain("2 pictures of pictures.npy");
  });

  it("feeds anything else as it is", async () => {
    const path = write("rows.npy", encodeNpy(float32Tensor([2, 3], [1, 2, 3, 4, 5, 6])));
    const samples = await openDataset(path, [input(["n", 3])], { preprocess: "unused.json" });
    const [, second] = await readAll(samples);
    expect(tensorOf(second).shape).toEqual([1, 3]);
    expect([...float32Values(tensorOf(second))]).toEqual([4, 5, 6]);
    expect(samples.warnings).toEqual([expect.stringContaining("unused.json was not used")]);
  });

  it("takes an archive with an array for each input, or with one array of pictures", async () => {
    const ids = encodeNpy(int64Tensor([2, 2], [1, 2, 3, 4]));
    const path = write("feeds.npz", zipSync({ "input_ids.npy": ids, "mask.npy": ids }));
    const inputs = [input(["n", "s"], "int64", "input_ids"), input(["n", "s"], "int64", "mask")];
    const [first] = await readAll(await openDataset(path, inputs));
    expect(integerValues(tensorOf(first, "mask"))).toEqual([1, 2]);
    await expect(openDataset(path, [inputs[0]])).rejects.toMatchObject({
      code: "data/mismatch",
      place: { field: "mask" },
    });
    const pixels = encodeNpy(uint8Tensor([1, 1, 1], [255]));
    const pictures = write("pictures.npz", zipSync({ "images.npy": pixels }));
    const [white] = await readAll(await openDataset(pictures, [input([1, 1, 1, 1])]));
    expect([...float32Values(tensorOf(white))]).toEqual([1]);
  });

  it("does not feed two inputs from one array", async () => {
    const path = write("one.npy", encodeNpy(float32Tensor([2, 3], [1, 2, 3, 4, 5, 6])));
    const inputs = [input(["n", 3]), input(["n", 3], "float32", "y")];
    await expect(openDataset(path, inputs)).rejects.toMatchObject({ code: "data/mismatch", place: { file: path } });
  });
});

describe("lines of JSON", () => {
  it("are samples, with labels from a list", async () => {
    const path = write("ids.jsonl", '{"input_ids":[1,2]}\n{"input_ids":[3]}\n');
    const inputs = [input(["n", "s"], "int64", "input_ids")];
    const read = await readAll(await openDataset(path, inputs, { labels: write("two.txt", "1\n0\n") }));
    expect(read.map(({ label }) => label)).toEqual([1, 0]);
    expect(tensorOf(read[0], "input_ids").shape).toEqual([1, 2]);
  });

  it("name file, line and key of what is wrong", async () => {
    const path = write("wrong.jsonl", '{"input_ids":[1,2]}\n{"input_ids":["a"]}\n');
    await expect(openDataset(path, [input(["n", "s"], "int64", "input_ids")])).rejects.toMatchObject({
      code: "data/mismatch",
      place: { file: path, field: "line 2: input_ids" },
    });
  });
});

describe("openDataset", () => {
  it.each([
    ["nothing there", () => join(root, "nowhere"), "file/not-found"],
    ["a path through a file", () => join(write("data.npy", "x"), "x"), "file/unreadable"],
    ["a name that is too long", () => join(root, "n".repeat(300)), "file/unreadable"],
    ["a file of another kind", () => write("data.bin", "x"), "data/unreadable"],
    ["a folder without pictures", () => dirname(write("empty/readme.txt", "x")), "data/empty"],
    ["a file without samples", () => write("empty.jsonl", "\n"), "data/empty"],
    ["an array without samples", () => write("none.npy", encodeNpy(uint8Tensor([0, 1, 1, 3], []))), "data/empty"],
  ])("refuses %s", async (_, path, code) => {
    await expect(openDataset(path(), color)).rejects.toMatchObject({ code });
  });

  it("names the preprocess file and its key", async () => {
    await writePicture("named/a.png", [1, 2, 3]);
    const preprocess = write("wrong.json", '{"resample": "best"}');
    await expect(openDataset(join(root, "named"), color, { preprocess })).rejects.toMatchObject({
      code: "preprocess/invalid",
      place: { file: preprocess, field: "resample" },
    });
  });
});
