// `bun run build [agent|manager] [amd64|arm64]`: standalone binaries, all four unless told otherwise. None reads
// .env.local or bunfig.toml by itself: settings come as README says.
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { uiSize } from "../manager/ui/assets.ts";

const root = join(import.meta.dir, "..");
/** What a browser may have to take for the dashboard, gzipped. */
const MAX_UI_BYTES = 60_000;
const TARGETS = [
  { target: "bun-linux-x64", name: "amd64" },
  { target: "bun-linux-arm64", name: "arm64" },
];
const PROGRAMS = ["agent", "manager"];
/** An agent works some milliseconds a report: compiling what it runs would cost it more of both, time and memory. */
const OPTIONS: Record<string, string[]> = { agent: ["--compile-jit-policy=100"] };

const asked = process.argv.slice(2);
const names = TARGETS.map(({ name }) => name);
const unknown = asked.filter((word) => !PROGRAMS.includes(word) && !names.includes(word));
if (unknown.length > 0) {
  console.error(
    `build: no such program or target: ${unknown.join(", ")}; there are ${[...PROGRAMS, ...names].join(", ")}`,
  );
  process.exit(2);
}
/** Those that were asked for, or all. */
const chosen = (all: string[]) =>
  all.some((word) => asked.includes(word)) ? all.filter((word) => asked.includes(word)) : all;
if (chosen(PROGRAMS).includes("manager")) {
  const { bytes, gzippedBytes } = uiSize();
  console.log(
    `dashboard                    ${(bytes / 1e3).toFixed(1)} kB, ${(gzippedBytes / 1e3).toFixed(1)} kB gzipped`,
  );
  if (gzippedBytes > MAX_UI_BYTES) {
    console.error(`build: the dashboard has more than ${MAX_UI_BYTES / 1e3} kB gzipped`);
    process.exit(1);
  }
}
for (const program of chosen(PROGRAMS)) {
  mkdirSync(join(root, program, "bin"), { recursive: true });
  for (const { target, name } of TARGETS) {
    if (!chosen(names).includes(name)) continue;
    const outfile = join(program, "bin", `${program}-${name}`);
    const child = Bun.spawnSync(
      [
        process.execPath,
        "build",
        "--compile",
        "--minify",
        `--target=${target}`,
        "--no-compile-autoload-dotenv",
        "--no-compile-autoload-bunfig",
        ...(OPTIONS[program] ?? []),
        `--outfile=${outfile}`,
        join(program, "main.ts"),
      ],
      { cwd: root, stdout: "pipe", stderr: "pipe" },
    );
    if (child.exitCode !== 0) {
      console.error(`build: ${outfile} failed\n${child.stdout.toString()}${child.stderr.toString()}`);
      process.exit(1);
    }
    console.log(`${outfile.padEnd(28)} ${(statSync(join(root, outfile)).size / 1e6).toFixed(1)} MB`);
  }
}
