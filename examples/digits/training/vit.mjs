import { conv, gemm, layerNorm, linear, positionEmbedding } from "./layers.mjs";
import { add, gelu, matMul, meanOfTokens, reshape, scale, softmax, transpose, unstack } from "./operations.mjs";

const patch = 4;
const tokens = (28 / patch) ** 2;
const features = 64;
const heads = 4;
const headSize = features / heads;
const hiddenFeatures = 2 * features;
const blocks = 4;

/** A vision transformer: patches as tokens, pre-norm blocks of attention and MLP, the mean of all tokens classified. */
export const vit = {
  training: { epochs: 60, batchSize: 50, learningRate: 2e-3, weightDecay: 0.01 },

  /** @returns the logits, `[batch, 10]`, of `pixels`, `[batch, 1, 28, 28]` */
  build(tape, pixels) {
    let x = conv(tape, "patch_embed", pixels, { from: 1, to: features, size: patch, stride: patch });
    x = transpose(tape, "patch_embed", reshape(tape, "patch_embed", x, [0, features, tokens]), [0, 2, 1]);
    x = positionEmbedding(tape, "pos_embed", x, tokens, features);
    for (let block = 0; block < blocks; block++) {
      const path = `blocks.${block}`;
      x = add(tape, path, x, attention(tape, `${path}.attn`, layerNorm(tape, `${path}.norm1`, x, features)));
      x = add(tape, path, x, mlp(tape, `${path}.mlp`, layerNorm(tape, `${path}.norm2`, x, features)));
    }
    x = meanOfTokens(tape, "pool", layerNorm(tape, "norm", x, features));
    return gemm(tape, "head", x, features, 10);
  },
};

function attention(tape, path, x) {
  const joined = linear(tape, `${path}.qkv`, x, features, 3 * features);
  const parted = reshape(tape, path, joined, [0, tokens, 3, heads, headSize]);
  const [query, key, value] = unstack(tape, path, transpose(tape, path, parted, [2, 0, 3, 1, 4]), 3);
  const similarity = matMul(tape, path, query, transpose(tape, path, key, [0, 1, 3, 2]));
  const shares = softmax(tape, path, scale(tape, path, similarity, headSize ** -0.5));
  const mixed = transpose(tape, path, matMul(tape, path, shares, value), [0, 2, 1, 3]);
  return linear(tape, `${path}.proj`, reshape(tape, path, mixed, [0, tokens, features]), features, features);
}

function mlp(tape, path, x) {
  const hidden = gelu(tape, `${path}.act`, linear(tape, `${path}.fc1`, x, features, hiddenFeatures));
  return linear(tape, `${path}.fc2`, hidden, hiddenFeatures, features);
}
