// Owns the translation of what SQLite and the file system throw into the store's own faults, with a line for the
// operator. Pure.
import { StoreError, type StoreFault } from "./store.ts";

const REMEDY: Record<StoreFault, string> = {
  full: "the disk is full: free some space, writing resumes by itself",
  locked: "another program holds the database's write lock: end it",
  read_only:
    "the database cannot be written: check its owner, its mode and whether its file system is mounted read-only",
  failing: "the database does not answer as it should: check the disk and the kernel's log",
};
/** The same fault, but what is on the disk is known to be no good. */
const DAMAGED = "the database is damaged: move it away, or put a backup in its place";

// By prefix: SQLite's extended codes (SQLITE_BUSY_SNAPSHOT, SQLITE_READONLY_DBMOVED, …) begin with the plain one.
const FAULTS: readonly [prefix: string, fault: StoreFault][] = [
  ["SQLITE_FULL", "full"],
  ["ENOSPC", "full"],
  ["EDQUOT", "full"],
  ["SQLITE_BUSY", "locked"],
  ["SQLITE_LOCKED", "locked"],
  ["SQLITE_READONLY", "read_only"],
  ["SQLITE_PERM", "read_only"],
  ["EROFS", "read_only"],
  ["EACCES", "read_only"],
  ["SQLITE_IOERR", "failing"],
  ["SQLITE_CORRUPT", "failing"],
  ["SQLITE_NOTADB", "failing"],
  ["SQLITE_CANTOPEN", "failing"],
  ["SQLITE_NOMEM", "failing"],
];

/** What is wrong with the database or its disk; null: nothing, the statement or its values are at fault. */
export function faultOf(error: unknown): StoreFault | null {
  if (error instanceof StoreError) return error.fault;
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== "string") return null;
  return FAULTS.find(([prefix]) => code.startsWith(prefix))?.[1] ?? null;
}

/** The error to hand to callers: what was tried, and what the operator can do. */
export function toStoreError(operation: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const fault = faultOf(error);
  if (fault !== null) {
    const { code } = error as { code: string };
    const remedy = /^SQLITE_(CORRUPT|NOTADB)/.test(code) ? DAMAGED : REMEDY[fault];
    return new StoreError(fault, `${operation}: ${remedy}`, { cause: error });
  }
  return new StoreError("failing", `${operation}: the database refused what it was given`, { cause: error });
}
