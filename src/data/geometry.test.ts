import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { planGeometry } from "./geometry.js";
import type { Frame, Resize } from "./preprocess.js";

function plan(width: number, height: number, resize?: Resize, frame?: Frame) {
  return planGeometry({ width, height }, { resize, frame });
}

describe("planGeometry", () => {
  it("leaves a picture alone where nothing is asked for", () => {
    const extent = { width: 5, height: 4 };
    expect(plan(5, 4)).toEqual({ resized: extent, canvas: extent, left: 0, top: 0, fill: 0 });
  });

  it.each<[string, Resize, number, number, number, number]>([
    ["shortest edge, wide", { to: "shortest-edge", edge: 256 }, 500, 375, 341, 256],
    ["shortest edge, tall", { to: "shortest-edge", edge: 256 }, 375, 500, 256, 341],
    ["shortest edge, square", { to: "shortest-edge", edge: 256 }, 300, 300, 256, 256],
    ["shortest edge, capped", { to: "shortest-edge", edge: 800, longest: 1333 }, 1000, 500, 1333, 666],
    ["longest edge", { to: "longest-edge", edge: 1024 }, 640, 427, 1024, 683],
    ["exact", { to: "exact", width: 7, height: 9 }, 640, 480, 7, 9],
    ["fit, nearest", { to: "fit", width: 640, height: 640, rounding: "nearest" }, 500, 333, 640, 426],
    ["fit, down", { to: "fit", width: 416, height: 416, rounding: "down" }, 500, 375, 416, 312],
    ["never below one pixel", { to: "fit", width: 10, height: 10, rounding: "down" }, 1000, 1, 10, 1],
  ])("resizes: %s", (_, resize, width, height, newWidth, newHeight) => {
    expect(plan(width, height, resize).resized).toEqual({ width: newWidth, height: newHeight });
  });

  it("cuts half a pixel more at the bottom right: (256 - 227) / 2 is 14", () => {
    const frame: Frame = { kind: "center-crop", width: 227, height: 227 };
    expect(plan(256, 256, undefined, frame)).toMatchObject({ left: -14, top: -14, fill: 0 });
  });

  it("fills up half a pixel more at the top left: (5 - 2) / 2 is 2", () => {
    const frame: Frame = { kind: "center-crop", width: 5, height: 5 };
    expect(plan(2, 9, undefined, frame)).toMatchObject({ left: 2, top: -2, fill: 0 });
  });

  it("pads to the letterbox", () => {
    const frame = { kind: "pad", width: 640, height: 640, value: 114 } as const;
    const resize: Resize = { to: "fit", width: 640, height: 640, rounding: "nearest" };
    expect(plan(640, 427, resize, { ...frame, position: "center" })).toMatchObject({ left: 0, top: 106, fill: 114 });
    expect(plan(640, 427, resize, { ...frame, position: "top-left" })).toMatchObject({ left: 0, top: 0, fill: 114 });
  });

  it("refuses to blow a picture up beyond all memory", () => {
    expect(() => plan(100000, 1, { to: "shortest-edge", edge: 8192 })).toThrow(
      expect.objectContaining({ code: "data/mismatch" }),
    );
  });

  it("keeps a letterbox inside its frame and as large as it can be", () => {
    const sizes = fc.integer({ min: 1, max: 3000 });
    fc.assert(
      fc.property(
        sizes,
        sizes,
        sizes,
        sizes,
        fc.constantFrom("nearest" as const, "down" as const),
        (w, h, W, H, rounding) => {
          const frame: Frame = { kind: "pad", width: W, height: H, position: "center", value: 0 };
          const { resized, left, top } = plan(w, h, { to: "fit", width: W, height: H, rounding }, frame);
          expect(resized.width).toBeLessThanOrEqual(W);
          expect(resized.height).toBeLessThanOrEqual(H);
          expect(Math.min(W - resized.width, H - resized.height)).toBeLessThanOrEqual(1);
          for (const offset of [left, top]) expect(offset).toBeGreaterThanOrEqual(0);
          expect(left + resized.width).toBeLessThanOrEqual(W);
          expect(top + resized.height).toBeLessThanOrEqual(H);
        },
      ),
    );
  });
});
