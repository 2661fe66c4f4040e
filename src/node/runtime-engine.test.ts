import { describeEngine } from "../../test/engine-contract.js";
import { createRuntimeEngine } from "./runtime-engine.js";

describeEngine("onnxruntime-node in a child process", () => createRuntimeEngine({ threads: 1 }));
// A tensor of the contract takes 24 bytes.
for (const memoryBytes of [0, 30]) {
  const name = `onnxruntime-node that holds ${memoryBytes} bytes in memory`;
  describeEngine(name, () => createRuntimeEngine({ threads: 1, memoryBytes }));
}
