// Owns the way back after a failed write: what makes room on a full disk, and the trial that proves that reports can be
// stored again.
import type { Database } from "bun:sqlite";
import type { Commits } from "./commits.ts";
import type { Housekeeping } from "./housekeeping.ts";

/**
 * The trial is as large as the WAL of a low disk, which keeps the room that it took: once it worked, small reports need
 * no new space in the WAL.
 */
const TRIAL_BYTES = 1024 * 1024;

/** Whether the database can be written again. `commits.fault` says why not. */
export function recover(database: Database, commits: Commits, housekeeping: Housekeeping): boolean {
  if (commits.fault === "full") housekeeping.makeWay();
  const write = (value: string): void =>
    commits.transaction("the database cannot be written", () => {
      database.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('recovered', ?1)", [JSON.stringify(value)]);
    });
  // RESTART, not TRUNCATE: it copies the WAL home and begins it anew, but gives away no space that is had.
  const restart = () => database.run("PRAGMA wal_checkpoint(RESTART)");
  try {
    restart();
    write(" ".repeat(TRIAL_BYTES));
    write(new Date().toISOString());
    restart();
    return true;
  } catch {
    return false; // transaction() has noted why
  }
}
