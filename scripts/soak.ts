// Owns `bun run soak [--kills N] [--flood-seconds S] [--minutes M] [--healthy-minutes H]`: the long runs that CI has no time
// for. 200 kills of a manager under load, a minute's flood of unsigned messages, a steady fleet with a look at memory,
// descriptors and log, and silence in a healthy lab (as root). Ends with 1 where a limit was passed, and says which.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { spawnManager } from "../test/manager/support.ts";
import { describeFlood, flood, floodFaults } from "../test/soak/flood.ts";
import { killManager } from "../test/soak/kills.ts";
import { describeSample, steady, steadyFaults } from "../test/soak/steady.ts";

/** Unsigned messages a second, where the machine can. */
const FLOOD_RATE = 10_000;

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "200" },
    "flood-seconds": { type: "string", default: "60" },
    minutes: { type: "string", default: "60" },
    "healthy-minutes": { type: "string", default: "60" },
  },
});
/** @throws nothing: a wrong value ends the program with one line. */
function amount(name: keyof typeof values): number {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value >= 0) return value;
  console.error(`soak: --${name}: a number, 0 leaves that part out`);
  process.exit(2);
}
const kills = amount("kills");
const floodSeconds = amount("flood-seconds");
const minutes = amount("minutes");
const healthyMinutes = amount("healthy-minutes");

let failed = false;
function judge(faults: readonly string[]): void {
  for (const fault of faults) console.log(`FAILED: ${fault}`);
  failed ||= faults.length > 0;
}
if (kills > 0) {
  const figures = await killManager(kills);
  console.log(
    `${kills} kills: ${figures.acknowledged} reports acknowledged, each stored once; ${figures.cut} cut off, of which ${figures.answersLost} had been stored`,
  );
}
if (floodSeconds > 0) {
  const directory = mkdtempSync(join(tmpdir(), "kattila-flood-"));
  const manager = await spawnManager(directory);
  try {
    const figures = await flood(manager, join(directory, "kattila_manager.db"), floodSeconds, FLOOD_RATE);
    console.log(describeFlood(figures));
    judge(floodFaults(figures));
  } finally {
    await manager.kill("SIGTERM");
    rmSync(directory, { recursive: true, force: true });
  }
}
if (minutes > 0) {
  const figures = await steady(minutes * 60, Math.max(5, minutes * 3));
  for (const sample of figures.samples) console.log(describeSample(sample));
  console.log(`${minutes} minutes: ${figures.accepted} reports accepted, ${figures.refused} refused`);
  judge(steadyFaults(figures));
}
if (healthyMinutes > 0) {
  const child = Bun.spawn([process.execPath, "test", join(import.meta.dir, "../test/diagnosis/healthy.test.ts")], {
    env: { ...process.env, DIAGNOSIS_HEALTHY_S: String(healthyMinutes * 60) },
    stdout: "inherit",
    stderr: "inherit",
  });
  failed ||= (await child.exited) !== 0;
}
process.exit(failed ? 1 : 0);
