// Owns the two figures that an ingest rate is held against: a bare echo of the same bodies, and "the limit": the same
// bodies parsed, verified (MAC and signature) and inserted one row each, with commits grouped per event-loop turn.
// Run as a process of its own: `bun test/bench/limit_server.ts echo|limit DIRECTORY PSK`.
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { readEnvelope, verifyMac, verifySignature } from "../../shared/envelope.ts";

const [mode, directory, psk] = process.argv.slice(2);

function limit(): (request: Request) => Promise<Response> {
  const database = new Database(join(directory!, "limit.db"), { create: true, strict: true });
  database.run("PRAGMA journal_mode = WAL");
  database.run("PRAGMA synchronous = FULL");
  database.run("CREATE TABLE keys (agent_id TEXT PRIMARY KEY, public_key TEXT NOT NULL) STRICT");
  database.run(
    "CREATE TABLE reports (id INTEGER PRIMARY KEY, agent_id TEXT, tick INTEGER, data TEXT, hmac TEXT, sig TEXT) STRICT",
  );
  const insert = database.prepare("INSERT INTO reports (agent_id, tick, data, hmac, sig) VALUES (?1, ?2, ?3, ?4, ?5)");
  const keys = new Map<string, string>();
  let waiting: { row: [string, number, string, string, string]; resolve(): void }[] = [];
  const flush = () => {
    const group = waiting;
    waiting = [];
    database.transaction(() => {
      for (const { row } of group) insert.run(...row);
    })();
    for (const { resolve } of group) resolve();
  };
  return async (request) => {
    const read = readEnvelope(new Uint8Array(await request.arrayBuffer()));
    if (!read.ok || (await verifyMac(read.envelope, [psk!])) < 0) return new Response("no", { status: 401 });
    const { data, hmac, sig } = read.envelope;
    const message = JSON.parse(data) as { type: string; agent_id: string; tick: number; public_key?: string };
    if (message.type === "register") {
      keys.set(message.agent_id, message.public_key!);
      return new Response("{}");
    }
    if (!(await verifySignature(keys.get(message.agent_id) ?? "", data, sig)))
      return new Response("no", { status: 401 });
    await new Promise<void>((resolve) => {
      if (waiting.push({ row: [message.agent_id, message.tick, data, hmac, sig!], resolve }) === 1) setImmediate(flush);
    });
    return new Response("{}");
  };
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  fetch: mode === "limit" ? limit() : async (request) => new Response(await request.arrayBuffer()),
});
process.stdout.write(`${server.url.href}\n`);
