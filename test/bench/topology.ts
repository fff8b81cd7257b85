// Owns `bun run bench topology`: what a report costs as the fleet grows, and what the whole picture costs, now and a day back.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnManager } from "../manager/support.ts";
import { createSenders, ringNetwork, signedReports } from "./fleet.ts";
import { cpuSeconds, load, residentMegabytes } from "./measure.ts";

const PEERS = 20;
const INTERVAL_S = 30;
const DAY_MS = 86_400_000;
const CONCURRENCY = 32;
/** Bodies are made and sent so many agents at a time: the driver's memory is not the subject. */
const BATCH = 500;
/** An odd ring with a peer on every other: a full mesh. */
export const FLEETS: { name: string; agents: number; peers: number }[] = [
  { name: "100 agents, 20 peers", agents: 100, peers: PEERS },
  { name: "1,000 agents, 20 peers", agents: 1000, peers: PEERS },
  { name: "10,000 agents, 20 peers", agents: 10_000, peers: PEERS },
  { name: "full mesh of 201", agents: 201, peers: 200 },
  { name: "full mesh of 1,001", agents: 1001, peers: 1000 },
];

async function get(url: string): Promise<{ ms: number; megabytes: number }> {
  const began = performance.now();
  const response = await fetch(url, { signal: AbortSignal.timeout(120_000) });
  const bytes = (await response.arrayBuffer()).byteLength;
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return { ms: performance.now() - began, megabytes: bytes / 1e6 };
}

export async function benchFleet({ name, agents, peers }: (typeof FLEETS)[number]): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-bench-topology-"));
  const manager = await spawnManager(directory, { LOG_LEVEL: "info" });
  try {
    const began = Date.now();
    const network = ringNetwork(agents, peers, began - DAY_MS - 60_000);
    const senders = await createSenders(network, manager.url, manager.psk);
    for (const [i, sender] of senders.entries()) {
      const { status } = await sender.register(network.hosts[i]!.hostname, Date.now());
      if (status >= 300) throw new Error(`registering: ${status}`);
    }
    /** One report of every agent, collected `agoMs` ago; seconds of the manager's CPU and of the clock for each. */
    const round = async (agoMs: number) => {
      let [cpu, wall] = [0, 0];
      for (let first = 0; first < agents; first += BATCH) {
        const hosts = network.hosts.slice(first, first + BATCH);
        const part = { ...network, hosts };
        const bodies = await signedReports(part, senders.slice(first, first + BATCH), 1, Date.now(), INTERVAL_S, agoMs);
        const before = cpuSeconds(manager.pid);
        const { seconds, statuses } = await load(`${manager.url}/status/updates`, bodies, CONCURRENCY);
        cpu += cpuSeconds(manager.pid) - before;
        wall += seconds;
        const bad = [...statuses].filter(([status]) => status !== 200);
        if (bad.length > 0) throw new Error(`answered ${bad.map(([status, n]) => `${n} × ${status}`).join(", ")}`);
      }
      return { cpuMs: (1000 * cpu) / agents, wallMs: (1000 * wall) / agents };
    };
    await round(DAY_MS);
    await round(INTERVAL_S * 1000);
    // The third of each: nothing joins any more.
    const { cpuMs, wallMs } = await round(0);
    const now = await get(`${manager.url}/status/topology`);
    const past = await get(`${manager.url}/status/topology?at=${began - DAY_MS + 1000 * 60}`);
    console.log(
      `${name.padEnd(24)} ${cpuMs.toFixed(2).padStart(7)} ms CPU a report (${wallMs.toFixed(2)} ms of the clock)   topology ${now.ms.toFixed(0).padStart(5)} ms, ${now.megabytes.toFixed(1)} MB   a day back ${past.ms.toFixed(0).padStart(5)} ms, ${past.megabytes.toFixed(1)} MB   RSS ${residentMegabytes(manager.pid).toFixed(0)} MB`,
    );
  } finally {
    await manager.kill("SIGTERM");
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Prints a line a fleet. The largest take minutes. */
export async function benchTopology(): Promise<void> {
  for (const fleet of FLEETS) await benchFleet(fleet);
}
