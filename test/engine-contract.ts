import { afterAll, describe, expect, it } from "vitest";
import type { Engine, Feeds, HeldTensor } from "../src/engine/engine.js";
import { withSession } from "../src/engine/engine.js";
import type { ErrorCode } from "../src/errors.js";
import { buildGraph } from "../src/graph/graph.js";
import { type Model, withGraph } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import type { ElementType } from "../src/tensor/element-type.js";
import {
  bytesOf,
  float32Tensor,
  float32Values,
  int8Tensor,
  int64Tensor,
  type Tensor,
  tensorFromBytes,
} from "../src/tensor/tensor.js";
import { castTo, makeEndlessModel, small, x } from "./engine-models.js";
import { makeTestModel, someFloats } from "./models.js";

const only = (tensor: Tensor, name = "x"): Feeds => new Map([[name, tensor]]);
const failure = (code: ErrorCode) => expect.objectContaining({ name: "RecoupError", code });
const floats = (feeds: Feeds, name: string) => [...float32Values(feeds.get(name)!)];

/** What every engine must do; `create` gives a new one. */
export function describeEngine(name: string, create: () => Engine): void {
  describe(`${name} as an engine`, () => {
    const engine = create();
    afterAll(() => engine.close());

    it("computes outputs, by hand", async () => {
      const session = await engine.open(small);
      const { outputs, elapsedMs } = await session.run(only(x));
      expect([...outputs.keys()]).toEqual(["y", "z"]);
      expect(outputs.get("y")).toMatchObject({ type: "float32", shape: [2, 3], sizeBytes: 24 });
      expect(floats(outputs, "y")).toEqual([2, 0, 6, 0, 10, 0]);
      expect(elapsedMs).toBeGreaterThan(0);
      await session.close();
    });

    it("says what goes in and comes out, with what it infers", async () => {
      await withSession(engine, small, { taps: ["r"] }, async ({ inputs, outputs, loadMs }) => {
        expect(loadMs).toBeGreaterThan(0);
        const type = { kind: "tensor", elementType: "float32", shape: ["batch", 3] };
        expect(inputs).toEqual([{ name: "x", type }]);
        expect(outputs).toEqual(["y", "z", "r"].map((value) => ({ name: value, type })));
      });
    });

    it("fetches taps and only what is asked for", async () => {
      await withSession(engine, small, { taps: ["r", "y", "r"] }, async (session) => {
        expect([...(await session.run(only(x))).outputs.keys()]).toEqual(["y", "z", "r"]);
        const { outputs } = await session.run(only(x), ["r"]);
        expect([...outputs.keys()]).toEqual(["r"]);
        expect(floats(outputs, "r")).toEqual([1, 0, 3, 0, 5, 0]);
      });
    });

    it("hands over the tensors of numbers where nobody asks for texts and sequences", async () => {
      const nodes = [
        makeNode("Cast", ["x"], ["t"], { to: 8 }),
        makeNode("SequenceConstruct", ["x"], ["q"]),
        makeNode("Neg", ["x"], ["y"]),
      ];
      const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["t", "q", "y"] });
      await withSession(engine, model, {}, async (session) => {
        expect(session.outputs.map((output) => output.name)).toEqual(["t", "q", "y"]);
        expect([...(await session.run(only(x))).outputs.keys()]).toEqual(["y"]);
        for (const asked of ["t", "q"])
          await expect(session.run(only(x), [asked])).rejects.toThrow(failure("engine/run"));
      });
    });

    it("keeps sessions apart and runs each as often as it is asked", async () => {
      const [first, second] = await Promise.all([engine.open(small), engine.open(castTo(7))]);
      const results = await Promise.all([first.run(only(x)), second.run(only(x)), first.run(only(someFloats([5, 3])))]);
      expect(results.map(({ outputs }) => outputs.get("y")?.shape)).toEqual([
        [2, 3],
        [2, 3],
        [5, 3],
      ]);
      expect(results[1].outputs.get("y")?.type).toBe("int64");
      await first.close();
      expect((await second.run(only(x))).outputs.size).toBe(1);
      await second.close();
    });

    const types: readonly (readonly [type: ElementType, array: ArrayBufferView])[] = [
      ["float32", Float32Array.of(1, -2)],
      ["float64", Float64Array.of(0.1, -2)],
      ["float16", Uint16Array.of(0x3c00, 0xc000)],
      ["int8", Int8Array.of(-128, 127)],
      ["uint8", Uint8Array.of(0, 255)],
      ["int16", Int16Array.of(-32768, 32767)],
      ["uint16", Uint16Array.of(0, 65535)],
      ["int32", Int32Array.of(-(2 ** 31), 7)],
      ["uint32", Uint32Array.of(2 ** 32 - 1, 7)],
      ["int64", BigInt64Array.of(-(2n ** 63n), 7n)],
      ["uint64", BigUint64Array.of(2n ** 64n - 1n, 7n)],
      ["bool", Uint8Array.of(1, 0)],
    ];
    it.each(types)("takes and gives %s, from any address", async (type, array) => {
      const bytes = bytesOf(array);
      const unaligned = new Uint8Array(bytes.length + 1);
      unaligned.set(bytes, 1);
      const tensor = tensorFromBytes(type, [2], unaligned.subarray(1));
      const nodes = [makeNode("Identity", ["x"], ["y"])];
      const { model } = makeTestModel({ feeds: { x: tensor }, nodes, outputs: ["y"] });
      await withSession(engine, model, {}, async (session) => {
        const output = (await session.run(only(tensor))).outputs.get("y")!;
        expect([output.type, output.shape, [...output.bytes()]]).toEqual([type, [2], [...bytes]]);
      });
    });

    it("takes and gives scalars and empty tensors", async () => {
      const { model } = makeTestModel({
        feeds: { x },
        shapes: { x: undefined },
        nodes: [makeNode("Neg", ["x"], ["y"])],
        outputs: ["y"],
      });
      await withSession(engine, model, {}, async (session) => {
        for (const shape of [[], [0, 3]]) {
          const output = (await session.run(only(someFloats(shape)))).outputs.get("y");
          expect(output?.shape).toEqual(shape);
        }
      });
    });

    it("computes in exact mode what the file says, and in shipped mode what users get", async () => {
      const nodes = [
        makeNode("QuantizeLinear", ["x", "s", "z"], ["q"]),
        makeNode("DequantizeLinear", ["q", "s", "z"], ["a"]),
        makeNode("DequantizeLinear", ["w", "ws", "wz"], ["b"]),
        makeNode("MatMul", ["a", "b"], ["m"]),
        makeNode("QuantizeLinear", ["m", "s", "z"], ["p"]),
        makeNode("DequantizeLinear", ["p", "s", "z"], ["y"]),
      ];
      const scale = (value: number) => float32Tensor([], [value]);
      const initializers = {
        s: scale(0.1),
        z: int8Tensor([], [0]),
        w: int8Tensor([3, 2], [1, 2, 3, 4, 5, 6]),
        ws: scale(0.05),
        wz: int8Tensor([], [0]),
      };
      const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers });
      const tapped = { taps: ["m"] };
      const [exact, unnamed, shipped] = await Promise.all(
        [{ mode: "exact", ...tapped } as const, tapped, { mode: "shipped" } as const].map((options) =>
          withSession(engine, model, options, async (session) => (await session.run(only(x))).outputs),
        ),
      );
      const product = [1, -2, 3].reduce((sum, value, i) => sum + value * 0.05 * [1, 3, 5][i], 0);
      expect(floats(exact, "m")[0]).toBeCloseTo(product, 6);
      expect(floats(unnamed, "m")).toEqual(floats(exact, "m"));
      for (const [i, value] of floats(shipped, "y").entries())
        expect(Math.abs(value - floats(exact, "y")[i])).toBeLessThan(0.11);
    });

    describe("tensors that it holds", () => {
      it("are fed as often as wanted, until they are released", async () => {
        const held = await engine.hold(new Map([["x", x]]));
        expect(held.get("x")).toMatchObject({ type: "float32", shape: [2, 3] });
        const session = await engine.open(small);
        for (let i = 0; i < 2; i++) expect(floats((await session.run(held)).outputs, "y")).toEqual([2, 0, 6, 0, 10, 0]);
        await engine.release(held.values());
        await expect(session.run(held)).rejects.toThrow(failure("engine/run"));
        await engine.release(held.values());
        await session.close();
      });

      it.each(types)("come back as they were: %s", async (type, array) => {
        const full = tensorFromBytes(type, [2], bytesOf(array));
        const empty = tensorFromBytes(type, [0], new Uint8Array(0));
        const nodes = [makeNode("Identity", ["x"], ["y"])];
        const { model } = makeTestModel({ feeds: { x: full }, shapes: { x: ["size"] }, nodes, outputs: ["y"] });
        await withSession(engine, model, {}, async (session) => {
          for (const tensor of [full, empty]) {
            const given = await engine.hold(only(tensor));
            const results = await session.runAndHold(given, ["y"]);
            const output = (await session.run(new Map([["x", results.get("y")!]]))).outputs.get("y")!;
            expect([output.type, output.shape, [...output.bytes()]]).toEqual([type, tensor.shape, [...tensor.bytes()]]);
            await engine.release([...given.values(), ...results.values()]);
          }
        });
      });

      it("come back as they were: strings, which only the runtime makes", async () => {
        const string = { name: "x", type: { kind: "tensor", elementType: "string", shape: [2, 3] } } as const;
        const { graph } = castTo(1);
        const fromString = withGraph(castTo(1), buildGraph({ ...graph, inputs: [string] }));
        const [first, second] = [await engine.open(castTo(8)), await engine.open(fromString)];
        const texts = await first.runAndHold(only(x), ["y"]);
        expect(texts.get("y")).toMatchObject({ type: "string", shape: [2, 3] });
        const { outputs } = await second.run(new Map([["x", texts.get("y")!]]));
        expect(floats(outputs, "y")).toEqual([...float32Values(x)]);
        await engine.release(texts.values());
        await Promise.all([first.close(), second.close()]);
      });

      it("may be fed by several names, some of them held and some not", async () => {
        const nodes = [makeNode("Sub", ["a", "b"], ["d"]), makeNode("Add", ["d", "c"], ["y"])];
        const { model } = makeTestModel({ feeds: { a: x, b: x, c: x }, nodes, outputs: ["y"] });
        const held = (await engine.hold(only(x))).get("x")!;
        await withSession(engine, model, {}, async (session) => {
          const feeds = new Map<string, Tensor | HeldTensor>([
            ["a", held],
            ["b", held],
            ["c", someFloats([2, 3])],
          ]);
          expect(floats((await session.run(feeds)).outputs, "y")).toEqual([...float32Values(someFloats([2, 3]))]);
        });
        await engine.release([held]);
      });

      it("may be the results of a run, and go into another session", async () => {
        const [first, second] = [await engine.open(small), await engine.open(small)];
        const results = await first.runAndHold(only(x), ["y"]);
        expect([...results.keys()]).toEqual(["y"]);
        expect(results.get("y")).toMatchObject({ type: "float32", shape: [2, 3] });
        await first.close();
        const again = await second.run(new Map([["x", results.get("y") as HeldTensor]]));
        expect(floats(again.outputs, "y")).toEqual([4, 0, 12, 0, 20, 0]);
        await engine.release(results.values());
        await second.close();
      });

      it("are refused where they could not be fed", async () => {
        const tensor = tensorFromBytes("int4", [2], new Uint8Array(1));
        await expect(engine.hold(only(tensor))).rejects.toThrow(failure("engine/run"));
      });
    });

    describe("what it cannot do", () => {
      it.each<readonly [about: string, feeds: Feeds, message: RegExp]>([
        ["another size", only(float32Tensor([1, 2], [1, 2])), /x.*Got: 2 Expected: 3/],
        ["another rank", only(float32Tensor([3], [1, 2, 3])), /x.*Got: 1 Expected: 2/],
        ["another type", only(int64Tensor([2, 3], [1, 2, 3, 4, 5, 6])), /int64.*float/],
        ["a type that cannot be fed", only(tensorFromBytes("bfloat16", [2, 3], new Uint8Array(12))), /x.*bfloat16/],
        ["nothing", new Map(), /x.*missing/],
      ])("says so of a feed of %s, in one line", async (_about, feeds, message) => {
        await withSession(engine, small, {}, async (session) => {
          const error = await session.run(feeds).catch((reason: unknown) => reason);
          expect(error).toEqual(failure("engine/run"));
          expect((error as Error).message).toMatch(message);
          expect((error as Error).message).not.toMatch(/\n|_src\//);
          expect((await session.run(only(x))).outputs.size).toBe(2);
        });
      });

      it.each<readonly [about: string, model: Model, message: RegExp]>([
        [
          "an operator that nobody knows",
          makeTestModel({ feeds: { x }, nodes: [makeNode("Fancy", ["x"], ["y"])], outputs: ["y"] }).model,
          /Fancy/,
        ],
        ["an operator set of the future", { ...small, opsets: new Map([["", 99]]) }, /99/],
        ["a version of the future", { ...small, irVersion: 99 }, /99/],
        [
          "shapes that do not fit",
          makeTestModel({ feeds: { x }, nodes: [makeNode("MatMul", ["x", "x"], ["y"])], outputs: ["y"] }).model,
          /MatMul/,
        ],
        ["an output that cannot leave it", castTo(16), /./],
      ])("refuses a model with %s, in one line", async (_about, model, message) => {
        const error = await engine.open(model).catch((reason: unknown) => reason);
        expect(error).toEqual(failure("engine/refused"));
        expect((error as Error).message).toMatch(message);
        expect((error as Error).message).not.toMatch(/\n|_src\/|\d\.onnx/);
      });

      it("refuses a declared output of four bits before the runtime sees it", async () => {
        const { graph } = castTo(22);
        const outputs = [{ name: "y", type: { kind: "tensor", elementType: "int4" } as const }];
        await expect(engine.open(withGraph(castTo(22), { ...graph, outputs }))).rejects.toThrow(
          expect.objectContaining({ code: "engine/refused", place: { field: "y" } }),
        );
      });

      it.each([21, 22])("survives a value of four bits that nobody declared as such (type %i)", async (code) => {
        await withSession(engine, small, {}, async (other) => {
          await withSession(engine, castTo(code), {}, async (session) => {
            await expect(session.run(only(x))).rejects.toThrow(failure("engine/run"));
            await expect(session.runAndHold(only(x), ["y"])).rejects.toThrow(failure("engine/run"));
          });
          expect((await other.run(only(x))).outputs.size).toBe(2);
        });
      });

      it("refuses a tap that is not there, and an output that nobody tapped", async () => {
        await expect(engine.open(small, { taps: ["q"] })).rejects.toThrow(failure("graph/invalid"));
        await withSession(engine, small, {}, async (session) => {
          await expect(session.run(only(x), ["r"])).rejects.toThrow(failure("engine/run"));
        });
      });

      it("refuses to run a session that is closed, which may be closed again", async () => {
        const session = await engine.open(small);
        await session.close();
        await session.close();
        await expect(session.run(only(x))).rejects.toThrow(failure("engine/run"));
      });
    });

    it("opens nothing once it is closed, and may be closed again", async () => {
      const closed = create();
      const session = await closed.open(small);
      const held = await closed.hold(only(x));
      await closed.close();
      await expect(closed.open(small)).rejects.toThrow(failure("engine/unavailable"));
      await expect(closed.hold(only(x))).rejects.toThrow(failure("engine/unavailable"));
      await expect(session.run(only(x))).rejects.toThrow(failure("engine/unavailable"));
      await closed.release(held.values());
      await session.close();
      await closed.close();
    });

    it("breaks off what is under way when it is closed", async () => {
      const closed = create();
      const session = await closed.open(makeEndlessModel());
      const run = session.run(only(x));
      run.catch(() => undefined);
      await closed.close();
      await expect(run).rejects.toThrow(failure("engine/unavailable"));
    });

    it("leaves the event loop free while a model runs", async () => {
      const w = someFloats([400, 400], 3);
      const names = Array.from({ length: 60 }, (_, i) => `m${i}`);
      const nodes = names.map((to, i) => makeNode("MatMul", [i === 0 ? "x" : names[i - 1], "w"], [to]));
      const { model, feeds } = makeTestModel({ feeds: { x: w }, nodes, outputs: ["m59"], initializers: { w } });
      await withSession(engine, model, {}, async (session) => {
        let ticks = 0;
        const timer = setInterval(() => ticks++, 2);
        await session.run(feeds);
        clearInterval(timer);
        // A blocked loop would tick once at most, when all is over.
        expect(ticks).toBeGreaterThan(2);
      });
    });
  });
}
