import { type Engine, type Feeds, withSession } from "../src/engine/engine.js";
import { RecoupError } from "../src/errors.js";
import { buildGraph, type Dimension, type Graph, type Node, type Value } from "../src/graph/graph.js";
import { type Model, makeModel } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import { elementCount, isSameShape } from "../src/tensor/shape.js";
import { float32Tensor, float64Values, integerValues, type Tensor, tensorFromBytes } from "../src/tensor/tensor.js";

/** A model small enough to be written down in a test, with what it is fed. */
export interface TestModel {
  readonly model: Model;
  readonly feeds: Feeds;
}

export interface TestModelParts {
  readonly opset?: number;
  readonly irVersion?: number;
  readonly feeds: Readonly<Record<string, Tensor>>;
  /** Declared shapes of inputs, where they are not those of the feeds. */
  readonly shapes?: Readonly<Record<string, readonly Dimension[] | undefined>>;
  readonly nodes: readonly Node[];
  readonly outputs: readonly string[];
  readonly initializers?: Readonly<Record<string, Tensor>>;
}

export function makeTestModel(parts: TestModelParts): TestModel {
  const inputs = Object.entries(parts.feeds).map(([name, tensor]): Value => {
    const shape = parts.shapes && name in parts.shapes ? parts.shapes[name] : tensor.shape;
    return { name, type: { kind: "tensor", elementType: tensor.type, shape } };
  });
  const graph = buildGraph({
    name: "test",
    inputs,
    outputs: parts.outputs.map((name) => ({ name, type: { kind: "other" } })),
    nodes: parts.nodes,
    initializers: new Map(Object.entries(parts.initializers ?? {})),
    valueInfo: new Map(),
  });
  const opset = parts.opset ?? 17;
  const model = makeModel(graph, { irVersion: parts.irVersion ?? 8, opsets: new Map([["", opset]]) });
  return { model, feeds: new Map(Object.entries(parts.feeds)) };
}

export async function runModel(engine: Engine, model: Model, feeds: Feeds): Promise<Feeds> {
  const names = new Set(model.graph.inputs.map((input) => input.name));
  const read = new Map([...feeds].filter(([name]) => names.has(name)));
  return withSession(engine, model, {}, async (session) => (await session.run(read)).outputs);
}

/**
 * The largest difference between the outputs of two runs, in units of the largest value of the output it is in.
 * Infinity where names, types or shapes differ; a NaN equals a NaN.
 */
export function largestDifference(a: Feeds, b: Feeds): number {
  if (a.size !== b.size) return Number.POSITIVE_INFINITY;
  return Math.max(0, ...[...a].map(([name, tensor]) => tensorDifference(tensor, b.get(name))));
}

function tensorDifference(a: Tensor, b: Tensor | undefined): number {
  if (b === undefined || a.type !== b.type || !isSameShape(a.shape, b.shape)) return Number.POSITIVE_INFINITY;
  const [x, y] = [valuesOf(a), valuesOf(b)];
  let scale = 1e-30;
  let difference = 0;
  for (let i = 0; i < x.length; i++) {
    if (Object.is(x[i], y[i]) || x[i] === y[i]) continue;
    if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) return Number.POSITIVE_INFINITY;
    difference = Math.max(difference, Math.abs(x[i] - y[i]));
  }
  for (let i = 0; i < x.length; i++) if (Number.isFinite(x[i])) scale = Math.max(scale, Math.abs(x[i]));
  return difference / scale;
}

function valuesOf(tensor: Tensor): ArrayLike<number> {
  return tensor.type.includes("float") ? float64Values(tensor) : integerValues(tensor);
}

/** Numbers between -1 and 1 that are the same in every run. */
export function someFloats(shape: readonly number[], seed = 1): Tensor {
  let state = seed * 2654435761;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  };
  return float32Tensor(shape, Float32Array.from({ length: elementCount(shape) }, next));
}

/** Feeds of a model in which few huge numbers stand among small ones, and some are larger all over. */
export function heavyTailedFeeds({ feeds }: TestModel, count: number): readonly Feeds[] {
  const numbers = (shape: readonly number[], i: number) =>
    float64Values(someFloats(shape, 200 + i)).map((one) => one ** 3 * (1 + (i % 7) ** 2));
  return Array.from(
    { length: count },
    (_, i): Feeds => new Map([...feeds].map(([name, { shape }]) => [name, float32Tensor(shape, numbers(shape, i))])),
  );
}

/** The engine, but for models that hold one of some operators. Counts what it opens. */
export function refusing(engine: Engine, ...opTypes: readonly string[]): Engine & { opened: number } {
  return {
    name: "refusing",
    opened: 0,
    async open(model, options) {
      this.opened++;
      if (model.graph.nodes.some((node) => opTypes.includes(node.opType))) {
        throw new RecoupError("engine/refused", "no such operator");
      }
      return engine.open(model, options);
    },
    hold: (tensors) => engine.hold(tensors),
    release: (tensors) => engine.release(tensors),
    close: async () => {},
  };
}

/** A graph inside a node, which may read values of the graph around it. */
export function makeBody(outputs: readonly string[], nodes: readonly Node[]): Graph {
  const values = outputs.map((name): Value => ({ name, type: { kind: "other" } }));
  const parts = { name: "body", inputs: [], outputs: values, nodes, initializers: new Map(), valueInfo: new Map() };
  return buildGraph(parts, true);
}

/** An `If` that reads the bool `c`. */
export function makeIf(output: string, yes: Graph, no: Graph): Node {
  return makeNode("If", ["c"], [output], {
    then_branch: { kind: "graph", value: yes },
    else_branch: { kind: "graph", value: no },
  });
}

export const yes = tensorFromBytes("bool", [], new Uint8Array([1]));
