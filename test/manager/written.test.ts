// What a report writes: its own two rows, and of everything else only what changed. Counted by triggers in the manager's
// own database.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Agent, type Ground, ground, registered } from "./support.ts";

let manager: Ground;
let agent: Agent;
beforeAll(async () => {
  manager = await ground();
  agent = await registered(manager);
  for (let i = 0; i < 3; i++) expect((await agent.send()).status).toBe(200);
  using database = new Database(manager.databasePath);
  const tables = database
    .query<{ name: string }, []>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all();
  database.run("CREATE TABLE written (what TEXT NOT NULL) STRICT");
  for (const { name } of tables) {
    for (const change of ["INSERT", "UPDATE", "DELETE"]) {
      database.run(
        `CREATE TRIGGER ${change}_${name} AFTER ${change} ON ${name} BEGIN INSERT INTO written VALUES ('${change} ${name}'); END`,
      );
    }
  }
});
afterAll(() => manager.remove());

/** What was written since the last call, each once. */
function written(): string[] {
  using database = new Database(manager.databasePath);
  const rows = database.query<{ what: string }, []>("SELECT DISTINCT what FROM written ORDER BY what").all();
  database.run("DELETE FROM written");
  return rows.map(({ what }) => what);
}
const REPORT = ["INSERT reports", "INSERT reports_hot"];

test("a report that says what the one before said writes itself alone", async () => {
  written();
  for (let i = 0; i < 3; i++) expect((await agent.send()).status).toBe(200);
  expect(written()).toEqual(REPORT);
});

test("one that is refused writes nothing", async () => {
  expect((await agent.send({ interfaces: 5 })).status).toBe(422);
  expect((await agent.send({ sent_at: Date.now() - 700_000 })).status).toBe(401);
  expect(written()).toEqual([]);
});

test("another MTU writes the agent's interfaces besides; another name the agent", async () => {
  const { interfaces } = JSON.parse((await agent.report()).data) as { interfaces: { mtu: number }[] };
  const changed = interfaces.map((item, i) => (i === 0 ? { ...item, mtu: 1400 } : item));
  expect((await agent.send({ interfaces: changed })).status).toBe(200);
  const first = written();
  expect(first).toContain("INSERT agent_interfaces");
  expect(first).not.toContain("INSERT agents");
  expect((await agent.send({ interfaces: changed })).status).toBe(200);
  expect(written()).toEqual(REPORT);
  const { system } = JSON.parse((await agent.report()).data) as { system: object };
  expect((await agent.send({ interfaces: changed, system: { ...system, hostname: "renamed" } })).status).toBe(200);
  const second = written();
  expect(second).toContain("UPDATE agents");
  expect(second).not.toContain("INSERT agent_interfaces");
});
