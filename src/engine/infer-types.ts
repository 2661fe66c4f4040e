import { RecoupError } from "../errors.js";
import {
  buildGraph,
  type Graph,
  type Node,
  readsOf,
  type Value,
  type ValueName,
  type ValueType,
} from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import type { ValueTypes } from "../graph/value-types.js";
import { type Engine, withSession } from "./engine.js";

/**
 * Larger networks are looked at in pieces. To open one, onnxruntime takes a time that grows with the square of the number of
 * values that it shall tell about: some seconds for ten thousand nodes, many minutes for a hundred thousand.
 */
const largestWhole = 8192;

/** Nodes of a piece: half as many take about as long in all. */
const defaultPiece = 1024;

/**
 * Type and shape of every value of the model's main graph, as the runtime infers them: there is no table of shape rules
 * in Recoup.
 *
 * @param pieceSize where it is given, a network of more nodes is cut into pieces of so many, whatever its size; what a piece
 * computes of sizes that an earlier one computes stays unknown
 * @throws RecoupError as `Engine.open`
 */
export async function inferValueTypes(engine: Engine, model: Model, pieceSize?: number): Promise<ValueTypes> {
  const { graph } = model;
  const types = new Map<ValueName, ValueType>();
  for (const [name, tensor] of graph.initializers) {
    types.set(name, { kind: "tensor", elementType: tensor.type, shape: tensor.shape });
  }
  if (graph.nodes.length <= (pieceSize ?? largestWhole)) {
    await addTypes(engine, model, writtenBy(graph.nodes), types);
    return types;
  }
  for (const { name, type } of graph.inputs) types.set(name, type);
  const size = pieceSize ?? defaultPiece;
  for (let start = 0; start < graph.nodes.length; start += size) {
    const nodes = graph.nodes.slice(start, start + size);
    await addPiece(engine, model, nodes, types).catch((error) => {
      // Beside a piece that the runtime knows nothing about, others still have types.
      if (!(error instanceof RecoupError && error.code === "engine/refused")) throw error;
      if (nodes.every((node) => [...readsOf(node)].every((value) => types.has(value)))) throw error;
    });
  }
  return types;
}

async function addPiece(
  engine: Engine,
  model: Model,
  all: readonly Node[],
  types: Map<ValueName, ValueType>,
): Promise<void> {
  // A node that joins more values than a piece has nodes would make the piece as slow as the whole.
  const nodes = all.filter((node) => node.inputs.length <= largestWhole);
  const values = writtenBy(nodes);
  if (values.length > 0) await addTypes(engine, withGraph(model, pieceOf(model.graph, nodes, types)), values, types);
}

/** Some neighbours of a graph as a graph of their own, which is fed what others compute. */
function pieceOf(graph: Graph, nodes: readonly Node[], types: ValueTypes): Graph {
  const own = new Set(writtenBy(nodes));
  const read = new Set(nodes.flatMap((node) => [...readsOf(node)]));
  const outer = [...read].filter((value) => !own.has(value));
  const constants = outer.flatMap((name) => {
    const tensor = graph.constant(name);
    return tensor === undefined ? [] : [[name, tensor] as const];
  });
  const initializers = new Map(constants);
  const inputs = outer
    .filter((name) => !initializers.has(name))
    .map((name): Value => ({ name, type: types.get(name) ?? { kind: "other" } }));
  const outputs = [...own].slice(0, 1).map((name): Value => ({ name, type: { kind: "other" } }));
  return buildGraph({ name: graph.name, inputs, outputs, nodes, initializers, valueInfo: new Map() });
}

async function addTypes(
  engine: Engine,
  model: Model,
  values: readonly ValueName[],
  types: Map<ValueName, ValueType>,
): Promise<void> {
  await withSession(engine, model, { mode: "plain", taps: values }, async (session) => {
    for (const value of [...session.inputs, ...session.outputs]) types.set(value.name, value.type);
  });
}

function writtenBy(nodes: readonly Node[]): readonly ValueName[] {
  return nodes.flatMap((node) => node.outputs).filter((value) => value !== "");
}
