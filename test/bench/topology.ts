// Owns `bun run bench topology`: what a report costs as the fleet grows, and what the whole picture costs, now and a day back.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { SimNetwork } from "../fleet/network.ts";
import type { Sender } from "../fleet/sender.ts";
import { spawnManager } from "../manager/support.ts";
import { createSenders, ringNetwork, signedReports } from "./fleet.ts";
import { cpuSeconds, load, peakMegabytes, residentMegabytes, start } from "./measure.ts";

const PEERS = 20;
const INTERVAL_S = 30;
const DAY_MS = 86_400_000;
const CONCURRENCY = 32;
/** Bodies are made and sent so many bytes at a time: the driver's memory is not the subject. */
const BATCH_BYTES = 32e6;
/** What a peer takes of a report, about: for the size of a batch. */
const PEER_BYTES = 260;
/** Recent rounds lie so far apart: several fit before a report is late (two intervals), and late ones ask less of alarms. */
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

/** Reports that the limit's server takes of each fleet, and how often: to warm up, then to be measured. */
const LIMIT_REPORTS = 100;
const LIMIT_ROUNDS = 5;

async function get(url: string): Promise<{ ms: number; text: string; megabytes: number }> {
  const began = performance.now();
  const response = await fetch(url, { signal: AbortSignal.timeout(300_000) });
  const bytes = await response.bytes();
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return { ms: performance.now() - began, text: new TextDecoder().decode(bytes), megabytes: bytes.byteLength / 1e6 };
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

async function register(senders: readonly Sender[], network: SimNetwork): Promise<void> {
  await forAll(senders, async (sender, i) => {
    const { status } = await sender.register(network.hosts[i]!.hostname, Date.now());
    if (status >= 300) throw new Error(`registering: ${status}`);
  });
}

type Cost = { cpuMs: number; wallMs: number };

/** Sends bodies to the process; milliseconds of its CPU and of the clock in all. */
async function cost(pid: number, url: string, bodies: readonly string[]): Promise<Cost> {
  const before = cpuSeconds(pid);
  const { seconds, statuses } = await load(`${url}/status/updates`, bodies, CONCURRENCY);
  const bad = [...statuses].filter(([status]) => status !== 200);
  if (bad.length > 0) throw new Error(`answered ${bad.map(([status, n]) => `${n} × ${status}`).join(", ")}`);
  return { cpuMs: 1000 * (cpuSeconds(pid) - before), wallMs: 1000 * seconds };
}

/** Milliseconds of CPU that the same reports cost a process that parses, verifies and inserts them, and no more. */
async function limitCpuMs(network: SimNetwork, psk: string, directory: string): Promise<number> {
  const command = ["bun", join(import.meta.dir, "limit_server.ts"), "limit", directory, psk];
  const server = await start(command, { cwd: directory, until: /https?:\/\// });
  try {
    const url = server.firstLine.replace(/\/$/, "");
    const part = { ...network, hosts: network.hosts.slice(0, LIMIT_REPORTS) };
    const senders = await createSenders(part, url, psk);
    await register(senders, part);
    let cpuMs = 0;
    for (let i = 0; i < LIMIT_ROUNDS; i++) {
      const bodies = await signedReports(part, senders, 1, Date.now(), INTERVAL_S);
      const one = await cost(server.pid, url, bodies);
      if (i > 0) cpuMs += one.cpuMs;
    }
    return cpuMs / (part.hosts.length * (LIMIT_ROUNDS - 1));
  } finally {
    await server.stop();
  }
}

export async function benchFleet({ name, agents, peers, past, counted }: FleetSize): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-bench-topology-"));
  const manager = await spawnManager(directory, { LOG_LEVEL: "info" });
  try {
    const began = Date.now();
    const network = ringNetwork(agents, peers, began - DAY_MS - 3_600_000);
    const senders = await createSenders(network, manager.url, manager.psk);
    await register(senders, network);
    const batch = Math.max(CONCURRENCY, Math.floor(BATCH_BYTES / (3000 + peers * PEER_BYTES)));
    /** One report of every agent, collected `agoMs` ago; milliseconds of the manager's CPU and of the clock for each. */
    const round = async (agoMs: number): Promise<Cost> => {
      const sum = { cpuMs: 0, wallMs: 0 };
      for (let first = 0; first < agents; first += batch) {
        const part = { ...network, hosts: network.hosts.slice(first, first + batch) };
        const bodies = await signedReports(part, senders.slice(first, first + batch), 1, Date.now(), INTERVAL_S, agoMs);
        const { cpuMs, wallMs } = await cost(manager.pid, manager.url, bodies);
        sum.cpuMs += cpuMs / agents;
        sum.wallMs += wallMs / agents;
      }
      return sum;
    };
    const joining = await round(DAY_MS);
    for (let i = 1; i < past; i++) await round(DAY_MS - i * INTERVAL_S * 1000);
    await round((counted + 0.5) * STEP_MS);
    const steady = { cpuMs: 0, wallMs: 0 };
    for (let i = 1; i <= counted; i++) {
      const { cpuMs, wallMs } = await round((counted - i) * STEP_MS);
      steady.cpuMs += cpuMs / counted;
      steady.wallMs += wallMs / counted;
    }
    const resident = residentMegabytes(manager.pid);
    const now = await get(`${manager.url}/status/topology`);
    // Between the rounds of a day ago and today's: nothing but the first is in it.
    const then = await get(`${manager.url}/status/topology?at=${Date.now() - DAY_MS + 3_600_000}`);
    const peak = peakMegabytes(manager.pid);
    const limit = await limitCpuMs(network, manager.psk, directory);
    const picture: unknown = JSON.parse(now.text);
    const beforeText = performance.now();
    JSON.stringify(picture);
    const textMs = performance.now() - beforeText;
    const ratio = (value: number, of: number) => `${(value / of).toFixed(1)} × the limit's ${of.toFixed(2)}`;
    console.log(`${name}: measured over ${counted} rounds of ${agents} reports`);
    console.log(
      `  a report   ${steady.cpuMs.toFixed(2)} ms of CPU, ${ratio(steady.cpuMs, limit)}; ${steady.wallMs.toFixed(2)} ms of the clock; the first of each agent ${joining.cpuMs.toFixed(1)} ms of CPU`,
    );
    console.log(`  topology   ${now.ms.toFixed(0)} ms, ${now.megabytes.toFixed(1)} MB, ${ratio(now.ms, textMs)}`);
    console.log(`  a day back ${then.ms.toFixed(0)} ms, ${then.megabytes.toFixed(1)} MB, ${ratio(then.ms, textMs)}`);
    console.log(`  memory     ${resident.toFixed(0)} MB after the reports, ${peak.toFixed(0)} MB at most`);
  } finally {
    await manager.kill("SIGTERM");
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Prints the figures of each fleet. The largest takes some minutes. */
export async function benchTopology(): Promise<void> {
  const [megabytes] = /[0-9]+/.exec(readFileSync("/proc/meminfo", "utf8")) ?? ["0"];
  console.log(
    `topology: the limit of a report is the same one parsed, verified and inserted alone; of a picture, its JSON.stringify. ${availableParallelism()} cores, ${(Number(megabytes) / 1e6).toFixed(0)} GB of memory`,
  );
  for (const fleet of FLEETS) await benchFleet(fleet);
}
