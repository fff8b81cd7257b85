// The manager under attack, in short (`bun run soak` floods it for longer): slow clients hold connections open,
// strangers flood it with unsigned messages, and whoever belongs to the fleet does not notice.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AlarmsResponse } from "../../shared/api.ts";
import { residentMegabytes } from "../bench/measure.ts";
import { describeFlood, flood, floodFaults } from "../soak/flood.ts";
import { registered, spawnManager, type Spawned } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const SLOW_CLIENTS = 500;
const FLOOD_SECONDS = 4;
const FLOOD_RATE = 10_000;

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

async function healthcheckMs(): Promise<number> {
  const watch = stopwatch();
  // A connection of its own each time, as a new client has.
  const answer = await fetch(`${manager.url}/status/healthcheck`, {
    headers: { Connection: "close" },
    signal: AbortSignal.timeout(10_000),
  });
  expect(answer.status).toBe(200);
  await answer.text();
  return watch.ms();
}

test("500 slow clients: the healthcheck answers within a second, a report is taken", async () => {
  const openings = [
    "POST /status/upd",
    "GET /status/agents HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
    "POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
  ];
  const agent = await registered(manager);
  const before = residentMegabytes(manager.pid);
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
    expect(residentMegabytes(manager.pid) - before).toBeLessThan(64);
  } finally {
    clearInterval(dripping);
    for (const socket of sockets) socket.destroy();
  }
});

test("a flood of unsigned messages: 99 % of the fleet's reports are taken, memory stays bounded, one alarm", async () => {
  const figures = await flood(manager, join(directory, "kattila_manager.db"), FLOOD_SECONDS, FLOOD_RATE);
  console.log(describeFlood(figures));
  expect(floodFaults(figures)).toEqual([]);
  const until = Date.now() + 5000;
  let alarms: AlarmsResponse["alarms"] = [];
  while (alarms.length === 0 && Date.now() < until) {
    const answer = await fetch(`${manager.url}/status/alarms`);
    alarms = ((await answer.json()) as AlarmsResponse).alarms.filter(({ code }) => code === "auth_failure");
    await Bun.sleep(100);
  }
  expect(alarms.map(({ state }) => state)).toEqual(["open"]);
}, 60_000);

test("100 strangers with a body of 4 MiB that never ends: memory stays bounded, reports are taken; afterwards large ones too", async () => {
  const head = (length: number) =>
    `POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;
  const agent = await registered(manager);
  const before = residentMegabytes(manager.pid);
  const body = Buffer.alloc(4 * 1024 * 1024 - 1, " ");
  const answers: string[] = [];
  const sockets: Socket[] = [];
  // One after the other: each has sent all that it will, or was refused, before the next begins.
  for (let i = 0; i < 100; i++) {
    const socket = connect(manager.port, "127.0.0.1");
    sockets.push(socket);
    await new Promise<void>((resolve) => {
      socket.on("error", () => {}); // "close" follows
      socket.on("close", () => resolve());
      socket.on("data", (data) => void answers.push(data.toString("latin1")));
      socket.write(head(body.length + 1));
      socket.write(body, () => resolve());
    });
  }
  try {
    for (let i = 0; i < 5; i++) expect((await agent.send()).status).toBe(200);
    expect(await healthcheckMs()).toBeLessThan(1000);
    // 32 MiB, and what the runtime has not given back yet.
    expect(residentMegabytes(manager.pid) - before).toBeLessThan(128);
    expect(answers.length).toBeGreaterThan(0);
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 503 [^]*\r\nRetry-After: [0-9]+\r\n/);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  const large = JSON.stringify(await agent.report({ unknown: "x".repeat(200_000) }));
  const send = () =>
    fetch(`${manager.url}/status/updates`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: large,
    });
  let status = 503;
  for (const until = Date.now() + 10_000; status === 503 && Date.now() < until; await Bun.sleep(50))
    ({ status } = await send());
  expect(status).toBe(200);
}, 60_000);
