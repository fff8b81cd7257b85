// The manager under attack, in short (the contract's figures are for ten times as long): slow clients hold connections open,
// strangers flood it with unsigned messages, and whoever belongs to the fleet does not notice.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AlarmsResponse } from "../../shared/api.ts";
import { registered, spawnManager, type Spawned } from "./support.ts";

const SLOW_CLIENTS = 500;
const FLOOD_SECONDS = 4;
const FLOOD_RATE = 10_000;
const AGENTS = 20;
/** As the agent's own deadline of a direct try (1-protocol.md, Relay). */
const AGENT_DEADLINE_MS = 5000;

let directory: string;
let manager: Spawned;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "kattila-flood-"));
  manager = await spawnManager(directory);
});
afterAll(async () => {
  await manager.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

const residentMegabytes = () =>
  Number(/^VmRSS:\s+([0-9]+) kB$/m.exec(readFileSync(`/proc/${manager.pid}/status`, "utf8"))![1]) / 1024;

async function healthcheckMs(): Promise<number> {
  const startedAt = performance.now();
  // A connection of its own each time, as a new client has.
  const answer = await fetch(`${manager.url}/status/healthcheck`, {
    headers: { Connection: "close" },
    signal: AbortSignal.timeout(10_000),
  });
  expect(answer.status).toBe(200);
  await answer.text();
  return performance.now() - startedAt;
}

test("500 slow clients: the healthcheck answers within a second, a report is taken", async () => {
  const openings = [
    "POST /status/upd",
    "GET /status/agents HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
    "POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
  ];
  const agent = await registered(manager);
  let open = 0;
  const sockets = await Promise.all(
    Array.from(
      { length: SLOW_CLIENTS },
      (_, i) =>
        new Promise<Socket>((resolve, reject) => {
          const socket = connect(manager.port, "127.0.0.1", () => {
            socket.write(openings[i % openings.length]!);
            open++;
            resolve(socket);
          });
          socket.on("error", reject);
          socket.on("close", () => open--);
        }),
    ),
  );
  // Two of the four kinds go on, a byte a time.
  const dripping = setInterval(() => {
    for (const [i, socket] of sockets.entries()) if (i % openings.length < 2 && socket.writable) socket.write("a");
  }, 1000);
  try {
    const took: number[] = [];
    for (let i = 0; i < 10; i++) {
      took.push(await healthcheckMs());
      expect((await agent.send()).status).toBe(200);
      await Bun.sleep(150);
    }
    expect(open).toBe(SLOW_CLIENTS); // they were there all the time
    const worst = Math.max(...took);
    console.log(`healthcheck beside ${SLOW_CLIENTS} slow clients: at most ${worst.toFixed(1)} ms`);
    expect(worst).toBeLessThan(1000);
  } finally {
    clearInterval(dripping);
    for (const socket of sockets) socket.destroy();
  }
}, 30_000);

test("a flood of unsigned messages: 99 % of the fleet's reports are taken, memory stays bounded, one alarm", async () => {
  const agents = await Promise.all(Array.from({ length: AGENTS }, (_, i) => registered(manager, `host-${i}`)));
  const rowsBefore = storedReports();
  const before = residentMegabytes();
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, residentMegabytes())), 100);
  const child = Bun.spawn(
    [
      process.execPath,
      join(import.meta.dir, "flood_child.ts"),
      String(manager.port),
      String(FLOOD_SECONDS),
      String(FLOOD_RATE),
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit", timeout: 30_000, killSignal: "SIGKILL" },
  );
  let flooding = true;
  const line = new Response(child.stdout).text().finally(() => (flooding = false));
  await Bun.sleep(300);
  let tried = 0;
  let accepted = 0;
  const took: number[] = [];
  await Promise.all(
    agents.map(async (agent) => {
      while (flooding) {
        tried++;
        const startedAt = performance.now();
        const answer = await agent.send().catch(() => null);
        const ms = performance.now() - startedAt;
        took.push(ms);
        if (answer?.status === 200 && ms < AGENT_DEADLINE_MS) accepted++;
        await Bun.sleep(250);
      }
    }),
  );
  clearInterval(watch);
  const flood = JSON.parse(await line) as {
    sent: number;
    seconds: number;
    answers: Record<string, number>;
    bytes: number;
  };
  const after = residentMegabytes();
  took.sort((a, b) => a - b);
  console.log(
    `flood of ${Math.round(flood.sent / flood.seconds)} unsigned messages a second, ${Math.round(flood.bytes / 1e6)} MB in all: ` +
      `${accepted} of ${tried} reports taken, p50 ${took[took.length >> 1]!.toFixed(0)} ms, worst ${took.at(-1)!.toFixed(0)} ms; ` +
      `RSS ${before.toFixed(0)} MB before, ${peak.toFixed(0)} MB at most, ${after.toFixed(0)} MB after`,
  );
  expect(flood.answers).toEqual({ "401": flood.sent });
  expect(flood.sent).toBeGreaterThan(1000);
  expect(tried).toBeGreaterThan(AGENTS);
  expect(accepted / tried).toBeGreaterThanOrEqual(0.99);
  expect(storedReports() - rowsBefore).toBe(accepted);
  // What strangers send is not kept, neither in memory, nor in the log, nor as a row.
  expect(peak - before).toBeLessThan(192);
  expect(manager.stderr().split("\n").length).toBeLessThan(100);
  const until = Date.now() + 5000;
  let alarms: AlarmsResponse["alarms"] = [];
  while (alarms.length === 0 && Date.now() < until) {
    const answer = await fetch(`${manager.url}/status/alarms`);
    alarms = ((await answer.json()) as AlarmsResponse).alarms.filter(({ code }) => code === "auth_failure");
    await Bun.sleep(100);
  }
  expect(alarms.map(({ state }) => state)).toEqual(["open"]);
}, 60_000);

function storedReports(): number {
  using database = new Database(join(directory, "kattila_manager.db"), { readonly: true });
  return (database.query("SELECT count(*) AS n FROM reports").get() as { n: number }).n;
}
