// What `bun run soak` does for hours, shortened: a manager that is killed again and again, and one under a steady fleet.
import { expect, setDefaultTimeout, test } from "bun:test";
import { killManager } from "./kills.ts";
import { describeSample, steady, steadyFaults } from "./steady.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const KILLS = 12;
const STEADY_S = 40;

test(`a manager killed ${KILLS} times under load: what was acknowledged is stored exactly once`, async () => {
  const figures = await killManager(KILLS);
  console.log(
    `${figures.kills} kills: ${figures.acknowledged} acknowledged, ${figures.cut} cut off, of which ${figures.answersLost} had been stored`,
  );
  expect(figures.acknowledged).toBeGreaterThan(KILLS);
  expect(figures.cut).toBeGreaterThan(0);
}, 120_000);

test("under a steady fleet memory, descriptors and the write-ahead log stay as they are, and nothing is refused", async () => {
  const figures = await steady(STEADY_S, 5);
  for (const sample of figures.samples) console.log(describeSample(sample));
  expect(steadyFaults(figures)).toEqual([]);
}, 120_000);
