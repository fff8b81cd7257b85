// SIGTERM to a manager with half a report in flight, a stream open and a receiver of notifications that hangs: what was
// begun is answered, and it is gone within 10 s with exit code 0 and nothing left in the WAL. So is one whose DNS is silent;
// until then it serves by the keys that it has.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentResolvers } from "../support/silent_dns.ts";
import { registered, type Spawned, spawnManager } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

/** What 1-protocol.md allows. */
const DEADLINE_MS = 10_000;

/** A connection on which `text` was said; what comes back gathers in `heard`. */
function saying(port: number, text: string) {
  const socket = connect(port, "127.0.0.1");
  const said = { socket, heard: "" };
  socket.on("error", () => {});
  socket.on("data", (data) => (said.heard += data));
  socket.write(text);
  return said;
}

test("in-flight work ends, streams too, the WAL is copied home", async () => {
  const directory = mkdtempSync(join(tmpdir(), "kattila-sigterm-"));
  const receiver = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Promise<Response>(() => {}) });
  try {
    const manager = await spawnManager(directory, { NOTIFY_URL: `http://127.0.0.1:${receiver.port}/` });
    const agent = await registered(manager);
    const body = JSON.stringify(await agent.report());
    const head = `POST /status/updates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
    const half = saying(manager.port, head + body.slice(0, 10));
    const stream = saying(manager.port, "GET /status/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect((await agent.send()).status).toBe(200);
    while (!stream.heard.includes("event: hello")) await Bun.sleep(10);
    const watch = stopwatch();
    const exit = manager.kill("SIGTERM");
    await Bun.sleep(300);
    half.socket.write(body.slice(10));
    expect(await exit).toBe(0);
    expect(watch.ms()).toBeLessThan(DEADLINE_MS);
    expect(half.heard).toStartWith("HTTP/1.1 200");
    const wal = statSync(join(directory, "kattila_manager.db-wal"), { throwIfNoEntry: false });
    expect(wal?.size ?? 0).toBe(0);
    for (const { socket } of [half, stream]) socket.destroy();
  } finally {
    await receiver.stop(true);
    rmSync(directory, { recursive: true, force: true });
  }
});

test("resolvers that are silent from the start on: the ring serves at once, and SIGTERM is heard", async () => {
  const directory = mkdtempSync(join(tmpdir(), "kattila-sigterm-"));
  using silent = await silentResolvers();
  let running: Spawned | null = null;
  try {
    const first = (running = await spawnManager(directory, { PSK: "silent-dns-test-fleet-key-0123456789abcdef" }));
    const agent = await registered(first);
    expect((await agent.send()).status).toBe(200);
    expect(await first.kill("SIGTERM")).toBe(0);
    const watch = stopwatch();
    const manager = (running = await spawnManager(directory, { DNS: "kattila.test", DNS_SERVERS: silent.servers }));
    expect(watch.ms()).toBeLessThan(10_000);
    const answer = await fetch(`${manager.url}/status/updates`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(await agent.report()),
    });
    expect(answer.status).toBe(200);
    const ending = stopwatch();
    expect(await manager.kill("SIGTERM")).toBe(0);
    expect(ending.ms()).toBeLessThan(DEADLINE_MS);
  } finally {
    await running?.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
}, 40_000);
