// Owns the small rounds between reports: packing what is no longer hot, deleting what is past its retention, making room
// on a disk that runs low, giving free pages back. Each round is short, so that ingest does not notice.
import type { Database } from "bun:sqlite";
import type { Log } from "../../shared/log.ts";
import type { StoredReport } from "../model.ts";
import type { Commits } from "./commits.ts";
import type { Disk } from "./disk.ts";
import { type HotReports, PACK_REPORTS } from "./hot.ts";
import { HOT_COLUMNS, hotReport } from "./log.ts";
import { decodePack, encodePack } from "./pack.ts";
import { limitWal } from "./open.ts";

/** A round begins no further step after this; the longest step, a pack, takes about as long again. */
const ROUND_MS = 8;
/** A pack ends here even with fewer reports: unpacking must stay cheap where reports are large. */
const PACK_RAW_BYTES = 2 * 1024 * 1024;
/** Events, versions and alarms deleted per statement. */
const DELETE_ROWS = 200;
/** Free pages go back to the disk when they are over 512 KiB and a 20th of the file: fewer are soon used again. */
const KEEP_FREE_PAGES = 128;
const KEEP_FREE_SHARE = 20;
const VACUUM_PAGES = 256;

export type Retention = { reportsMs: number; eventsMs: number };
type PackRow = {
  id: number;
  agent_id: string;
  id_to: number;
  reports: number;
};

export class Housekeeping {
  readonly #pageBytes: number;
  readonly #statements: ReturnType<typeof prepareStatements>;
  /** Agents whose reports did not come back unchanged from a trial pack: they stay hot. */
  readonly #unpackable = new Set<string>();
  #low = false;
  /** Rows up to this id may go. */
  #rowsTo: number;

  constructor(
    private readonly database: Database,
    private readonly commits: Commits,
    private readonly hot: HotReports,
    private readonly disk: Disk,
    private readonly log: Log,
  ) {
    this.#pageBytes = (database.query("PRAGMA page_size").get() as { page_size: number }).page_size;
    this.#statements = prepareStatements(database);
    this.#rowsTo = prunedTo(database);
    limitWal(database, disk.walBytes(false));
  }

  /** One round. Whether there is more to do at once. @throws StoreError */
  round(now: number, retention: Retention): boolean {
    this.#followDisk();
    const steps = [
      // On a low disk, the oldest reports make room inside the file, so that new ones need none outside.
      () => this.#low && this.#freeBytesInside() < this.disk.ballastBytes && this.#pruneOldest(now),
      () => this.#prunePack(now - retention.reportsMs),
      () => this.#pruneRows(),
      () => this.#pack(now),
      () => this.#pruneHistory(now - retention.eventsMs),
      () => this.#shrink(),
    ];
    const started = performance.now();
    for (const step of steps) {
      while (step()) {
        if (performance.now() - started >= ROUND_MS) return true;
      }
    }
    return false;
  }

  /** The disk is full: gives the ballast up, and goes on as on a low disk. */
  makeWay(): void {
    this.disk.dropBallast();
    this.#setLow(true);
  }

  #followDisk(): void {
    this.#setLow(this.disk.isLow(this.#low));
    this.disk.layBallast();
  }

  #setLow(low: boolean): void {
    if (low === this.#low) return;
    this.#low = low;
    limitWal(this.database, this.disk.walBytes(low));
    const free_bytes = this.disk.freeBytes();
    if (low) this.log.warning("disk_low", { free_bytes, now: "the oldest reports make room for new ones" });
    else this.log.info("disk_has_room", { free_bytes });
  }

  #pragma(name: "page_count" | "freelist_count"): number {
    return (this.database.query(`PRAGMA ${name}`).get() as Record<string, number>)[name]!;
  }

  #freeBytesInside(): number {
    return this.#pragma("freelist_count") * this.#pageBytes;
  }

  /** Packs the oldest hot reports of one agent. */
  #pack(now: number): boolean {
    const agentId = this.hot.due(now);
    if (agentId === null) return false;
    if (this.#unpackable.has(agentId)) {
      this.hot.postpone(agentId);
      return true;
    }
    const { hotById, addPack, deleteHotRow } = this.#statements;
    const reports: StoredReport[] = [];
    let rawBytes = 0;
    for (const id of this.hot.idsOf(agentId).slice(0, PACK_REPORTS)) {
      const report = hotReport(hotById.get(id));
      const bytes = Buffer.byteLength(report.data);
      if (reports.length > 0 && rawBytes + bytes > PACK_RAW_BYTES) break;
      rawBytes += bytes;
      reports.push(report);
    }
    const body = encodePack(reports);
    if (!Bun.deepEquals(decodePack(body), reports, true)) {
      this.#unpackable.add(agentId);
      throw new Error(`reports of agent ${agentId} did not survive a trial packing: they stay unpacked`);
    }
    const ticks = reports.map(({ tick }) => tick);
    const observed = reports.map(({ observed_at }) => observed_at);
    const last = reports.at(-1)!;
    this.commits.transaction("cannot pack reports", () => {
      addPack.run(
        agentId,
        reports[0]!.id,
        last.id,
        Math.min(...ticks),
        Math.max(...ticks),
        Math.max(...reports.map(({ received_at }) => received_at)),
        Math.min(...observed),
        Math.max(...observed),
        reports.length,
        rawBytes,
        body,
      );
      for (const { id } of reports) deleteHotRow.run(id);
    });
    this.#removed(agentId, reports.length, now);
    return true;
  }

  /** Deletes one pack that was received before `before`; its rows go with all others of that time (#pruneRows). */
  #prunePack(before: number): boolean {
    const pack = this.#statements.oldestPack.get(before) as PackRow | null;
    if (pack === null) return false;
    this.commits.transaction("cannot delete old reports", () => {
      this.#statements.deletePack.run(pack.id);
      this.#prunedTo(pack.id_to);
    });
    this.hot.total -= pack.reports;
    return true;
  }

  /** Deletes the oldest reports whatever their age: the oldest pack, or without any the oldest hot reports. */
  #pruneOldest(now: number): boolean {
    if (this.#prunePack(Number.MAX_SAFE_INTEGER)) return true;
    const oldest = this.#statements.oldestHot.all() as { id: number; agent_id: string }[];
    if (oldest.length === 0) return false;
    this.commits.transaction("cannot delete old reports", () => {
      for (const { id } of oldest) this.#statements.deleteHotRow.run(id);
      this.#prunedTo(oldest.at(-1)!.id);
    });
    this.hot.total -= oldest.length;
    // What is oldest of all is oldest of its agent.
    for (const [agentId, own] of Map.groupBy(oldest, ({ agent_id }) => agent_id))
      this.#removed(agentId, own.length, now);
    return true;
  }

  /** Reports up to this id may be gone. By id, not by time: the clock may have stood ahead when some were received. */
  #prunedTo(id: number): void {
    this.#statements.prunedTo.run(String(id));
    this.#rowsTo = Math.max(this.#rowsTo, id);
  }

  /** Deletes some rows of those whose bytes are gone, in their order: side by side, whatever agents they are of. */
  #pruneRows(): boolean {
    const { oldestRow, deleteRows } = this.#statements;
    const { id } = oldestRow.get() as { id: number | null };
    if (id === null || id > this.#rowsTo) return false;
    this.commits.transaction("cannot delete old reports", () =>
      deleteRows.run(Math.min(this.#rowsTo, id + DELETE_ROWS)),
    );
    return true;
  }

  #removed(agentId: string, count: number, now: number): void {
    const { receivedAt } = this.#statements;
    this.hot.removed(agentId, count, (id) => (receivedAt.get(id) as { received_at: number }).received_at, now);
  }

  /** Deletes some events, ended versions, resolved alarms and lapsed silences from before `before`. */
  #pruneHistory(before: number): boolean {
    const { history, hasHistory } = this.#statements;
    if (!hasHistory.some((statement) => statement.get(before) !== null)) return false;
    this.commits.transaction("cannot delete old history", () => {
      for (const statement of history) statement.run(before);
    });
    return true;
  }

  #shrink(): boolean {
    if (this.#low) return false; // kept for what comes, see round()
    const free = this.#pragma("freelist_count");
    if (free <= KEEP_FREE_PAGES || free * KEEP_FREE_SHARE <= this.#pragma("page_count")) return false;
    this.commits.transaction("cannot shrink the database", () => this.#statements.vacuum.all());
    return true;
  }
}

/** Name in `meta`: the id up to which reports may be gone. */
const PRUNED_TO = "reports_pruned_to";

/** The id up to which retention may have taken reports; 0: it has taken none. */
export function prunedTo(database: Database): number {
  const row = database.query("SELECT value FROM meta WHERE name = ?1").get(PRUNED_TO) as { value: string } | null;
  return row === null ? 0 : Number(row.value);
}

function prepareStatements(database: Database) {
  const prepare = (sql: string) => database.prepare(sql);
  const old = {
    events: "SELECT id FROM events WHERE at < ?1",
    nodes: "SELECT version FROM topology_nodes WHERE valid_to < ?1",
    edges: "SELECT version FROM topology_edges WHERE valid_to < ?1",
    networks: "SELECT version FROM topology_networks WHERE valid_to < ?1",
    alarms: "SELECT id FROM alarms WHERE state = 'resolved' AND resolved_at < ?1",
    silences: "SELECT id FROM silences WHERE until_at < ?1",
  };
  const limited = (sql: string) => `${sql} LIMIT ${DELETE_ROWS}`;
  return {
    hotById: prepare(`SELECT ${HOT_COLUMNS} FROM reports_hot WHERE id = ?1`),
    receivedAt: prepare("SELECT received_at FROM reports_hot WHERE id = ?1"),
    addPack: prepare(`
      INSERT INTO packs (agent_id, id_from, id_to, tick_from, tick_to, received_to, observed_from, observed_to, reports,
        raw_bytes, body)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`),
    oldestPack: prepare(`
      SELECT id, id_to, reports FROM packs
      WHERE received_to < ?1 ORDER BY received_to LIMIT 1`),
    deletePack: prepare("DELETE FROM packs WHERE id = ?1"),
    oldestRow: prepare("SELECT min(id) AS id FROM reports"),
    deleteRows: prepare("DELETE FROM reports WHERE id <= ?1"),
    prunedTo: prepare(`
      INSERT INTO meta (name, value) VALUES ('${PRUNED_TO}', ?1)
      ON CONFLICT (name) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(?1 AS INTEGER))`),
    oldestHot: prepare("SELECT id, agent_id FROM reports_hot ORDER BY id LIMIT 20"),
    deleteHotRow: prepare("DELETE FROM reports_hot WHERE id = ?1"),
    hasHistory: Object.values(old).map((sql) => prepare(`${sql} LIMIT 1`)),
    history: [
      prepare(`DELETE FROM events WHERE id IN (${limited(old.events)})`),
      prepare(`DELETE FROM topology_nodes WHERE version IN (${limited(old.nodes)})`),
      prepare(`DELETE FROM topology_edges WHERE version IN (${limited(old.edges)})`),
      prepare(`DELETE FROM topology_networks WHERE version IN (${limited(old.networks)})`),
      prepare(`DELETE FROM alarm_transitions WHERE alarm_id IN (${limited(old.alarms)})`),
      prepare(`DELETE FROM alarms WHERE id IN (${limited(old.alarms)})`),
      prepare(`DELETE FROM silences WHERE id IN (${limited(old.silences)})`),
    ],
    vacuum: prepare(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`),
  };
}
