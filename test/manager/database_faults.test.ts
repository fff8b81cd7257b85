// The database cannot take a report: the agent hears 503 and when to come again, reading goes on, and the same report is
// taken once the fault is over.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Ground, ground, registered } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

let place: Ground;
beforeAll(async () => {
  place = await ground();
});
afterAll(async () => {
  await place.remove();
});

test("locked by another writer: 503 with Retry-After in about a second, reads work, then it is taken", async () => {
  const agent = await registered(place);
  expect((await agent.send()).status).toBe(200);
  const body = JSON.stringify(await agent.report());
  const send = () =>
    fetch(`${place.url}/status/updates`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      signal: AbortSignal.timeout(10_000),
    });
  const writer = new Database(place.databasePath);
  writer.run("BEGIN IMMEDIATE");
  try {
    const watch = stopwatch();
    const refused = await send();
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(watch.ms()).toBeLessThan(3000);
    expect((await fetch(`${place.url}/status/agents`)).status).toBe(200);
  } finally {
    writer.run("ROLLBACK");
    writer.close();
  }
  expect((await send()).status).toBe(200);
  expect(place.stored()["reports"]).toBe(2);
});
