import { describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { NetworkWriter } from "../../test/networks.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { channelAxisOf } from "./channel-axis.js";

/** The axis of the channels of the value y, with everything between x and it inside. */
async function axisOf(shape: readonly number[], write: (net: NetworkWriter) => void): Promise<number | undefined> {
  const net = new NetworkWriter();
  write(net);
  const { model } = net.finish({ x: someFloats(shape) }, ["y"]);
  const engine = createRuntimeEngine({ threads: 1 });
  try {
    const types = await inferValueTypes(engine, model);
    return channelAxisOf(model.graph, types, { exit: "y", nodes: model.graph.nodes });
  } finally {
    await engine.close();
  }
}

describe("channelAxisOf", () => {
  it("is the last one of vectors with a convolution between their layers", async () => {
    const axis = await axisOf([1, 6, 4], (net) => {
      const turned = net.node("Transpose", [net.linear("x", "wide", [4, 8])], "turned", { perm: [0, 2, 1] });
      const mixed = net.node("Conv", [turned, net.weight("w", [8, 1, 3])], "mixed", { group: 8, pads: [1, 1] });
      const back = net.node("Transpose", [mixed], "back", { perm: [0, 2, 1] });
      net.node("Add", ["x", net.linear(net.relu(back), "narrow", [8, 4])], "y");
    });
    expect(axis).toBe(2);
  });

  it("is the second one of maps whose last layers are products behind a Transpose", async () => {
    const axis = await axisOf([1, 4, 3, 3], (net) => {
      const turned = net.node("Transpose", [net.conv("x", "c", [4, 4])], "turned", { perm: [0, 2, 3, 1] });
      const back = net.node("Transpose", [net.linear(turned, "l", [4, 4])], "back", { perm: [0, 3, 1, 2] });
      net.node("Add", ["x", back], "y");
    });
    expect(axis).toBe(1);
  });

  it("is what convolutions say where the way is lost, else the last one", async () => {
    const shape = (net: NetworkWriter, value: string) =>
      net.node("CumSum", [value, net.node("Size", ["x"], "size")], "y");
    expect(await axisOf([1, 4, 3, 3], (net) => shape(net, net.conv("x", "c", [4, 4])))).toBe(1);
    expect(await axisOf([1, 3, 4], (net) => shape(net, net.linear("x", "l", [4, 4])))).toBe(2);
  });
});
