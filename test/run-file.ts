import { InferenceSession, Tensor } from "onnxruntime-node";

/** The output y that stock onnxruntime computes from the input x. */
export async function runFile(path: string, x: Float32Array): Promise<Float32Array> {
  const session = await InferenceSession.create(path, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const { y } = await session.run({ x: new Tensor("float32", x, [x.length]) });
  await session.release();
  return y.data as Float32Array;
}
