// Owns `bun run bench agent`: the compiled agent's memory after 100 reports at 1 s beside that of an empty compiled program,
// and its CPU seconds per report.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentsResponse } from "../../shared/api.ts";
import { spawnManager } from "../manager/support.ts";
import { compiled } from "../support/binary.ts";
import { cpuSeconds, residentMegabytes } from "./measure.ts";

const REPORTS = 100;

/** Prints the figures. Takes a little longer than 100 s. */
export async function benchAgent(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-bench-agent-"));
  const started: Bun.Subprocess[] = [];
  try {
    // The same runtime, and nothing to do.
    const source = join(directory, "empty.ts");
    const empty = join(directory, "empty");
    writeFileSync(source, "setInterval(() => {}, 1_000_000);\n");
    const build = Bun.spawnSync([process.execPath, "build", "--compile", "--minify", `--outfile=${empty}`, source]);
    if (build.exitCode !== 0) throw new Error(`cannot build the empty program: ${build.stderr.toString()}`);
    const spawn = (path: string, environment: Record<string, string>) => {
      const child = Bun.spawn([path], {
        cwd: directory,
        env: { PATH: process.env["PATH"] ?? "", ...environment },
        stdin: "ignore",
        stdout: "ignore",
        stderr: "ignore",
      });
      started.push(child);
      return child.pid;
    };
    const manager = await spawnManager(directory);
    try {
      const idle = spawn(empty, {});
      const agent = spawn(compiled("agent"), {
        PSK: manager.psk,
        STATE_DIR: join(directory, "agent"),
        MANAGER_URL: manager.url,
        REPORT_INTERVAL: "1",
        AGENT_LISTEN: "127.0.0.1",
        AGENT_PORT: "0",
      });
      const tick = async () =>
        ((await (await fetch(`${manager.url}/status/agents`)).json()) as AgentsResponse).agents[0]?.tick ?? 0;
      const until = async (reports: number) => {
        while ((await tick()) < reports) await Bun.sleep(200);
      };
      // The start is not part of what a report costs.
      await until(5);
      const cpuBefore = cpuSeconds(agent);
      await until(REPORTS);
      const cpu = (cpuSeconds(agent) - cpuBefore) / (REPORTS - 5);
      const [ours, bare] = [residentMegabytes(agent), residentMegabytes(idle)];
      console.log(
        `agent: after ${REPORTS} reports at 1 s RSS ${ours.toFixed(0)} MB; an empty compiled program ${bare.toFixed(0)} MB; agent / empty ${(ours / bare).toFixed(2)}; ${(cpu * 1000).toFixed(1)} ms of CPU a report`,
      );
    } finally {
      await manager.kill("SIGTERM");
    }
  } finally {
    for (const child of started) child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
}
