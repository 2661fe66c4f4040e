import type { ValueName, ValueType } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import type { ValueTypes } from "../graph/value-types.js";
import { type Engine, withSession } from "./engine.js";

/**
 * Type and shape of every value of the model's main graph, as the runtime infers them: there is no table of shape rules
 * in Recoup.
 *
 * @throws RecoupError as `Engine.open`
 */
export async function inferValueTypes(engine: Engine, model: Model): Promise<ValueTypes> {
  const values = model.graph.nodes.flatMap((node) => node.outputs).filter((value) => value !== "");
  const types = new Map<ValueName, ValueType>();
  for (const [name, tensor] of model.graph.initializers) {
    types.set(name, { kind: "tensor", elementType: tensor.type, shape: tensor.shape });
  }
  await withSession(engine, model, { mode: "plain", taps: values }, async (session) => {
    for (const value of [...session.inputs, ...session.outputs]) types.set(value.name, value.type);
  });
  return types;
}
