import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import { checkLabelCount, checkLabelRows, labelsOfArray, readLabels } from "./labels.js";

function refusal(run: () => unknown): RecoupError {
  try {
    run();
  } catch (error) {
    if (error instanceof RecoupError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("readLabels", () => {
  it("reads a table", () => {
    expect(readLabels("file,label\na.jpg,3\n\nb.jpg,0\n")).toEqual({
      kind: "table",
      rows: [
        { file: "a.jpg", label: 3, line: 2 },
        { file: "b.jpg", label: 0, line: 4 },
      ],
    });
  });

  it("reads quotes, other columns, Windows' line ends and a byte order mark", () => {
    const text = '\uFEFFid,"Label",File\r\n7, 1 ,"a, ""b"".jpg"\r\n8,"2", c.jpg \r\n';
    expect(readLabels(text)).toMatchObject({
      rows: [
        { file: 'a, "b".jpg', label: 1 },
        { file: "c.jpg", label: 2 },
      ],
    });
  });

  it("reads one label a line, with or without a header", () => {
    expect(readLabels("3\n1\n2\n")).toEqual({ kind: "list", labels: [3, 1, 2] });
    expect(readLabels("label\n3\n")).toEqual({ kind: "list", labels: [3] });
    expect(readLabels("")).toEqual({ kind: "list", labels: [] });
  });

  it.each([
    ["a name for a label", "file,label\na.jpg,cat\n", "line 2"],
    ["a negative label", "file,label\na.jpg,0\nb.jpg,-1\n", "line 3"],
    ["a missing label", "file,label\na.jpg\n", "line 2"],
    ["a fraction", "1\n1.5\n", "line 2"],
    ["a table without its header", "a.jpg,1\n", "line 1"],
    ["an empty first field", "file,label\n,5\n,x\n", "line 3"],
  ])("refuses %s and names the line", (_, text, field) => {
    expect(refusal(() => readLabels(text))).toMatchObject({ code: "data/label", place: { field } });
  });
});

describe("labelsOfArray", () => {
  it("takes [N] and [N, 1] of integers", () => {
    expect(labelsOfArray(int64Tensor([3], [2, 0, 1]))).toEqual([2, 0, 1]);
    expect(labelsOfArray(int64Tensor([2, 1], [2, 0]))).toEqual([2, 0]);
  });

  it("refuses anything else", () => {
    for (const array of [float32Tensor([1], [1]), int64Tensor([1, 2], [1, 2]), int64Tensor([1], [-1])]) {
      expect(refusal(() => labelsOfArray(array)).code).toBe("data/label");
    }
  });
});

describe("checkLabelRows", () => {
  it("names the line of a picture that is missing or comes twice", () => {
    const row = { file: "a.jpg", label: 1, line: 2 };
    const names = new Set(["a.jpg"]);
    expect(() => checkLabelRows([row], names)).not.toThrow();
    expect(refusal(() => checkLabelRows([{ ...row, file: "../a.jpg" }], names)).place.field).toBe("line 2");
    expect(refusal(() => checkLabelRows([row, { ...row, line: 3 }], names)).place.field).toBe("line 3");
  });
});

describe("checkLabelCount", () => {
  it("wants one label for each sample", () => {
    expect(() => checkLabelCount([1, 2], 2)).not.toThrow();
    expect(refusal(() => checkLabelCount([1, 2], 3)).message).toBe("has 2 labels for 3 samples");
  });
});
