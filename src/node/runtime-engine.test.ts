import { describeEngine } from "../../test/engine-contract.js";
import { createRuntimeEngine } from "./runtime-engine.js";

describeEngine("onnxruntime-node in a child process", () => createRuntimeEngine({ threads: 1 }));
