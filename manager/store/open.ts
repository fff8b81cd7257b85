// Owns the way to an open database file: what may be opened at all, the lock that keeps a second manager out, privacy,
// and the connection's settings. Whatever is refused here is left as it was found.
import { Database } from "bun:sqlite";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { type Lock, tryLock } from "../../shared/files.ts";
import { faultOf, toStoreError } from "./faults.ts";
import { APPLICATION_ID, migrate, SCHEMA_VERSION } from "./schema.ts";
import { StoreError } from "./store.ts";

/** SQLite sleeps in the event loop's thread while it waits for a lock, so it may only do so briefly; commits.ts waits on
 * with a timer. */
const BUSY_TIMEOUT_MS = 25;
/** What a WAL may exceed its usual size by (a large report, a long reader) before it is cut back. */
const WAL_MARGIN_BYTES = 1024 * 1024;
const PAGE_BYTES = 4096;
const CACHE_KIB = 16 * 1024;
/** Every SQLite file begins so (sqlite.org/fileformat2.html, 1.2). */
const MAGIC = "SQLite format 3\0";

/**
 * Opens the manager's database read-write, making it when it is not there.
 * `mended`: others could read the file, which was put right.
 * @throws StoreError with one line that names the file and the remedy; the file is untouched then.
 */
export function openDatabase(path: string): { database: Database; lock: Lock; mended: boolean } {
  const directory = dirname(path);
  const operation = `cannot open the database ${path}`;
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isSymbolicLink() === true) {
    throw new StoreError("failing", `${path} is a symbolic link: set DB_PATH to the file itself`);
  }
  if (stat !== undefined && !stat.isFile())
    throw new StoreError("failing", `${path} is not a file: set DB_PATH to one`);
  try {
    // SQLite makes its -wal and -shm beside the file.
    fs.accessSync(directory, fs.constants.W_OK);
    if (stat !== undefined) fs.accessSync(path, fs.constants.R_OK | fs.constants.W_OK);
  } catch (cause) {
    if ((cause as { code?: string }).code === "ENOENT") {
      throw new StoreError("failing", `${operation}: there is no directory ${directory}: make it, or set DB_PATH`, {
        cause,
      });
    }
    throw new StoreError(
      "read_only",
      `${operation}: ${directory} or the file cannot be written: check owner, mode and mount, or set DB_PATH`,
      { cause },
    );
  }
  // The lock is a file of its own: closing a descriptor of the database itself would drop SQLite's POSIX locks on it.
  let lock: Lock | null;
  try {
    lock = tryLock(`${path}-lock`);
  } catch (cause) {
    throw new StoreError("read_only", `${operation}: its lock file cannot be made`, { cause });
  }
  if (lock === null) {
    throw new StoreError(
      "locked",
      `${path} is in use by another manager: end that one, or set DB_PATH to another file`,
    );
  }
  let database: Database | null = null;
  try {
    if (stat !== undefined && stat.size > 0) inspect(path);
    else fs.closeSync(fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_NOFOLLOW, 0o600));
    const mended = stat !== undefined && (stat.mode & 0o077) !== 0;
    if (mended) fs.chmodSync(path, 0o600); // -wal and -shm take its mode
    database = new Database(path, { readwrite: true, create: false, strict: true });
    database.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    database.run("PRAGMA auto_vacuum = INCREMENTAL"); // takes hold in an empty file only
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = FULL");
    database.run("PRAGMA trusted_schema = OFF");
    database.run(`PRAGMA cache_size = -${CACHE_KIB}`);
    migrate(database);
    return { database, lock, mended };
  } catch (error) {
    database?.close();
    lock.release();
    throw toStoreError(operation, error);
  }
}

/** Sets how large the WAL grows before a commit copies it home and begins it anew. */
export function limitWal(database: Database, bytes: number): void {
  database.run(`PRAGMA wal_autocheckpoint = ${Math.max(1, Math.floor(bytes / PAGE_BYTES))}`);
  database.run(`PRAGMA journal_size_limit = ${bytes + WAL_MARGIN_BYTES}`);
}

/** Opens the database for reading alone, beside a manager that may be running (-verify-log, -backup). */
export function openReadOnly(path: string): Database {
  const stat = fs.statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new StoreError("failing", `there is no database ${path}: set DB_PATH`);
  inspect(path);
  try {
    const database = new Database(path, { readonly: true, strict: true });
    database.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return database;
  } catch (error) {
    throw toStoreError(`cannot read the database ${path}`, error);
  }
}

/** Refuses what is no database, another program's, or a newer manager's. Reads only. */
function inspect(path: string): void {
  const header = Buffer.alloc(100);
  const descriptor = fs.openSync(path, fs.constants.O_RDONLY);
  try {
    fs.readSync(descriptor, header, 0, header.length, 0);
  } finally {
    fs.closeSync(descriptor);
  }
  if (header.toString("latin1", 0, 16) !== MAGIC) {
    throw new StoreError("failing", `${path} is not a database: set DB_PATH to another file, or move this one away`);
  }
  refuseForeign(path, header.readUInt32BE(60), header.readUInt32BE(68), header.readUInt32BE(40));
  const wal = fs.statSync(`${path}-wal`, { throwIfNoEntry: false });
  if (wal === undefined || wal.size === 0) return;
  // The newest header may still be in the WAL of a manager that was killed.
  try {
    const database = new Database(path, { readonly: true });
    try {
      const pragma = (name: "user_version" | "application_id" | "schema_version"): number =>
        (database.query(`PRAGMA ${name}`).get() as Record<string, number>)[name]!;
      refuseForeign(path, pragma("user_version"), pragma("application_id"), pragma("schema_version"));
    } finally {
      database.close();
    }
  } catch (error) {
    if (error instanceof StoreError) throw error;
    if (faultOf(error) !== "failing") throw toStoreError(`cannot read the database ${path}`, error);
    throw new StoreError("failing", `${path} is damaged: move it away, or put a backup in its place`, { cause: error });
  }
}

/** `changes` counts what was ever done to the tables: 0 where no migration has run yet. */
function refuseForeign(path: string, version: number, owner: number, changes: number): void {
  if (version > SCHEMA_VERSION) {
    throw new StoreError(
      "failing",
      `${path} was written by a newer manager (schema ${version}, this one reads up to ${SCHEMA_VERSION}): run that version`,
    );
  }
  if (owner !== APPLICATION_ID && (version !== 0 || owner !== 0 || changes !== 0)) {
    throw new StoreError("failing", `${path} is another program's database: set DB_PATH to another file`);
  }
}
