/** What the scripts that measure on real models have in common: the models and their data, and cells that are measured once. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { evaluate } from "recoup/node";

const imagenet = { calibration: "imagenet/calib", data: "imagenet/val" };
const vww = { calibration: "vww/calib_images.npy", data: "vww/val_images.npy", labels: "vww/val_labels.npy" };
const cifar = {
  calibration: "cifar10/calib_images.npy",
  data: "cifar10/val_images.npy",
  labels: "cifar10/val_labels.npy",
};

/** @typedef {{ name: string, calibration: string, data: string, labels?: string }} Classifier */

/** @type {readonly Classifier[]} */
export const classifiers = [
  { name: "resnet20_cifar10", ...cifar },
  { name: "vww_mobilenet_v1_025", ...vww },
  { name: "squeezenet1_1", ...imagenet },
  { name: "vit_tiny", ...imagenet },
  { name: "googlenet", ...imagenet },
];

/** What the labelled pictures are. */
export const evaluatedOn = "All labelled pictures: imagenet 800, vww 500, cifar10 2000; nothing else has seen them.";

/** Cells of a table, each measured once, and kept in a file. */
export class Cells {
  /** @param {string} name of the table */
  constructor(name) {
    const { values } = parseArgs({
      options: {
        shared: { type: "string", default: join("..", "shared") },
        cells: { type: "string" },
        minutes: { type: "string" },
        page: { type: "boolean", default: false },
        state: { type: "string", multiple: true, default: [join("dist", `${name}.json`)] },
        threads: { type: "string" },
      },
    });
    this.assets = join(values.shared, "assets");
    this.threads = values.threads === undefined ? availableParallelism() : Number(values.threads);
    this.machine = `${this.threads} ${this.threads === 1 ? "core" : "cores"} of ${cpus()[0].model.trim()}`;
    /** Whether some cells are left out. */
    this.isPart = values.cells !== undefined || values.minutes !== undefined;
    this.writesPage = !this.isPart || values.page;
    /** No cell is begun after this time. */
    this.end = values.minutes === undefined ? Number.POSITIVE_INFINITY : Date.now() + 60_000 * Number(values.minutes);
    this.wanted = new RegExp(values.cells ?? "");
    this.files = values.state;
    /** @type {Record<string, any>} */
    this.state = Object.assign({}, ...this.files.map((file) => (existsSync(file) ? readState(file) : {})));
    this.folder = mkdtempSync(join(tmpdir(), `recoup-${name}-`));
    process.once("exit", () => rmSync(this.folder, { recursive: true, force: true }));
  }

  /** @param {string} key @param {() => Promise<Record<string, any>>} work */
  async once(key, work) {
    if (this.state[key] || !this.wanted.test(key) || Date.now() > this.end) return;
    this.state[key] = { ...(await work()), machine: this.machine };
    const [file] = this.files;
    const earlier = existsSync(file) ? readState(file) : {};
    writeFileSync(file, JSON.stringify({ ...earlier, [key]: this.state[key] }, undefined, 2));
    console.log(key, this.state[key].kl ?? this.state[key].perplexity);
  }

  /** The machines on which the cells were measured. */
  machines() {
    return [...new Set(Object.values(this.state).map((cell) => cell.machine))].sort().join(" or ");
  }

  /** @param {string} name of a model */
  modelOf(name) {
    return join(this.assets, "models", name, "model.onnx");
  }

  /** A classifier beside its original, on all labelled pictures. @param {Classifier} model @param {string} path */
  async evaluate(model, path) {
    const { n, metrics, reference } = await evaluate(path, {
      task: "classification",
      data: join(this.assets, model.data),
      labels: model.labels && join(this.assets, model.labels),
      reference: this.modelOf(model.name),
      threads: this.threads,
    });
    return { n, top1: metrics.top1, ...reference };
  }
}

/** Top-1 less that of the float model, with its interval. @param {any} cell */
export function pointsOf({ top1Difference: { difference, confidence95 } }) {
  return `${signed(difference)} [${signed(confidence95[0])}, ${signed(confidence95[1])}]`;
}

/** @param {number} value */
function signed(value) {
  return `${value > 0 ? "+" : ""}${value.toFixed(2)}`;
}

/** @param {string} file @returns {Record<string, any>} */
function readState(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}
