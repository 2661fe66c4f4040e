import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { EngineMeter } from "./engine-meter.js";
import { sizeOfModelFile } from "./model-file.js";
import { createRuntimeEngine } from "./runtime-engine.js";

const runtime = createRuntimeEngine({ threads: 1 });
afterAll(() => runtime.close());

const { model, feeds } = makeTestModel({
  feeds: { x: someFloats([2, 8]) },
  nodes: [makeNode("Relu", ["x"], ["y"])],
  outputs: ["y"],
});

describe("EngineMeter", () => {
  it("knows when each batch was done, by phase", async () => {
    let phase = "first";
    const meter = new EngineMeter(() => phase);
    const engine = meter.meter(runtime);
    const session = await engine.open(model);
    await session.run(feeds);
    await session.run(feeds);
    phase = "second";
    const held = [await engine.hold(feeds), await engine.hold(feeds), await engine.hold(feeds)];
    await session.close();
    expect(meter.passes.map((pass) => [pass.phase, pass.doneMs.length])).toEqual([
      ["first", 2],
      ["second", 3],
    ]);
    for (const { doneMs } of meter.passes) expect([...doneMs].sort((a, b) => a - b)).toEqual(doneMs);
    for (const tensors of held) await engine.release(tensors.values());
  });

  it("knows what is held, and the most that was", async () => {
    const meter = new EngineMeter(() => "");
    const engine = meter.meter(runtime);
    const session = await engine.open(model);
    const fed = await engine.hold(feeds);
    expect(meter.heldBytes).toBe(64);
    const computed = await session.runAndHold(fed, ["y"]);
    expect(meter.heldBytes).toBe(128);
    await engine.release(fed.values());
    expect(meter.heldBytes).toBe(64);
    await engine.release(computed.values());
    await session.close();
    expect([meter.heldBytes, meter.mostHeldBytes]).toEqual([0, 128]);
  });

  it("knows the most that files took at once", async () => {
    const meter = new EngineMeter(() => "");
    const engine = meter.meter(runtime);
    const bytes = sizeOfModelFile(model);
    const first = await engine.open(model);
    await first.close();
    await first.close();
    const second = await engine.open(model);
    expect(meter.mostFileBytes).toBe(bytes);
    const third = await engine.open(model);
    await Promise.all([second.close(), third.close()]);
    expect(meter.mostFileBytes).toBe(2 * bytes);
  });

  it("counts tensors on their way that travel in files", async () => {
    const meter = new EngineMeter(() => "");
    const large = makeTestModel({
      feeds: { x: someFloats([4, 5000]) },
      nodes: [makeNode("Relu", ["x"], ["y"])],
      outputs: ["y"],
    });
    const bytes = sizeOfModelFile(large.model);
    const session = await meter.meter(runtime).open(large.model);
    await session.run(large.feeds);
    expect(meter.mostFileBytes).toBe(bytes + 80_000);
    // The second waits, with what it is fed, while the first gives its output back.
    await Promise.all([session.run(large.feeds), session.run(large.feeds)]);
    expect(meter.mostFileBytes).toBe(bytes + 160_000);
    const held = await meter.meter(runtime).hold(large.feeds);
    await session.run(held);
    await session.close();
    expect(meter.mostFileBytes).toBe(bytes + 160_000);
    await runtime.release(held.values());
  });
});
