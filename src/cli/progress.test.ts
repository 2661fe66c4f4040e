import { expect, it } from "vitest";
import { printWarnings } from "./progress.js";

it("lets no control character of a file's name into the terminal", () => {
  const lines: string[] = [];
  printWarnings(["class \u001b[2J\u0007 is class 0"], { write: (line: string) => lines.push(line) > 0 });
  expect(lines).toEqual(["warning: class �[2J� is class 0\n"]);
});
