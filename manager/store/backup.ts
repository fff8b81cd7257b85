// Owns the backup: a consistent copy of a database in use, made by VACUUM INTO on a connection and a thread of its own,
// so that neither the event loop nor a writer waits for it.
import * as fs from "node:fs";
import { dirname } from "node:path";
import { syncDirectory } from "../../shared/files.ts";
import { toStoreError } from "./faults.ts";
import { StoreError } from "./store.ts";

/** Runs in the worker: must stand alone. A string, because a compiled binary holds no file to start a worker from. */
const WORKER = `
import { Database } from "bun:sqlite";
self.onmessage = ({ data: { source, target } }) => {
  try {
    const database = new Database(source, { readonly: true });
    database.run("PRAGMA busy_timeout = 1000");
    database.run("VACUUM INTO ?1", [target]);
    database.close();
    self.postMessage({ ok: true });
  } catch (error) {
    self.postMessage({ ok: false, code: error.code, message: error.message });
  }
};`;

/**
 * Copies the database at `source`, in use or not, into the new file `target` (0600, synced).
 * @throws StoreError when `target` exists or cannot be written; nothing is left behind.
 */
export async function backupDatabase(source: string, target: string): Promise<void> {
  const operation = `cannot back up to ${target}`;
  try {
    // Made here, empty: with its mode, and never over something that is there (O_EXCL follows no link either).
    fs.closeSync(fs.openSync(target, "wx", 0o600));
  } catch (cause) {
    if ((cause as { code?: string }).code === "EEXIST") {
      throw new StoreError("failing", `${operation}: it exists already: name a new file`, { cause });
    }
    throw new StoreError("failing", `${operation}: check its directory's owner and mode`, { cause });
  }
  try {
    await copy(source, target);
    const descriptor = fs.openSync(target, "r+");
    fs.fsyncSync(descriptor); // VACUUM INTO does not
    fs.closeSync(descriptor);
    syncDirectory(dirname(target));
  } catch (error) {
    for (const suffix of ["", "-journal"]) fs.rmSync(target + suffix, { force: true });
    throw toStoreError(operation, error);
  }
}

async function copy(source: string, target: string): Promise<void> {
  const url = URL.createObjectURL(new Blob([WORKER], { type: "application/javascript" }));
  const worker = new Worker(url);
  try {
    await new Promise<void>((resolve, reject) => {
      worker.onmessage = ({ data }) =>
        data.ok ? resolve() : reject(Object.assign(new Error(data.message), { code: data.code }));
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ source, target });
    });
  } finally {
    worker.terminate();
    URL.revokeObjectURL(url);
  }
}
