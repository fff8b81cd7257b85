// What `bun run soak` does for hours, shortened: a manager that is killed again and again, and one under a steady fleet.
import { expect, test } from "bun:test";
import { killManager } from "./kills.ts";
import { describeSample, steady } from "./steady.ts";

const KILLS = 12;
const STEADY_S = 40;
/** Twice what the log grows to before it is written back (4,096 pages of 4 kB). */
const WAL_LIMIT_MB = 34;

test(`a manager killed ${KILLS} times under load: what was acknowledged is stored exactly once`, async () => {
  const figures = await killManager(KILLS);
  console.log(
    `${figures.kills} kills: ${figures.acknowledged} acknowledged, ${figures.cut} cut off, of which ${figures.answersLost} had been stored`,
  );
  expect(figures.acknowledged).toBeGreaterThan(KILLS);
  expect(figures.cut).toBeGreaterThan(0);
}, 120_000);

test("under a steady fleet descriptors and the write-ahead log stay as they are, and nothing is refused", async () => {
  const { samples, accepted, refused, exitCode } = await steady(STEADY_S, 5);
  for (const sample of samples) console.log(describeSample(sample));
  expect(accepted).toBeGreaterThan(STEADY_S);
  expect(refused).toBe(0);
  const [first, last] = [samples[0]!, samples.at(-1)!];
  expect(last.descriptors - first.descriptors).toBeLessThan(20);
  expect(Math.max(...samples.map((sample) => sample.walMegabytes))).toBeLessThan(WAL_LIMIT_MB);
  expect(exitCode).toBe(0);
}, 120_000);
