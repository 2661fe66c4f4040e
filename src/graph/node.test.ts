import { describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { float32Tensor, floatTensor, int64Tensor } from "../tensor/tensor.js";
import {
  floatAttribute,
  intAttribute,
  intsAttribute,
  isOperator,
  labelOf,
  makeNode,
  onlyConsumer,
  operatorName,
  stringAttribute,
  withAttributes,
} from "./node.js";
import { refuseNotANumber } from "./not-a-number.js";

describe("attributes", () => {
  const tensor = float32Tensor([], [1]);
  const node = makeNode("Op", ["x"], ["y"], {
    whole: 3,
    text: "abc",
    list: [1, 2],
    tensor,
    real: { kind: "float", value: 3 },
  });

  it("become what the plain value says", () => {
    expect([...node.attributes.values()]).toEqual([
      { kind: "int", value: 3 },
      { kind: "string", value: "abc" },
      { kind: "ints", value: [1, 2] },
      { kind: "tensor", value: tensor },
      { kind: "float", value: 3 },
    ]);
  });

  it("are read by kind, with a default for those of another kind", () => {
    expect([intAttribute(node, "whole", 0), intAttribute(node, "real", 0), intAttribute(node, "none", 7)]).toEqual([
      3, 0, 7,
    ]);
    expect([floatAttribute(node, "real", 0), floatAttribute(node, "whole", 0.5)]).toEqual([3, 0.5]);
    expect([stringAttribute(node, "text", ""), stringAttribute(node, "whole", "-")]).toEqual(["abc", "-"]);
    expect([intsAttribute(node, "list"), intsAttribute(node, "whole")]).toEqual([[1, 2], undefined]);
  });

  it("are set and taken away on a copy", () => {
    const changed = withAttributes(node, { whole: 4, text: undefined, other: 1 });
    expect([...changed.attributes.keys()]).toEqual(["whole", "list", "tensor", "real", "other"]);
    expect(intAttribute(changed, "whole", 0)).toBe(4);
    expect(intAttribute(node, "whole", 0)).toBe(3);
  });
});

it("tells the standard's operators from those of others", () => {
  const relu = makeNode("Relu", ["x"], ["y"]);
  expect(isOperator(relu, "Neg", "Relu")).toBe(true);
  expect(isOperator({ ...relu, domain: "ai.onnx" }, "Relu")).toBe(true);
  expect(isOperator({ ...relu, domain: "com.example" }, "Relu")).toBe(false);
  expect(isOperator(undefined, "Relu")).toBe(false);
});

it("calls a node by its name, its first output or its operator", () => {
  expect(labelOf(makeNode("Op", [], ["y"], {}, "n"))).toBe("n");
  expect(labelOf(makeNode("Op", [], ["", "y"], {}, ""))).toBe("y");
  expect(labelOf(makeNode("Op", [], [], {}, ""))).toBe("Op");
});

it("finds the only reader of a value that stays inside", () => {
  const nodes = [
    makeNode("Relu", ["x"], ["a"]),
    makeNode("Add", ["a", "a"], ["b"]),
    makeNode("Neg", ["b"], ["c"]),
    makeNode("Abs", ["b"], ["d"]),
  ];
  const { graph } = makeTestModel({ feeds: { x: someFloats([2]) }, nodes, outputs: ["c", "d"] }).model;
  expect(onlyConsumer(graph, "a")).toBe(graph.nodes[1]);
  expect(onlyConsumer(graph, "b")).toBeUndefined();
  expect(onlyConsumer(graph, "c")).toBeUndefined();
});

describe("refuseNotANumber", () => {
  const graphWith = (w: Parameters<typeof floatTensor>[2], type: "float32" | "float16" = "float32") =>
    makeTestModel({
      feeds: { x: someFloats([2]) },
      nodes: [makeNode("Add", ["x", "w"], ["y"])],
      outputs: ["y"],
      initializers: { i: int64Tensor([1], [1]), w: floatTensor(type, [2], w) },
    }).model.graph;

  it("names the weight and the element", () => {
    for (const type of ["float32", "float16"] as const) {
      expect(() => refuseNotANumber(graphWith([1, Number.NaN], type))).toThrow(
        expect.objectContaining({ code: "model/not-finite", message: "holds NaN at element 1", place: { field: "w" } }),
      );
    }
  });

  it("leaves infinity, which masks hold", () => {
    expect(() => refuseNotANumber(graphWith([Number.NEGATIVE_INFINITY, 1]))).not.toThrow();
  });
});

describe("operatorName", () => {
  it("names the domain of operators that are not the standard's own", () => {
    const names = ["", "ai.onnx", "com.microsoft"].map((domain) =>
      operatorName({ ...makeNode("Gelu", [], ["y"]), domain }),
    );
    expect(names).toEqual(["Gelu", "Gelu", "com.microsoft.Gelu"]);
  });
});
