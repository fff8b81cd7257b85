// Owns a manager under a steady fleet for a long time: its memory, descriptors and write-ahead log are looked at all along.
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { residentMegabytes } from "../bench/measure.ts";
import { demoNetwork } from "../fleet/demo_network.ts";
import { createDriver } from "../fleet/drive.ts";
import { spawnManager } from "../manager/support.ts";

const INTERVAL_S = 1;
/** Twice what the log grows to before it is written back (4,096 pages of 4 kB). */
const WAL_LIMIT_MB = 34;
/** Besides one an agent: after a pause all report at once, each on a connection that stays open for the next. */
const DESCRIPTOR_LIMIT = 20;
/** A third into the run caches are warm; from there on memory may swing by this, and not climb. */
const MEMORY_LIMIT_MB = 64;

export type Sample = { atSeconds: number; residentMegabytes: number; descriptors: number; walMegabytes: number };
export type SteadyFigures = {
  agents: number;
  samples: Sample[];
  accepted: number;
  refused: number;
  exitCode: number | null;
};

/** Runs the demo's fleet, a report a second each, against a manager of its own; a sample every `everySeconds`. */
export async function steady(seconds: number, everySeconds: number): Promise<SteadyFigures> {
  const directory = mkdtempSync(join(tmpdir(), "kattila-steady-"));
  try {
    const manager = await spawnManager(directory);
    const { network, faults } = demoNetwork(1, Date.now());
    const driver = await createDriver(network, manager.url, manager.psk, Date.now(), INTERVAL_S);
    const agents = network.hosts.filter(({ hasAgent }) => hasAgent).length;
    const figures: SteadyFigures = { agents, samples: [], accepted: 0, refused: 0, exitCode: null };
    const began = performance.now();
    const elapsed = () => (performance.now() - began) / 1000;
    const wal = join(directory, "kattila_manager.db-wal");
    const sample = () =>
      figures.samples.push({
        atSeconds: elapsed(),
        residentMegabytes: residentMegabytes(manager.pid),
        descriptors: readdirSync(`/proc/${manager.pid}/fd`).length,
        walMegabytes: existsSync(wal) ? statSync(wal).size / 1e6 : 0,
      });
    for (let sampleAt = everySeconds; elapsed() < seconds;) {
      faults(Date.now());
      const { accepted, refused } = await driver.step(Date.now());
      figures.accepted += accepted;
      figures.refused += refused;
      if (elapsed() >= sampleAt) {
        sampleAt += everySeconds;
        sample();
      }
      await Bun.sleep(100);
    }
    sample();
    figures.exitCode = await manager.kill("SIGTERM");
    return figures;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function describeSample({ atSeconds, residentMegabytes, descriptors, walMegabytes }: Sample): string {
  return `${atSeconds.toFixed(0).padStart(6)} s  ${residentMegabytes.toFixed(0).padStart(5)} MB  ${String(descriptors).padStart(4)} descriptors  ${walMegabytes.toFixed(1).padStart(6)} MB of WAL`;
}

/** What must not be, in words; empty when all is well. */
export function steadyFaults({ agents, samples, accepted, refused, exitCode }: SteadyFigures): string[] {
  const [first, warm, last] = [samples[0]!, samples[Math.floor(samples.length / 3)]!, samples.at(-1)!];
  const descriptors = last.descriptors - first.descriptors;
  const memory = last.residentMegabytes - warm.residentMegabytes;
  const wal = Math.max(...samples.map((sample) => sample.walMegabytes));
  return [
    ...(accepted > last.atSeconds ? [] : [`only ${accepted} reports accepted`]),
    ...(refused === 0 ? [] : [`${refused} reports refused`]),
    ...(descriptors < agents + DESCRIPTOR_LIMIT ? [] : [`${descriptors} descriptors more than in the beginning`]),
    ...(memory < MEMORY_LIMIT_MB ? [] : [`${memory.toFixed(0)} MB more than after a third of the time`]),
    ...(wal < WAL_LIMIT_MB ? [] : [`${wal.toFixed(0)} MB of WAL, the limit is ${WAL_LIMIT_MB}`]),
    ...(exitCode === 0 ? [] : [`exit ${exitCode} on SIGTERM`]),
  ];
}
