import { describe, expect, it } from "vitest";
import { CheckpointNotes } from "./checkpoint-notes.js";

function notesOf(tell: (notes: CheckpointNotes) => void): string {
  let text = "";
  const write = (line: string) => {
    text += line;
    return true;
  };
  tell(new CheckpointNotes("out.checkpoint", { write: write as NodeJS.WriteStream["write"] }));
  return text;
}

describe("CheckpointNotes", () => {
  it("says what a run goes on from", () => {
    expect(notesOf((notes) => notes.resumed(3))).toBe("out.checkpoint: goes on behind 3 finished blocks\n");
    expect(notesOf((notes) => notes.resumed(0))).toMatch(/^warning: out\.checkpoint holds no finished block: .*\n$/);
  });

  it("says how to go on where something is kept", () => {
    const advice = "the same command with --resume goes on from there";
    expect(notesOf((notes) => notes.brokeOff())).toBe("");
    const told = notesOf((notes) => {
      notes.kept(1);
      notes.brokeOff();
    });
    expect(told).toBe(`out.checkpoint keeps 1 finished block: ${advice}\n`);
  });
});
