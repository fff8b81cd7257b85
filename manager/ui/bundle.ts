// Owns the dashboard's bundle. It runs as a macro, when the manager's own source is transpiled or compiled: so the same
// files are inside `bun manager/main.ts` and inside the binary, and neither reads them from disk while it runs.
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The page and its two files, as text, minified for the browser. @throws Error with the bundler's words. */
export function bundle(): { html: string; script: string; style: string } {
  // A process of its own: Bun.build inside a macro would wait for the bundler that waits for the macro.
  const build = (entry: string) => {
    const run = Bun.spawnSync(
      [
        process.execPath,
        "build",
        "--target=browser",
        "--minify",
        "--define",
        "process.env.NODE_ENV='production'",
        join(import.meta.dir, entry),
      ],
      { timeout: 60_000, env: { ...process.env, BUN_BE_BUN: "1" } },
    );
    if (run.exitCode !== 0) throw new Error(`dashboard: ${entry} does not build: ${run.stderr.toString()}`);
    return run.stdout.toString();
  };
  const html = readFileSync(join(import.meta.dir, "index.html"), "utf8");
  return { html, script: build("app.tsx"), style: build("app.css") };
}
