import { type Engine, withSession } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import { extractGraph } from "../graph/extract.js";
import { buildGraph, type Graph, type Value, type ValueName, type ValueType } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import type { ValueTypes } from "../graph/value-types.js";
import { isSparseTensor } from "../onnx/sparse-tensor.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import type { CleanContext } from "./pass.js";

/** Float constants above this number of elements never are sizes or scales that a shape depends on. */
const largestShapeConstant = 256;

/** What is known of values while passes run one after another. Values keep their meaning as long as they keep their names. */
export class SharedTypes {
  /** Of all values that were asked for; undefined where the runtime could not tell. */
  readonly #types = new Map<ValueName, ValueType | undefined>();

  /** @param wanted the values that any pass asks for, of the graph as it is then */
  constructor(readonly wanted: (graph: Graph) => readonly ValueName[]) {}

  knows(values: readonly ValueName[]): boolean {
    return values.every((value) => this.#types.has(value));
  }

  add(asked: readonly ValueName[], types: ValueTypes): void {
    for (const value of asked) this.#types.set(value, types.get(value));
  }

  get(value: ValueName): ValueType | undefined {
    return this.#types.get(value);
  }
}

/**
 * Types and shapes of values as they follow from the model's inputs alone. What an exporter noted on inner values is left
 * out: it may be wrong for other inputs than the exporter's own, and runtimes do not mind.
 *
 * @returns types of the values that the runtime can tell something about; none where it does not load the model
 */
export async function inferStaticTypes(
  model: Model,
  { engine, types: shared }: CleanContext,
  values: readonly ValueName[],
): Promise<ValueTypes> {
  const { graph } = model;
  const types = new Map<ValueName, ValueType>();
  for (const { name, type } of graph.inputs) types.set(name, type);
  for (const [name, tensor] of graph.initializers) {
    if (graph.constant(name)) types.set(name, { kind: "tensor", elementType: tensor.type, shape: tensor.shape });
  }
  const isInner = (value: ValueName) => graph.producer(value) !== undefined;
  const inner = [...new Set(values)].filter(isInner);
  const known = shared ?? new SharedTypes(() => []);
  if (!known.knows(inner)) {
    const all = [...new Set([...inner, ...known.wanted(graph)])].filter(isInner);
    const found = await askRuntime(model, engine, all);
    if (found) known.add(all, found);
    else {
      // What another pass asks for may be what the runtime refuses.
      const own = all.length > inner.length ? await askRuntime(model, engine, inner) : undefined;
      known.add(inner, own ?? new Map());
    }
  }
  for (const name of inner) {
    const type = known.get(name);
    if (type) types.set(name, type);
  }
  return types;
}

/** @returns undefined where the runtime does not load the model */
async function askRuntime(model: Model, engine: Engine, inner: readonly ValueName[]): Promise<ValueTypes | undefined> {
  const outputs = inner.map((name): Value => ({ name, type: { kind: "other" } }));
  const part = extractGraph(model.graph, [], outputs);
  // The second try is for operators that want their parameters constant.
  for (const candidate of [withoutWeights(part), part]) {
    try {
      return await withSession(
        engine,
        withGraph(model, candidate),
        { mode: "folded" },
        async (session) => new Map(session.outputs.map(({ name, type }) => [name, type])),
      );
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  }
  return undefined;
}

/** Whether an engine could not take a model or a run, as opposed to being gone or told to stop. */
export function isRefusal(error: unknown): error is RecoupError {
  return error instanceof RecoupError && ["engine/refused", "engine/run", "engine/crashed"].includes(error.code);
}

/** Large constants as inputs of their type: shapes do not depend on weights, and weights are most of a model's bytes. */
function withoutWeights(graph: Graph): Graph {
  const isWeight = (name: ValueName) => {
    const tensor = graph.constant(name);
    if (tensor === undefined) return false;
    return isSparseTensor(tensor) || (isFloatType(tensor.type) && elementCount(tensor.shape) > largestShapeConstant);
  };
  const weights = [...graph.initializers].filter(([name]) => isWeight(name));
  const inputs = weights.map(
    ([name, { type, shape }]): Value => ({ name, type: { kind: "tensor", elementType: type, shape } }),
  );
  const initializers = new Map([...graph.initializers].filter(([name]) => !isWeight(name)));
  return buildGraph({ ...graph, inputs: [...graph.inputs, ...inputs], initializers });
}
