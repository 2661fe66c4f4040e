import { afterAll, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { withSession } from "../engine/engine.js";
import { buildGraph, type Value } from "../graph/graph.js";
import { makeModel } from "../graph/model.js";
import { createNameSource } from "../graph/names.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Values, integerValues } from "../tensor/tensor.js";
import type { Bits, Granularity, Storage, WeightFormat } from "./format.js";
import type { StoredWeight } from "./stored-weight.js";
import { dequantizeRows, roundToNearest } from "./weight.js";
import { writeCodes } from "./write-codes.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const granularities: readonly Granularity[] = [
  { kind: "per-tensor" },
  { kind: "per-channel" },
  { kind: "per-group", groupSize: 4 },
];

/** Of 5 · 7 = 35 elements, no multiple of 8, and of 4 · 8 = 32. */
const shapes = [
  [5, 7],
  [4, 2, 4],
];

function allFormats(bits: Bits): readonly WeightFormat[] {
  return [true, false].flatMap((symmetric) => granularities.map((granularity) => ({ bits, symmetric, granularity })));
}

function store(shape: readonly number[], format: WeightFormat, storage: Storage, weight: string): StoredWeight {
  const rows = roundToNearest(float32Values(someFloats(shape, format.bits)), shape[0], format);
  return { weight, shape, channelAxis: 0, format, storage, rows };
}

/** Codes less zero points, row by row; the last group of a row is filled up with zeros, which nothing reads. */
function centred({ rows, shape }: StoredWeight): readonly (readonly number[])[] {
  const ones = { ...rows, scales: rows.scales.map(() => 1) };
  const values = [...dequantizeRows(ones, shape[0])];
  const columns = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, row) => values.slice(row * columns, (row + 1) * columns));
}

it.each([2, 3, 4, 5, 6, 7, 8] as const)(
  "gives a runtime the codes less their zero points, at %i bits",
  async (bits) => {
    const given = shapes.flatMap((shape) =>
      allFormats(bits)
        .filter((format) => bits < 8 || format.symmetric)
        .flatMap((format) => (["packed", "int8"] as const).map((storage, i) => store(shape, format, storage, `w${i}`))),
    );
    const empty = { name: "codes", inputs: [], outputs: [], nodes: [], initializers: new Map(), valueInfo: new Map() };
    const writer = new PatchWriter(createNameSource(buildGraph(empty)));
    const written = given.map((stored) => writeCodes(writer, stored, "int8"));
    const outputs = written.map((name): Value => ({ name, type: { kind: "other" } }));
    const graph = buildGraph({ ...empty, outputs, nodes: writer.nodes, initializers: writer.initializers });
    const model = makeModel(graph, { irVersion: 8, opsets: new Map([["", 13]]) });
    for (const mode of ["exact", "shipped"] as const) {
      const results = await withSession(
        engine,
        model,
        { mode },
        async (session) => (await session.run(new Map())).outputs,
      );
      for (const [i, stored] of given.entries()) {
        const codes = results.get(written[i])!;
        expect(codes.type).toBe("int8");
        const expected = centred(stored);
        const values = integerValues(codes);
        const perRow = values.length / expected.length;
        const columns = expected[0].length;
        expect(expected.map((_, row) => values.slice(row * perRow, row * perRow + columns))).toEqual(expected);
      }
    }
  },
);

it("packs, and stores what layers have in common once", () => {
  const empty = { name: "codes", inputs: [], outputs: [], nodes: [], initializers: new Map(), valueInfo: new Map() };
  const shared = new Map<string, string>();
  const names = createNameSource(buildGraph(empty));
  const sizes = [0, 1].map(() => {
    const writer = new PatchWriter(names, shared);
    writeCodes(
      writer,
      store([64, 64], { bits: 3, symmetric: true, granularity: granularities[1] }, "packed", "w"),
      "int8",
    );
    return [...writer.initializers.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  });
  expect(sizes[1]).toBe((64 * 64 * 3) / 8);
  expect(sizes[0] - sizes[1]).toBeLessThan(64);
});
