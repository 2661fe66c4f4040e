import fc from "fast-check";
import { zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import { float32Tensor, int64Tensor, integerValues } from "../tensor/tensor.js";
import { encodeNpy } from "./npy.js";
import { readNpz } from "./npz.js";

const ids = encodeNpy(int64Tensor([2, 2], [1, 2, 3, 4]));
const mask = encodeNpy(float32Tensor([2, 2], [1, 1, 1, 0]));

describe("readNpz", () => {
  it.each([0, 6] as const)("reads arrays by name, packed at level %i", (level) => {
    const arrays = readNpz(zipSync({ "input_ids.npy": ids, "mask.npy": mask }, { level }));
    expect([...arrays.keys()]).toEqual(["input_ids", "mask"]);
    expect(integerValues(arrays.get("input_ids") ?? int64Tensor([0], []))).toEqual([1, 2, 3, 4]);
  });

  it("takes names that look like paths as names", () => {
    expect([...readNpz(zipSync({ "../../x.npy": ids })).keys()]).toEqual(["../../x"]);
  });

  it("names the array that is broken", () => {
    const broken = zipSync({ "x.npy": ids.subarray(0, 130) });
    expect(() => readNpz(broken)).toThrow(
      expect.objectContaining({ code: "data/unreadable", place: expect.objectContaining({ field: "x" }) }),
    );
  });

  it("refuses an entry that promises more than it can hold", () => {
    const archive = zipSync({ "x.npy": ids });
    // The unpacked size stands 24 bytes into the entry of the central directory.
    const directory = archive.findLastIndex((_, i) => archive[i] === 0x50 && archive[i + 2] === 1);
    new DataView(archive.buffer).setUint32(directory + 24, 0xf0000000, true);
    expect(() => readNpz(archive)).toThrow(expect.objectContaining({ code: "data/unreadable" }));
  });

  it("refuses an archive without arrays", () => {
    expect(() => readNpz(zipSync({ "readme.txt": ids }))).toThrow(expect.objectContaining({ code: "data/unreadable" }));
  });

  it("ends with arrays or a RecoupError for bytes that were changed", () => {
    const original = zipSync({ "a.npy": ids, "b.npy": mask });
    fc.assert(
      fc.property(fc.nat(original.length - 1), fc.nat(255), (position, value) => {
        const bytes = original.slice();
        bytes[position] = value;
        try {
          readNpz(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(RecoupError);
        }
      }),
      { numRuns: 300 },
    );
  });
});
