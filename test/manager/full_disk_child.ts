// Plays the full disk under a listening manager, in a process whose TMPDIR is a small file system; prints one JSON of facts.
import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Envelope } from "../../shared/report.ts";
import { ground, registered } from "./support.ts";

const filler = join(tmpdir(), "filler");
/** Writes until nothing more goes in. */
function fill(): void {
  const descriptor = fs.openSync(filler, "a");
  const block = new Uint8Array(64 * 1024).fill(1);
  for (let size = block.length; size > 0;) {
    try {
      if (fs.writeSync(descriptor, block, 0, size) < size) size = Math.floor(size / 2);
    } catch {
      size = Math.floor(size / 2);
    }
  }
  fs.closeSync(descriptor);
}

const place = await ground();
const post = (path: string, envelope: Envelope) =>
  fetch(`${place.url}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(envelope),
    signal: AbortSignal.timeout(10_000),
  });
const status = async (path: string) =>
  (await fetch(`${place.url}${path}`, { signal: AbortSignal.timeout(5000) })).status;
const [agent, other] = [await registered(place), await registered(place)];
const acknowledged: string[] = [];
const send = async (sender: typeof agent, envelope?: Envelope) => {
  const body = envelope ?? (await sender.report());
  const answer = await post("/status/updates", body);
  if (answer.status === 200) acknowledged.push(`${sender.id} ${(JSON.parse(body.data) as { tick: number }).tick}`);
  return { answer, body };
};

for (let i = 0; i < 5; i++) await send(agent);
// The ballast is given up first: filled again until nothing is left.
let refused: { answer: Response; body: Envelope } | null = null;
for (let i = 0; i < 500 && refused === null; i++) {
  fill();
  const sent = await send(agent);
  if (sent.answer.status !== 200) refused = sent;
}
const facts: Record<string, unknown> = {
  refused: refused?.answer.status,
  retry_after: Number(refused?.answer.headers.get("retry-after")) > 0,
  other_agent: (await send(other)).answer.status,
  agents: await status("/status/agents"),
  topology: await status("/status/topology"),
  alarms: await status("/status/alarms"),
  metrics: await status("/metrics"),
  healthcheck: await status("/status/healthcheck"),
  health: ((await (await fetch(`${place.url}/status/healthcheck`)).json()) as { database: string }).database,
};

fs.rmSync(filler);
const freedAt = performance.now();
let taken = 0;
while (taken !== 200 && performance.now() - freedAt < 15_000) {
  taken = (await send(agent, refused!.body)).answer.status;
  if (taken !== 200) await Bun.sleep(200);
}
facts["taken_after"] = taken;
facts["healthcheck_after"] = await status("/status/healthcheck");
// Once more: it is told that it was delivered.
const again = await send(agent, refused!.body);
facts["again"] = again.answer.status;
facts["other_after"] = (await send(other)).answer.status;
await place.stop();
await place.start();
facts["after_restart"] = (await send(agent)).answer.status;

using database = new Database(place.databasePath, { readonly: true });
const stored = database.query("SELECT agent_id, tick FROM reports").all() as { agent_id: string; tick: number }[];
const rows = stored.map(({ agent_id, tick }) => `${agent_id} ${tick}`);
facts["every_acknowledged_one_once"] =
  JSON.stringify(rows.toSorted()) === JSON.stringify([...new Set(acknowledged)].toSorted()) &&
  new Set(acknowledged).size === acknowledged.length;
facts["integrity"] = (database.query("PRAGMA integrity_check").get() as { integrity_check: string }).integrity_check;
await place.remove();
process.stdout.write(JSON.stringify(facts));
