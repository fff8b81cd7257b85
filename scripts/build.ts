// `bun run build [agent|manager]`: standalone binaries for linux-x64 and linux-arm64. Neither reads .env.local or
// bunfig.toml by itself: settings come as README says.
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const TARGETS = [
  { target: "bun-linux-x64", name: "amd64" },
  { target: "bun-linux-arm64", name: "arm64" },
];
const PROGRAMS = ["agent", "manager"];

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !PROGRAMS.includes(name));
if (unknown.length > 0) {
  console.error(`build: no such program: ${unknown.join(", ")}; there are ${PROGRAMS.join(", ")}`);
  process.exit(2);
}
for (const program of wanted.length > 0 ? wanted : PROGRAMS) {
  mkdirSync(join(root, program, "bin"), { recursive: true });
  for (const { target, name } of TARGETS) {
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
export {};
