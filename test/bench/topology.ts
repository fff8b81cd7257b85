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
/** Bodies are made and sent so many bytes at a time: the driver's memory is not the subject. */
const BATCH_BYTES = 32e6;
/** What a peer takes of a report, about: for the size of a batch. */
const PEER_BYTES = 260;
/** Recent rounds lie so far apart: several fit before a report is late (two intervals), which asks the alarms less. */
const STEP_MS = 5_000;

/** `past` rounds a day ago, then recent ones of which the first is not counted: a few to warm up, and a thousand reports
 * to measure where the fleet is small. An odd ring with a peer on every other: a full mesh. */
type FleetSize = { name: string; agents: number; peers: number; past: number; counted: number };
export const FLEETS: FleetSize[] = [
  { name: "100 agents, 20 peers", agents: 100, peers: PEERS, past: 20, counted: 10 },
  { name: "1,000 agents, 20 peers", agents: 1000, peers: PEERS, past: 2, counted: 2 },
  { name: "10,000 agents, 20 peers", agents: 10_000, peers: PEERS, past: 1, counted: 1 },
  { name: "full mesh of 201", agents: 201, peers: 200, past: 4, counted: 4 },
  { name: "full mesh of 1,001", agents: 1001, peers: 1000, past: 1, counted: 1 },
];

async function get(url: string): Promise<{ ms: number; megabytes: number }> {
  const began = performance.now();
  const response = await fetch(url, { signal: AbortSignal.timeout(300_000) });
  let bytes = 0;
  for await (const chunk of response.body!) bytes += chunk.byteLength;
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return { ms: performance.now() - began, megabytes: bytes / 1e6 };
}

/** Runs `each` over all items, CONCURRENCY at a time. */
async function forAll<T>(items: readonly T[], each: (item: T, index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      await each(items[index]!, index);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
}

export async function benchFleet({ name, agents, peers, past, counted }: FleetSize): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-bench-topology-"));
  const manager = await spawnManager(directory, { LOG_LEVEL: "info" });
  try {
    const began = Date.now();
    const network = ringNetwork(agents, peers, began - DAY_MS - 3_600_000);
    const senders = await createSenders(network, manager.url, manager.psk);
    await forAll(senders, async (sender, i) => {
      const { status } = await sender.register(network.hosts[i]!.hostname, Date.now());
      if (status >= 300) throw new Error(`registering: ${status}`);
    });
    console.error(
      `registered ${((Date.now() - began) / 1000).toFixed(1)} s, RSS ${residentMegabytes(manager.pid).toFixed(0)} MB`,
    );
    const batch = Math.max(CONCURRENCY, Math.floor(BATCH_BYTES / (3000 + peers * PEER_BYTES)));
    /** One report of every agent, collected `agoMs` ago; milliseconds of the manager's CPU and of the clock for each. */
    const round = async (agoMs: number) => {
      let [cpu, wall] = [0, 0];
      const t0 = performance.now();
      for (let first = 0; first < agents; first += batch) {
        const hosts = network.hosts.slice(first, first + batch);
        const part = { ...network, hosts };
        const bodies = await signedReports(part, senders.slice(first, first + batch), 1, Date.now(), INTERVAL_S, agoMs);
        const before = cpuSeconds(manager.pid);
        const { seconds, statuses } = await load(`${manager.url}/status/updates`, bodies, CONCURRENCY);
        cpu += cpuSeconds(manager.pid) - before;
        wall += seconds;
        const bad = [...statuses].filter(([status]) => status !== 200);
        if (bad.length > 0) throw new Error(`answered ${bad.map(([status, n]) => `${n} × ${status}`).join(", ")}`);
      }
      const result = { cpuMs: (1000 * cpu) / agents, wallMs: (1000 * wall) / agents };
      console.error(
        `round -${agoMs / 1000} s: ${result.cpuMs.toFixed(2)} CPU ${result.wallMs.toFixed(2)} wall per report; all ${((performance.now() - t0) / 1000).toFixed(1)} s; RSS ${residentMegabytes(manager.pid).toFixed(0)} MB`,
      );
      return result;
    };
    for (let i = 0; i < past; i++) await round(DAY_MS - i * INTERVAL_S * 1000);
    await round((counted + 0.5) * STEP_MS);
    let [cpuMs, wallMs] = [0, 0];
    for (let i = 1; i <= counted; i++) {
      const one = await round((counted - i) * STEP_MS);
      cpuMs += one.cpuMs / counted;
      wallMs += one.wallMs / counted;
    }
    const now = await get(`${manager.url}/status/topology`);
    const rss = residentMegabytes(manager.pid);
    const then = await get(`${manager.url}/status/topology?at=${began - DAY_MS + 1000 * 3600}`);
    console.log(
      `${name.padEnd(24)} ${cpuMs.toFixed(2).padStart(7)} ms CPU a report (${wallMs.toFixed(2)} ms of the clock)   topology ${now.ms.toFixed(0).padStart(5)} ms, ${now.megabytes.toFixed(1)} MB   a day back ${then.ms.toFixed(0).padStart(5)} ms, ${then.megabytes.toFixed(1)} MB   RSS ${rss.toFixed(0)} MB ${residentMegabytes(manager.pid).toFixed(0)} MB`,
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
