import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { RecoupError, withPlace } from "../errors.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { type Interval, z } from "./intervals.js";
import { type Latency, summarizeLatency } from "./latency.js";
import { argMax, divergence, logSoftmax } from "./outputs.js";

export interface PerplexityResult {
  readonly task: "perplexity";
  /** Sequences. */
  readonly n: number;
  /** Tokens that were predicted: all but the first of each sequence. */
  readonly tokens: number;
  /** Exponential of the mean negative logarithm of the probability of the next token. */
  readonly metrics: { readonly perplexity: number };
  readonly confidence95: { readonly perplexity: Interval };
  readonly latencyMs: Latency;
  readonly reference?: PerplexityReference;
}

/** The model beside another one on the same sequences. */
export interface PerplexityReference {
  readonly metrics: { readonly perplexity: number };
  /** Share of tokens for which both find the same next token most likely, in percent. */
  readonly agreement: number;
  /** Mean Kullback-Leibler divergence of the probabilities of the next token from the reference's, in nats. */
  readonly kl: number;
  readonly latencyMs: Latency;
}

/**
 * How well a language model predicts each token of some sequences from those before it. Every sequence stands on its own;
 * its first token is context only. The first output of a model holds the logits, `[1, T, words]`.
 *
 * @throws RecoupError `data/mismatch` for samples without token ids or of fewer than two, `data/empty`, and as
 * `Session.run`
 */
export async function evaluatePerplexity(
  session: Session,
  reference: Session | undefined,
  samples: AsyncIterable<Sample>,
  onSample: (done: number) => void = () => {},
): Promise<PerplexityResult> {
  const own = new Tally();
  const other = new Tally();
  let agreements = 0;
  let kl = 0;
  for await (const sample of samples) {
    const tokens = tokensOf(sample);
    const rows = own.take(sample.id, tokens, await run(session, sample, tokens.length));
    if (reference) {
      const referenceRows = other.take(sample.id, tokens, await run(reference, sample, tokens.length));
      referenceRows.forEach((row, i) => {
        if (argMax(row) === argMax(rows[i])) agreements++;
        kl += divergence(row, rows[i]);
      });
    }
    onSample(own.sequences);
  }
  if (own.sequences === 0) throw new RecoupError("data/empty", "holds no samples");
  const result = own.result();
  if (!reference) return result;
  const { metrics, latencyMs, tokens } = other.result();
  return { ...result, reference: { metrics, agreement: (100 * agreements) / tokens, kl: kl / tokens, latencyMs } };
}

/** The ids that a sample feeds: `input_ids`, or the one input of integers. */
function tokensOf({ id, feeds }: Sample): readonly number[] {
  const integers = [...feeds].filter(([, tensor]) => tensor.type === "int64" || tensor.type === "int32");
  const [, tensor] = integers.find(([name]) => name === "input_ids") ?? (integers.length === 1 ? integers[0] : []);
  if (tensor === undefined) throw new RecoupError("data/mismatch", "feeds no input_ids", { field: id });
  const [batch] = tensor.shape.length > 1 ? tensor.shape : [1];
  const tokens = Array.from(integerValues(tensor));
  if (batch !== 1 || tokens.length < 2) {
    throw new RecoupError("data/mismatch", "is not one sequence of two tokens or more", { field: id });
  }
  return tokens;
}

interface Predicted {
  /** Logits for the token behind each token but the last. */
  readonly rows: readonly Float32Array[];
  readonly elapsedMs: number;
}

async function run(session: Session, { feeds }: Sample, length: number): Promise<Predicted> {
  const [{ name }] = session.outputs;
  const { outputs, elapsedMs } = await session.run(feeds, [name]);
  try {
    const values = float32Values(outputs.get(name) as Tensor);
    const words = values.length / length;
    if (!Number.isInteger(words) || words < 2) {
      const shape = (outputs.get(name) as Tensor).shape.join(", ");
      throw new RecoupError("engine/run", `has shape [${shape}], which are no logits for ${length} tokens`);
    }
    const rows = Array.from({ length: length - 1 }, (_, i) => values.subarray(i * words, (i + 1) * words));
    return { rows, elapsedMs };
  } catch (error) {
    throw withPlace(error, { field: name });
  }
}

/** Sums of one model. */
class Tally {
  readonly #losses: number[] = [];
  readonly #lengths: number[] = [];
  readonly #elapsedMs: number[] = [];

  get sequences(): number {
    return this.#losses.length;
  }

  take(id: string, tokens: readonly number[], { rows, elapsedMs }: Predicted): readonly Float32Array[] {
    const losses = rows.map((row, i) => lossOf(row, tokens[i + 1], id));
    this.#losses.push(sum(losses));
    this.#lengths.push(losses.length);
    this.#elapsedMs.push(elapsedMs);
    return rows;
  }

  result(): PerplexityResult {
    const tokens = sum(this.#lengths);
    const mean = sum(this.#losses) / tokens;
    // Tokens of one sequence depend on each other: what varies independently is the sequences.
    const residuals = this.#losses.map((loss, i) => (loss - mean * this.#lengths[i]) ** 2);
    const n = this.sequences;
    const error = n > 1 ? Math.sqrt((sum(residuals) * n) / (n - 1)) / tokens : Number.POSITIVE_INFINITY;
    const interval = [Math.exp(mean - z * error), Math.exp(mean + z * error)] as const;
    return {
      task: "perplexity",
      n,
      tokens,
      metrics: { perplexity: Math.exp(mean) },
      confidence95: { perplexity: interval },
      latencyMs: summarizeLatency(this.#elapsedMs),
    };
  }
}

/** Negative logarithm of the probability of a token. */
function lossOf(logits: Float32Array, token: number, id: string): number {
  if (!(token >= 0 && token < logits.length)) {
    throw new RecoupError("data/mismatch", `holds token ${token}, the model knows ${logits.length}`, { field: id });
  }
  return -logSoftmax(logits)[token];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
