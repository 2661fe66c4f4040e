import { batchNorm, conv, gemm } from "./layers.mjs";
import { add, poolGlobally, relu } from "./operations.mjs";

const channels = [8, 16, 32];
const blocksPerStage = 3;

/**
 * ResNet-20 at half its width: a stem and three stages of residual blocks, each stage with twice the channels at half
 * the size. Where the channels change, the shortcut is a convolution.
 *
 * @see He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385, section 4.2
 */
export const cnn = {
  training: { epochs: 24, batchSize: 50, learningRate: 4e-3, weightDecay: 0.01 },

  /** @returns the logits, `[batch, 10]`, of `pixels`, `[batch, 1, 28, 28]` */
  build(tape, pixels) {
    let x = conv(tape, "stem.conv", pixels, { from: 1, to: channels[0], size: 3 });
    x = relu(tape, "stem.relu", batchNorm(tape, "stem.norm", x, channels[0]));
    let from = channels[0];
    channels.forEach((to, stage) => {
      for (let block = 0; block < blocksPerStage; block++) {
        const stride = stage > 0 && block === 0 ? 2 : 1;
        x = residualBlock(tape, `stages.${stage}.${block}`, x, { from, to, stride });
        from = to;
      }
    });
    return gemm(tape, "head", poolGlobally(tape, "pool", x), from, 10);
  },
};

function residualBlock(tape, path, x, { from, to, stride }) {
  let main = conv(tape, `${path}.conv1`, x, { from, to, size: 3, stride });
  main = relu(tape, `${path}.relu1`, batchNorm(tape, `${path}.norm1`, main, to));
  main = conv(tape, `${path}.conv2`, main, { from: to, to, size: 3 });
  main = batchNorm(tape, `${path}.norm2`, main, to);
  let shortcut = x;
  if (from !== to) {
    shortcut = conv(tape, `${path}.shortcut.conv`, x, { from, to, size: 1, stride });
    shortcut = batchNorm(tape, `${path}.shortcut.norm`, shortcut, to);
  }
  return relu(tape, `${path}.relu2`, add(tape, path, main, shortcut));
}
