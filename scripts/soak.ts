// Owns `bun run soak [--kills N] [--minutes M] [--healthy-minutes H]`: the long runs that CI has no time for. 200 kills of a
// manager under load, a steady fleet with a look at memory, descriptors and log, and silence in a healthy lab (as root).
import { join } from "node:path";
import { parseArgs } from "node:util";
import { killManager } from "../test/soak/kills.ts";
import { describeSample, steady } from "../test/soak/steady.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "200" },
    minutes: { type: "string", default: "60" },
    "healthy-minutes": { type: "string", default: "60" },
  },
});
const [kills, minutes, healthyMinutes] = [values.kills, values.minutes, values["healthy-minutes"]].map(Number) as [
  number,
  number,
  number,
];
for (const [name, value] of Object.entries({ kills, minutes, "healthy-minutes": healthyMinutes })) {
  if (Number.isFinite(value) && value >= 0) continue;
  console.error(`soak: --${name}: a number, 0 leaves that part out`);
  process.exit(2);
}

let failed = false;
if (kills > 0) {
  const figures = await killManager(kills);
  console.log(
    `${kills} kills: ${figures.acknowledged} reports acknowledged, each stored once; ${figures.cut} cut off, of which ${figures.answersLost} had been stored`,
  );
}
if (minutes > 0) {
  const { samples, accepted, refused, exitCode } = await steady(minutes * 60, Math.max(5, minutes * 3));
  for (const sample of samples) console.log(describeSample(sample));
  console.log(`${minutes} minutes: ${accepted} reports accepted, ${refused} refused, exit ${exitCode}`);
  failed ||= refused > 0 || exitCode !== 0;
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
