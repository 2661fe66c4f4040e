import { expect, it } from "vitest";
import { joinForms } from "./forms.js";

it("joins what was taken here and there, each form once", () => {
  expect(joinForms([])).toEqual({});
  expect(joinForms([{ a: ["x", "y", "x"], b: [] }, { a: ["y", "z"] }])).toEqual({ a: ["x", "y", "z"], b: [] });
});
