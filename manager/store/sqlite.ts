// Owns the SQLite store: opens the database and joins the parts of this folder into the Store interface.
import type { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { resolve } from "node:path";
import type { Lock } from "../../shared/files.ts";
import { type Log, reason } from "../../shared/log.ts";
import { backupDatabase } from "./backup.ts";
import { Commits } from "./commits.ts";
import { Disk } from "./disk.ts";
import { toStoreError } from "./faults.ts";
import { HotReports } from "./hot.ts";
import { Housekeeping, prunedTo } from "./housekeeping.ts";
import { prepareLogReader } from "./log.ts";
import { openDatabase, openReadOnly } from "./open.ts";
import { prepareReader } from "./reads.ts";
import { recover } from "./recovery.ts";
import { StoreError, type Store } from "./store.ts";
import { prepareWriter } from "./writes.ts";

/**
 * Opens the manager's database, makes and migrates it where needed, and takes its lock.
 * @throws StoreError with one line for the operator: no database, another program's, a newer one, read-only, in use.
 */
export async function openStore(path: string, options: { log: Log }): Promise<Store> {
  const { log } = options;
  const file = resolve(path);
  const { database, lock, mended } = openDatabase(file);
  if (mended) log.warning("database_mode_mended", { path: file, mode: "0600" });
  try {
    return joined(file, database, lock, log);
  } catch (error) {
    database.close();
    lock.release();
    throw toStoreError(`cannot read the database ${path}`, error);
  }
}

function joined(file: string, database: Database, lock: Lock, log: Log): Store {
  const disk = new Disk(file);
  const hot = new HotReports(database);
  let lastReportId = newestReportId(database);
  const commits = new Commits(
    database,
    prepareWriter(database),
    () => ++lastReportId,
    (applied) => {
      if (applied.some(({ wiped }) => wiped)) return hot.reload();
      for (const { reports } of applied)
        for (const report of reports) hot.added(report.agent_id, report.id, report.received_at);
    },
  );
  const housekeeping = new Housekeeping(database, commits, hot, disk, log);
  let closed: Promise<void> | null = null;

  const health: Store["health"] = async () => {
    if (commits.fault === null) return "ok";
    if (!recover(database, commits, housekeeping)) return commits.fault;
    log.info("database_recovered", { path: file });
    return "ok";
  };

  return {
    ...prepareReader(database),
    ...prepareLogReader(database, hot),
    commit: (batch) =>
      closed === null ? commits.commit(batch) : Promise.reject(new StoreError("failing", "the manager is stopping")),
    maintain: async (now, retention) => (await health()) === "ok" && housekeeping.round(now, retention),
    backup: (target) => backupDatabase(file, resolve(target)),
    figures: async () => ({
      reports: hot.total,
      bytes: size(file),
      wal_bytes: size(`${file}-wal`),
      free_bytes: disk.freeBytes(),
      commits: commits.figures.commits,
      commit_seconds: commits.figures.seconds,
    }),
    health,
    close: () =>
      (closed ??= (async () => {
        await commits.idle();
        try {
          database.run("PRAGMA wal_checkpoint(TRUNCATE)");
        } catch (error) {
          // What was committed is safe in the WAL; the next start copies it home.
          log.warning("wal_left", { reason: reason(error) });
        }
        database.close();
        lock.release();
      })()),
  };
}

/** What -verify-log reads, beside a manager that may be running: one moment of the database. */
export type LogSnapshot = Pick<Store, "loadAgents" | "allReports"> & {
  /** Retention may have taken reports up to this id. */
  prunedTo: number;
  /** Rows of the audit log beyond it: as many reports must come out of `allReports`. */
  rows: number;
  close(): void;
};

/** @throws StoreError with one line for the operator. */
export function openLogSnapshot(path: string): LogSnapshot {
  const database = openReadOnly(resolve(path));
  try {
    database.run("BEGIN"); // every read sees the same moment
    const since = prunedTo(database);
    const { rows } = database.query("SELECT count(*) AS rows FROM reports WHERE id > ?1").get(since) as {
      rows: number;
    };
    const { loadAgents } = prepareReader(database);
    const { allReports } = prepareLogReader(database, new HotReports(database));
    return { prunedTo: since, rows, loadAgents, allReports, close: () => database.close() };
  } catch (error) {
    database.close();
    throw toStoreError(`cannot read the database ${path}`, error);
  }
}

/** A row may outlive its bytes for a moment (housekeeping.ts), and the bytes their row. */
function newestReportId(database: Database): number {
  const newest = ["max(id) AS id FROM reports", "max(id) AS id FROM reports_hot", "max(id_to) AS id FROM packs"].map(
    (what) => (database.query(`SELECT ${what}`).get() as { id: number | null }).id ?? 0,
  );
  return Math.max(...newest);
}

function size(path: string): number {
  return fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
