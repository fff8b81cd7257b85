// Owns how a test comes by the compiled agent: what `bun run build` made, or built now for this machine alone.
import { existsSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const TARGET = process.arch === "arm64" ? "arm64" : "amd64";

/** Path of `agent-<this machine>` or `manager-<this machine>`; builds it where it is not there. */
export function compiled(program: "agent" | "manager"): string {
  const path = join(ROOT, program, "bin", `${program}-${TARGET}`);
  if (!existsSync(path)) {
    const build = Bun.spawnSync([process.execPath, join(ROOT, "scripts/build.ts"), program, TARGET], { cwd: ROOT });
    if (build.exitCode !== 0) throw new Error(`cannot build ${path}: ${build.stderr.toString()}`);
  }
  return path;
}
