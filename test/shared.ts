import { existsSync } from "node:fs";
import { join } from "node:path";

const named = process.env.RECOUP_SHARED ?? join(process.cwd(), "..", "shared");
/**
 * The folder of models and data too large for the repository: named by RECOUP_SHARED, or `shared` beside the checkout.
 * Tests that need it are skipped where it is missing.
 */
export const sharedFolder: string | undefined = existsSync(named) ? named : undefined;

export function sharedPath(...parts: readonly string[]): string {
  return join(sharedFolder ?? "shared", ...parts);
}
