import fc from "fast-check";
import { afterAll, expect, it } from "vitest";
import { largestDifference, makeBody, makeIf, makeTestModel, runModel, someFloats, yes } from "../../test/models.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks, readModel } from "../onnx/model.js";
import { extractGraph } from "./extract.js";
import { type Graph, type Node, readsOf } from "./graph.js";
import { joinGraphs } from "./join.js";
import { type Model, makeModel, withGraph } from "./model.js";
import { createNameSource } from "./names.js";
import { makeNode } from "./node.js";
import { applyPatch } from "./patch.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([3]);
const plans = fc.array(fc.record({ kind: fc.nat(4), left: fc.nat(50), right: fc.nat(50) }), {
  minLength: 1,
  maxLength: 12,
});

/** A network of a node a step; every value is an output or read by somebody. */
function build(plan: readonly { kind: number; left: number; right: number }[]): Model {
  const values = ["x", "w"];
  const nodes: Node[] = [];
  for (const [i, { kind, left, right }] of plan.entries()) {
    const [a, b] = [left, right].map((back) => values[values.length - 1 - (back % values.length)]);
    const to = `v${i}`;
    const body = (opType: string, inner: string) => makeBody([inner], [makeNode(opType, [a, b], [inner])]);
    if (kind === 0) nodes.push(makeIf(to, body("Add", `${to}_then`), body("Sub", `${to}_else`)));
    else if (kind === 1) nodes.push(makeNode("Neg", [a], [to]));
    else nodes.push(makeNode(["Add", "Sub", "Mul"][kind - 2], [a, b], [to]));
    values.push(to);
  }
  const read = new Set(nodes.flatMap((node) => [...readsOf(node)]));
  const outputs = values.slice(2).filter((name) => !read.has(name));
  return makeTestModel({ feeds: { x, c: yes }, nodes, outputs, initializers: { w: someFloats([3], 2) } }).model;
}

const feeds = new Map([
  ["x", x],
  ["c", yes],
]);
const valuesOf = (graph: Graph) => ["x", "w", ...graph.nodes.flatMap((node) => node.outputs)];

/** Every reader of a value reads a copy of it. */
function insertCopy(graph: Graph, at: number): Graph {
  const inner = valuesOf(graph).filter((name) => !graph.isOutput(name));
  const from = inner[at % inner.length];
  const to = createNameSource(graph).fresh(from);
  return applyPatch(graph, {
    label: "copy",
    add: [makeNode("Identity", [from], [to])],
    redirect: new Map([[from, to]]),
  });
}

/** Every reader of a copy reads what was copied, and the copy goes. */
function removeCopy(graph: Graph): Graph {
  const copy = graph.nodes.find((node) => node.opType === "Identity")!;
  const redirect = new Map([[copy.outputs[0], copy.inputs[0]]]);
  return applyPatch(graph, { label: "no copy", remove: [copy], redirect });
}

it("keeps the outputs of any network, whatever copies come and go, in memory and in a file", async () => {
  await fc.assert(
    fc.asyncProperty(plans, fc.array(fc.nat(50), { minLength: 1, maxLength: 4 }), async (plan, copies) => {
      const file = joinChunks(encodeModel(build(plan)).chunks);
      const model = readModel(file);
      const before = await runModel(engine, model, feeds);
      const graph = copies.reduce(insertCopy, model.graph);
      const written = readModel(joinChunks(encodeModel(withGraph(model, graph)).chunks));
      expect(written.graph.nodes).toHaveLength(plan.length + copies.length);
      expect(largestDifference(before, await runModel(engine, written, feeds))).toBe(0);
      const back = copies.reduce(removeCopy, written.graph);
      expect(largestDifference(before, await runModel(engine, withGraph(model, back), feeds))).toBe(0);
      expect(new Set(valuesOf(back))).toEqual(new Set(valuesOf(model.graph)));
    }),
    { seed: 1, numRuns: 40 },
  );
}, 30_000);

it("computes the same in one piece, in two, and beside another network", async () => {
  await fc.assert(
    fc.asyncProperty(plans, fc.nat(50), async (plan, at) => {
      const model = build(plan);
      const { graph } = model;
      const whole = await runModel(engine, model, feeds);
      const values = graph.nodes.flatMap((node) => node.outputs);
      const cut = { name: values[at % values.length], type: { kind: "other" } as const };
      const above = await runModel(engine, makeModel(extractGraph(graph, [], [cut]), model), feeds);
      const type = { kind: "tensor", elementType: "float32", shape: above.get(cut.name)!.shape } as const;
      const below = makeModel(extractGraph(graph, [{ ...cut, type }], graph.outputs), model);
      expect(largestDifference(whole, await runModel(engine, below, new Map([...feeds, ...above])))).toBe(0);

      const other = insertCopy(graph, at);
      const joined = makeModel(joinGraphs(graph, "float/", other, new Set(["x", "c"])), model);
      const both = await runModel(engine, joined, feeds);
      const [first, second] = ["float/", ""].map(
        (prefix) => new Map(graph.outputs.map(({ name }) => [name, both.get(prefix + name)!] as const)),
      );
      expect(both.size).toBe(2 * whole.size);
      expect(largestDifference(whole, first)).toBe(0);
      expect(largestDifference(whole, second)).toBe(0);
    }),
    { seed: 2, numRuns: 40 },
  );
}, 30_000);
