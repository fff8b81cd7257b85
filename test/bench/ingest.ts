// Owns `bun run bench`'s figures of ingest: accepted reports per second beside the echo and the limit of the same machine.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSenders, ringNetwork, signedReports } from "./fleet.ts";
import { load, percentile, residentMegabytes, start } from "./measure.ts";

const AGENTS = 200;
const PEERS = 20;
/**
 * Reports of each agent; the first three quarters warm up what is measured: a manager runs for months, and its compiler, at
 * work for as long as that on other threads of the same two cores, is done. Fewer than 120, at which packing begins.
 */
const ROUNDS = 118;
const WARM_ROUNDS = 88;
const CONCURRENCY = 64;
/** Limit and manager in turn, so many times: on a shared machine one pair says little. The middle ratio counts. */
const PAIRS = 5;
/** Of the simulated reports: all rounds lie within the ten minutes for which inference keeps evidence, as in a live fleet. */
const INTERVAL_S = 5;
const PSK = "a key for the benchmark alone, of more than 32 bytes";

const percent = (ratio: number) => `${(100 * ratio).toFixed(0)} %`;

/** Prints accepted reports per second, p50 and p99 of a running manager, a bare echo, and the limit. */
export async function benchIngest(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-bench-"));
  const limitServer = join(import.meta.dir, "limit_server.ts");
  const root = join(import.meta.dir, "../..");
  try {
    const run = async (name: string, command: string[], path: string, env: Record<string, string> = {}) => {
      const child = await start(command, { cwd: directory, env, until: /https?:\/\// });
      try {
        const url = /https?:\/\/\S+/.exec(child.firstLine)![0].replace(/\/$/, "");
        // Its own network: time in it only goes on. As old as the first report will be: no handshake lies in its future.
        const network = ringNetwork(AGENTS, PEERS, Date.now() - ROUNDS * INTERVAL_S * 1000);
        const senders = await createSenders(network, url, PSK);
        for (const [i, sender] of senders.entries()) await sender.register(network.hosts[i]!.hostname, Date.now());
        const bodies = await signedReports(network, senders, ROUNDS, Date.now(), INTERVAL_S);
        const warm = AGENTS * WARM_ROUNDS;
        await load(`${url}${path}`, bodies.slice(0, warm), CONCURRENCY);
        const result = await load(`${url}${path}`, bodies.slice(warm), CONCURRENCY);
        const bad = [...result.statuses].filter(([status]) => status !== 200);
        if (bad.length > 0)
          throw new Error(`${name}: answered ${bad.map(([status, count]) => `${count} × ${status}`).join(", ")}`);
        const size = bodies.reduce((sum, body) => sum + body.length, 0) / bodies.length;
        console.log(
          `${name.padEnd(8)} ${result.perSecond.toFixed(0).padStart(7)} reports/s   p50 ${result.p50Ms.toFixed(1)} ms   p99 ${result.p99Ms.toFixed(1)} ms   ${(size / 1000).toFixed(1)} kB each   RSS ${residentMegabytes(child.pid).toFixed(0)} MB`,
        );
        return result.perSecond;
      } finally {
        await child.stop();
      }
    };
    console.log(
      `ingest: ${AGENTS} agents, ${PEERS} peers each, ${CONCURRENCY} requests at a time, one process drives, one serves`,
    );
    const echo = await run("echo", ["bun", limitServer, "echo", directory, PSK], "/status/updates");
    const ofLimit: number[] = [];
    const ofEcho: number[] = [];
    for (let i = 0; i < PAIRS; i++) {
      const state = join(directory, String(i));
      mkdirSync(state, { mode: 0o700 });
      const limit = await run("limit", ["bun", limitServer, "limit", state, PSK], "/status/updates");
      const manager = await run("manager", ["bun", join(root, "manager/main.ts")], "/status/updates", {
        PSK,
        MANAGER_LISTEN: "127.0.0.1",
        MANAGER_PORT: "0",
        STATE_DIR: state,
        DB_PATH: join(state, "kattila.db"),
        LOG_LEVEL: "error",
      });
      ofLimit.push(manager / limit);
      ofEcho.push(manager / echo);
    }
    const spread = (ratios: number[]) => {
      const [least, middle, most] = [0, 0.5, 1].map((share) =>
        percentile(
          ratios.toSorted((a, b) => a - b),
          share,
        ),
      );
      return `${percent(middle!)} (${percent(least!)} to ${percent(most!)})`;
    };
    console.log(`manager / limit ${spread(ofLimit)}   manager / echo ${spread(ofEcho)}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
