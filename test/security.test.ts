import { execFileSync } from "node:child_process";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { readNpy } from "../src/data/npy.js";
import { readNpz } from "../src/data/npz.js";
import { zip } from "../src/data/zip.js";
import { withSession } from "../src/engine/engine.js";
import { type ErrorCode, RecoupError } from "../src/errors.js";
import { withGraph } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import { readModelFile, writeModelFile } from "../src/node/model-file.js";
import { decodePictureFile } from "../src/node/pictures.js";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import {
  deepestBody,
  largestDense,
  largestMessage,
  largestOverhead,
  largestTensor,
  mostAxes,
  mostNodes,
} from "../src/onnx/limits.js";
import { readModel } from "../src/onnx/model.js";
import { matchesText } from "../src/recipe/match.js";
import { parseRecipe } from "../src/recipe/recipe.js";
import { escapeHtml, page } from "../src/report/html-elements.js";
import { float32Tensor, float32Values, int64Tensor } from "../src/tensor/tensor.js";
import { makeTestModel, runModel } from "./models.js";
import {
  bytes,
  concat,
  concatAll,
  entry,
  floatValue,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  tag,
  tensorOf,
  text,
} from "./wire.js";

/** One test for each entry of the security record of the tools around ONNX: what happened to others does not happen here. */

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

let folder: string;
let outside: string;
const at = (...names: readonly string[]) => join(folder, ...names);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-security-"));
  outside = mkdtempSync(join(tmpdir(), "recoup-security-"));
  writeFileSync(join(outside, "secret"), littleEndian(Float32Array.of(7, 8)));
});
afterEach(() => {
  for (const path of [folder, outside]) rmSync(path, { recursive: true });
});

const refused = (code: ErrorCode) => expect.objectContaining({ code });

/** y = x + w, where w stands in another file. */
function withExternal(...entries: readonly Uint8Array[]): Uint8Array {
  const w = bytes(5, tensorOf("w", 1, [2], ...entries, number(14, 1)));
  const add = nodeOf("Add", ["x", "w"], ["y"]);
  return modelOf(concat(add, text(2, "g"), w, floatValue(11, "x"), floatValue(12, "y")));
}

const external = (...pairs: readonly (readonly [key: string, value: string])[]) =>
  withExternal(...pairs.map(([key, value]) => entry(13, key, value)));

function readWeight(model: Uint8Array): Float32Array {
  writeFileSync(at("m.onnx"), model);
  return float32Values(readModelFile(at("m.onnx")).graph.constant("w")!);
}

describe("external data", () => {
  it("leads nowhere outside the model's folder (CVE-2022-25882, CVE-2024-27318, CVE-2026-27489)", () => {
    const secret = join(outside, "secret");
    const name = outside.split("/").at(-1) as string;
    symlinkSync(secret, at("link"));
    linkSync(secret, at("hard"));
    symlinkSync(outside, at("below"));
    for (const location of [`../${name}/secret`, `a/../../${name}/secret`, secret, "link", "hard", "below/secret"]) {
      expect(() => readWeight(external(["location", location])), location).toThrow(refused("onnx/external-data"));
    }
  });

  it("decides no name of what is written, and nothing is written through a link (CVE-2025-51480)", () => {
    writeFileSync(at("w.bin"), littleEndian(Float32Array.of(1, 2)));
    writeFileSync(at("victim"), "whole");
    symlinkSync("victim", at("out.onnx.data"));
    writeFileSync(at("m.onnx"), external(["location", "w.bin"]));
    mkdirSync(at("elsewhere"));
    const { graph, ...model } = readModelFile(at("m.onnx"));
    const large = float32Tensor([1024], new Float32Array(1024));
    const initializers = new Map([...graph.initializers, ["spare", large] as const]);
    writeModelFile(at("out.onnx"), withGraph({ graph, ...model }, { ...graph, initializers }), { inlineLimit: 0 });
    expect(readFileSync(at("victim"), "utf8")).toBe("whole");
    expect(readdirSync(folder).sort()).toEqual(["elsewhere", "m.onnx", "out.onnx", "out.onnx.data", "victim", "w.bin"]);
  });

  it("means nothing by keys that nobody knows, and no number is taken on trust (CVE-2026-34445)", () => {
    writeFileSync(at("w.bin"), littleEndian(Float32Array.of(1, 2)));
    const odd = external(["location", "w.bin"], ["__proto__", "x"], ["constructor", "x"], ["bytes", "9"]);
    expect([...readWeight(odd)]).toEqual([1, 2]);
    expect(Object.keys({})).toEqual([]);
    for (const [key, value] of [
      ["length", "99999999999999999999"],
      ["length", "4294967296"],
      ["length", "-8"],
      ["offset", "-1"],
      ["offset", "9007199254740991"],
      ["location", "m.onnx"],
    ] as const) {
      const twice = external(["location", "w.bin"], [key, value]);
      expect(() => readWeight(twice), `${key} ${value}`).toThrow(refused("onnx/external-data"));
    }
    const size = bytes(5, tensorOf("w", 1, [2 ** 31], entry(13, "location", "w.bin"), number(14, 1)));
    const huge = modelOf(concat(nodeOf("Relu", ["w"], ["y"]), size, floatValue(12, "y")));
    expect(() => readWeight(huge)).toThrow(refused("onnx/limit"));
  });
});

describe("archives and downloads", () => {
  it("are names and bytes in memory: nothing is unpacked into a folder (CVE-2024-5187, zip slip)", () => {
    const npy = zip(new Map([["../../evil.npy", npyOf("'<f4'", "(1,)", 4)]]), true);
    expect([...readNpz(npy).keys()]).toEqual(["../../evil"]);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("are refused before memory is taken for what they promise (CVE-2026-39244)", () => {
    const archive = zip(new Map([["a.npy", new Uint8Array(1000)]]), true);
    const view = new DataView(archive.buffer, archive.byteOffset, archive.byteLength);
    for (let i = 0; i + 4 < archive.length; i++) {
      // The size before packing, in the entry itself and in the directory at the end.
      if (view.getUint32(i, true) === 0x04034b50) view.setUint32(i + 22, 0xfffffff0, true);
      if (view.getUint32(i, true) === 0x02014b50) view.setUint32(i + 24, 0xfffffff0, true);
    }
    expect(() => readNpz(archive)).toThrow(refused("data/unreadable"));
  });

  it("are fetched by nobody: the network is no import of this package (CVE-2026-28500)", () => {
    const source = new URL("../src", import.meta.url).pathname;
    const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter(
      (name) => name.endsWith(".ts") && !name.endsWith(".test.ts"),
    );
    const guilty = files.filter((name) =>
      /from "(node:)?(https?|http2|net|tls|dgram|dns)"|\bfetch\(\s*["'`h]|new WebSocket/.test(
        readFileSync(join(source, name), "utf8"),
      ),
    );
    expect(guilty).toEqual([]);
  });
});

describe("the reader", () => {
  it("reads no element that is not there, packed ones included (CVE-2024-27319)", () => {
    for (const [type, bits] of [
      [21, 4],
      [22, 4],
      [25, 2],
      [26, 2],
      [1, 32],
      [16, 16],
    ] as const) {
      for (const count of [1, 3, 8, 9]) {
        const short = new Uint8Array(Math.ceil((count * bits) / 8) - 1);
        const w = bytes(5, tensorOf("w", type, [count], bytes(9, short)));
        expect(() => readModel(modelOf(concat(w, nodeOf("R", ["w"], ["y"]), floatValue(12, "y"))))).toThrow(
          expect.objectContaining({ code: "onnx/tensor", place: { field: "w" } }),
        );
      }
    }
  });

  it("is neither protobuf.js nor anything that makes code of names (CVE-2022-25878, CVE-2023-36665, CVE-2026-41242)", () => {
    const { packages } = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8"));
    expect(Object.keys(packages).filter((name) => /protobufjs/.test(name))).toEqual([]);
    const named = ["__proto__", "constructor", "toString", "hasOwnProperty"];
    const nodes = named.map((name, i) =>
      nodeOf("Neg", [i === 0 ? "x" : named[i - 1]], [name], bytes(5, text(1, name))),
    );
    const model = readModel(
      modelOf(concat(...nodes, floatValue(11, "x"), floatValue(12, "toString")), entry(14, "__proto__", "x")),
    );
    expect(model.graph.producer("hasOwnProperty")?.attributes.has("hasOwnProperty")).toBe(true);
    expect(model.metadata.get("__proto__")).toBe("x");
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });

  it("has bounds of its own where the library below it has none (CVE-2026-44289)", () => {
    const groups = concatAll(Array.from({ length: 200_000 }, () => tag(50, 3)));
    const ends = concatAll(Array.from({ length: 200_000 }, () => tag(50, 4)));
    const around = (field: Uint8Array) =>
      modelOf(concat(nodeOf("R", ["x"], ["y"], field), floatValue(11, "x"), floatValue(12, "y")));
    for (const field of [groups, concat(groups, ends)]) {
      expect(() => readModel(around(field))).toThrow(refused("onnx/malformed"));
    }
  });
});

describe("the runtime", () => {
  it("stands in a process of its own, whose errors are answers (onnxruntime#27265)", async () => {
    const node = { ...makeNode("ArrayFeatureExtractor", ["x", "i"], ["y"]), domain: "ai.onnx.ml" };
    const made = makeTestModel({
      feeds: { x: float32Tensor([1, 4], [1, 2, 3, 4]), i: int64Tensor([1], [47]) },
      nodes: [node],
      outputs: ["y"],
    });
    const model = { ...made.model, opsets: new Map([...made.model.opsets, ["ai.onnx.ml", 3] as const]) };
    await expect(runModel(engine, model, made.feeds)).rejects.toBeInstanceOf(RecoupError);
    const fine = makeTestModel({
      feeds: { x: float32Tensor([1], [-1]) },
      nodes: [makeNode("Neg", ["x"], ["y"])],
      outputs: ["y"],
    });
    expect([...float32Values((await runModel(engine, fine.model, fine.feeds)).get("y")!)]).toEqual([1]);
  });

  it("is given no output of four bits, declared or not", async () => {
    const cast = makeNode("Cast", ["x"], ["y"], { to: 22 });
    const { model, feeds } = makeTestModel({
      opset: 21,
      irVersion: 10,
      feeds: { x: float32Tensor([2], [1, 2]) },
      nodes: [cast],
      outputs: ["y"],
    });
    await withSession(engine, model, {}, async (session) => {
      await expect(session.run(feeds)).rejects.toThrow(refused("engine/run"));
    });
    const outputs = [{ name: "y", type: { kind: "tensor", elementType: "int4" } as const }];
    await expect(engine.open(withGraph(model, { ...model.graph, outputs }))).rejects.toThrow(refused("engine/refused"));
  });
});

describe("data", () => {
  it("holds pictures of three formats, which a decoder without known holes opens (CVE-2023-4863, GHSA-f88m-g3jw-g9cj)", async () => {
    const { packages } = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8"));
    const [major, minor, patch] = packages["node_modules/sharp"].version.split(".").map(Number);
    expect(major * 1e6 + minor * 1e3 + patch).toBeGreaterThanOrEqual(35_004);
    const heads = {
      svg: "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
      pdf: "%PDF-1.7\n",
      gif: "GIF89a\x01\x00\x01\x00",
      tiff: "II*\x00\x08\x00\x00\x00",
      heif: "\x00\x00\x00\x18ftypheic",
      bmp: "BM\x1a\x00\x00\x00",
    };
    for (const [kind, head] of Object.entries(heads)) {
      writeFileSync(at(`${kind}.png`), head, "latin1");
      await expect(decodePictureFile(at(`${kind}.png`)), kind).rejects.toThrow(refused("data/unreadable"));
    }
  });

  it("is never an object of Python (CVE-2019-6446)", () => {
    for (const descr of ["'|O'", "'O8'", "[('a', '|O')]"]) {
      expect(() => readNpy(npyOf(descr, "(1,)", 8))).toThrow(refused("data/unreadable"));
    }
  });
});

describe("what people see", () => {
  it("is text in a report, which may load and run nothing", () => {
    const hostile = `</title><script>alert("1")</script><img src=x onerror='alert(1)'>`;
    const html = page(hostile, escapeHtml(hostile));
    expect(html).not.toMatch(/<script|<img|<\/title><s/);
    expect(html).toContain("default-src 'none'");
  });

  it("is one line in a terminal, whatever a node is called", () => {
    const name = "\u001b]0;title\u0007\u001b[2Jn\r\n\u009b31m";
    const line = new RecoupError("graph/invalid", "is the name of two nodes", { field: name }).toLine();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
    expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    const long = new RecoupError("graph/invalid", "is the name of two nodes", { field: "n".repeat(1e6) }).toLine();
    expect(long.length).toBeLessThan(400);
  });
});

describe("recipes", () => {
  it("have known fields only, and patterns that end", () => {
    for (const json of [
      '{"__proto__": {"auto": true}}',
      '{"constructor": 1}',
      '{"steps": [{"use": "bc", "__proto__": 1}]}',
    ]) {
      expect(() => parseRecipe(JSON.parse(json))).toThrow(refused("recipe/invalid"));
    }
    expect(({} as Record<string, unknown>).auto).toBeUndefined();
    expect(matchesText("*a*a*a*a*a*a*a*a*a*a*a*a*b", "a".repeat(2000))).toBe(false);
  });
});

describe("the supply chain", () => {
  it("is short, exact, and runs no scripts but those that are known", () => {
    const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
    const lock = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8"));
    const versions = Object.values({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(versions.filter((version) => !/^\d+\.\d+\.\d+$/.test(String(version)))).toEqual([]);
    expect(Object.keys(manifest.dependencies).length).toBeLessThanOrEqual(6);
    expect(Object.keys(manifest.scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([]);
    const scripted = Object.entries<{ hasInstallScript?: boolean; dev?: boolean }>(lock.packages)
      .filter(([, { hasInstallScript, dev }]) => hasInstallScript && !dev)
      .map(([name]) => name);
    // Its script would fetch files for GPUs; .npmrc tells it not to.
    expect(scripted).toEqual(["node_modules/onnxruntime-node"]);
  });
});

describe("limits", () => {
  it("are what the page on security says", () => {
    const text = readFileSync(new URL("../docs/security.md", import.meta.url), "utf8");
    const limits = { deepestBody, largestDense, largestMessage, largestOverhead, largestTensor, mostAxes, mostNodes };
    for (const [name, value] of Object.entries(limits)) {
      expect(text, name).toMatch(new RegExp(`\`${name}\` \\| ${String(value).replace(/\B(?=(\d{3})+$)/g, " ")} `));
    }
  });
});

it("devices are no models", () => {
  for (const path of ["/dev/zero", "/dev/null"]) expect(() => readModelFile(path)).toThrow(refused("file/unreadable"));
  execFileSync("mkfifo", [at("pipe")]);
  expect(() => readModelFile(at("pipe"))).toThrow(refused("file/unreadable"));
});

/** A `.npy` file with some bytes of content. */
function npyOf(descr: string, shape: string, size: number): Uint8Array {
  const header = `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}, }\n`;
  const head = new Uint8Array([0x93, ...Buffer.from("NUMPY"), 1, 0, header.length & 255, header.length >> 8]);
  return concat(head, Buffer.from(header), new Uint8Array(size));
}
