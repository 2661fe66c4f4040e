import { RecoupError } from "../errors.js";
import type { Attribute, Graph, Node, ValueName } from "../graph/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import { type FileTensor, isFileTensor, isStoredOutside, type TensorOnDisk } from "./tensor.js";
import { bodyOf, cutRecords, malformed } from "./wire.js";

/** The files beside the model that hold some of a graph's tensors: bytes as they were read only hold beside them. */
export function filesOfGraph(graph: Graph): ReadonlySet<string> {
  return union([...[...graph.initializers.values()].map(filesOfTensor), ...graph.nodes.map(filesOfNode)]);
}

export function filesOfNode(node: Node): ReadonlySet<string> {
  return union([...node.attributes.values()].map(filesOfAttribute));
}

export function filesOfAttribute(attribute: Attribute): ReadonlySet<string> {
  switch (attribute.kind) {
    case "tensor":
      return filesOfTensor(attribute.value);
    case "graph":
      return filesOfGraph(attribute.value);
    case "graphs":
      return union(attribute.value.map(filesOfGraph));
    default:
      return none;
  }
}

function filesOfTensor(tensor: Tensor): ReadonlySet<string> {
  return isFileTensor(tensor) && tensor.externalFiles.length > 0 ? new Set(tensor.externalFiles) : none;
}

/** Tensors of a graph that stand in files beside a model, with nothing of them in memory. */
export interface TensorsInPlace {
  readonly folder: string;
  /** How far into each file, by its name in the folder, they reach, and which of them does. */
  readonly ends: ReadonlyMap<string, { readonly end: number; readonly tensor: ValueName }>;
  /** Bytes of all other initializers. */
  readonly otherBytes: number;
}

/** What of a graph's initializers stands on disk, in the folder of the first that does. */
export function tensorsInPlace({ initializers }: Graph): TensorsInPlace | undefined {
  let folder: string | undefined;
  let otherBytes = 0;
  const ends = new Map<string, { readonly end: number; readonly tensor: ValueName }>();
  for (const [name, tensor] of initializers) {
    folder ??= isFileTensor(tensor) ? tensor.external?.folder : undefined;
    if (folder === undefined || !isInFolder(tensor, folder)) otherBytes += tensor.sizeBytes;
    else {
      const { location, offset } = tensor.external;
      const end = offset + tensor.sizeBytes;
      if (end >= (ends.get(location)?.end ?? 0)) ends.set(location, { end, tensor: name });
    }
  }
  return folder === undefined ? undefined : { folder, ends, otherBytes };
}

/** Whether the elements of a tensor stand in a file of a folder. */
export function isInFolder(tensor: Tensor, folder: string): tensor is FileTensor & { external: TensorOnDisk } {
  if (!isFileTensor(tensor) || tensor.external?.folder !== folder) return false;
  // Whoever reads it hears that the lengths differ.
  return (tensor.external.length ?? tensor.sizeBytes) === tensor.sizeBytes;
}

const none: ReadonlySet<string> = new Set();

function union(sets: readonly ReadonlySet<string>[]): ReadonlySet<string> {
  const filled = sets.filter((set) => set.size > 0);
  return filled.length === 0 ? none : new Set(filled.flatMap((set) => [...set]));
}

/** The limit of C++ protobuf: messages nested deeper are refused by every other reader too. */
const maxNesting = 100;

type MessageKind = "function" | "training" | "node" | "attribute" | "graph" | "sparse" | "tensor";

/** Field numbers under which tensors, or messages that hold some, stand in each message. */
const children: Readonly<Record<MessageKind, Readonly<Record<number, MessageKind>>>> = {
  function: { 7: "node", 11: "attribute" },
  training: { 1: "graph", 2: "graph" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  tensor: {},
};

/**
 * Looks through a message that is only ever written back as it was read: a tensor of it that stands in another file would
 * be lost once the model stands elsewhere.
 *
 * @throws RecoupError `onnx/unsupported` where there is one, `onnx/malformed`
 */
export function refuseExternalTensors(kind: MessageKind, message: Uint8Array, path: string): void {
  const open = [{ kind, message, depth: 0 }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next.depth > maxNesting) throw malformed(path, `is nested deeper than ${maxNesting} messages`);
    const records = cutRecords(next.message, path);
    if (next.kind === "tensor" && isStoredOutside(records, path)) {
      const message =
        "keeps a tensor in another file, which only initializers and nodes of graphs may: save it inside the model";
      throw new RecoupError("onnx/unsupported", message, { field: path });
    }
    for (const record of records) {
      const child = children[next.kind][record.field];
      if (child !== undefined) open.push({ kind: child, message: bodyOf(record, path), depth: next.depth + 1 });
    }
  }
}
