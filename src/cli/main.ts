#!/usr/bin/env node
import { CommanderError } from "commander";
import { RecoupError } from "../errors.js";
import { createProgram } from "./program.js";

/** The exit codes of a program that a signal has ended, by the shells' convention: 128 and the number of the signal. */
const interrupted = { SIGINT: 130, SIGTERM: 143 } as const;

/** 0 done, 1 failed, 2 bad input, 130 and 143 interrupted. */
async function main(): Promise<number> {
  const interrupt = new AbortController();
  let exitCode = 0;
  for (const [signal, code] of Object.entries(interrupted)) {
    process.once(signal, () => {
      exitCode = code;
      interrupt.abort();
      // A second one ends the process at once, as it does by default.
    });
  }
  try {
    await createProgram(interrupt.signal).parseAsync();
    return 0;
  } catch (error) {
    if (interrupt.signal.aborted) return exitCode;
    // commander has printed its own line: what is unknown, what is missing, or the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof RecoupError) {
      process.stderr.write(`recoup: ${error.toLine()}\n`);
      return error.exitCode;
    }
    process.stderr.write(`recoup: this is a defect of Recoup, please report it\n${(error as Error).stack ?? error}\n`);
    return 1;
  }
}

// A reader that has seen enough (`recoup inspect … | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
process.exitCode = await main();
