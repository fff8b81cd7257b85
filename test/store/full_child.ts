// Plays the full disk, in a process whose mount namespace has a small file system at argv[2]; prints one JSON of facts.
import * as fs from "node:fs";
import { join } from "node:path";
import { openStore } from "../../manager/store/sqlite.ts";
import { StoreError } from "../../manager/store/store.ts";
import { createLog } from "../../shared/log.ts";
import { collect, KEEP, report, T0 } from "./support.ts";

const directory = process.argv[2]!;
const path = join(directory, "kattila.db");
const filler = join(directory, "filler");
const facts: Record<string, unknown> = {};
const acknowledged: number[] = [];
let tick = 0;

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

const filling = () => crypto.getRandomValues(new Uint8Array(3000)).toHex();
async function feed(reports: number, housekeeping = true): Promise<string> {
  for (let i = 0; i < reports; i++) {
    tick++;
    try {
      await store.commit({ reports: [report(tick, { data: JSON.stringify({ tick, filling: filling() }) })] });
      acknowledged.push(tick);
    } catch (error) {
      return error instanceof StoreError ? error.fault : String(error);
    }
    if (housekeeping && i % 10 === 0) await maintain();
  }
  return "ok";
}
async function maintain(): Promise<string> {
  try {
    while (await store.maintain(T0 + tick * 30_000, KEEP)) {}
    return "ok";
  } catch (error) {
    return error instanceof StoreError ? error.fault : String(error);
  }
}

const lines: string[] = [];
let store = await openStore(path, { log: createLog("info", (line) => lines.push(line)) });

// More reports than the disk holds: the oldest make room, ingest never fails.
await maintain();
facts["ballast"] = fs.existsSync(`${path}-ballast`);
facts["more_than_fits"] = await feed(8000);
facts["pruned"] = (await store.figures()).reports < 8000;

// The disk is filled by somebody else: what pruning keeps free inside the file carries the reports on.
fill();
facts["filled_then"] = await feed(400);

// One report larger than all that room is refused; giving up the ballast puts the database right again.
const large = JSON.stringify({ tick: ++tick, filling: "x".repeat(24 * 1024 * 1024) });
facts["too_large"] = await store.commit({ reports: [report(tick, { data: large })] }).catch(({ fault }) => fault);
facts["health_with_ballast"] = await store.health();
facts["ballast_given_up"] = !fs.existsSync(`${path}-ballast`);
facts["feed_on_ballast"] = await feed(20);

// Somebody takes the room of the ballast too, and more arrives than there is room inside: refused as full, reads work.
fill();
facts["fault"] = await feed(4000, false);
fill();
facts["health_when_full"] = await store.health();
facts["still"] = await feed(1);
facts["reads"] = (await store.latestReport(report(1).agent_id))?.tick === acknowledged.at(-1);

// Freed: recovers by itself, also without a call to health.
fs.rmSync(filler);
facts["maintain_after"] = await maintain();
facts["health_after"] = await store.health();
facts["feed_after"] = await feed(50);
await maintain();
facts["ballast_back"] = fs.existsSync(`${path}-ballast`);
await store.close();

store = await openStore(path, { log: createLog("error") });
const found = (await collect(store.allReports())).map((row) => row.tick);
const oldest = found[0]!;
const kept = acknowledged.filter((acknowledgedTick) => acknowledgedTick >= oldest);
facts["every_acknowledged_one_once"] = JSON.stringify(found) === JSON.stringify(kept);
facts["kept"] = found.length;
await store.close();
facts["said_low"] = lines.filter((line) => line.includes("disk_low")).length > 0;
facts["said_recovered"] = lines.some((line) => line.includes("database_recovered"));
const { Database } = await import("bun:sqlite");
const database = new Database(path, { readonly: true });
facts["integrity"] = (database.query("PRAGMA integrity_check").get() as { integrity_check: string }).integrity_check;
database.close();
console.log(JSON.stringify(facts));
