// Owns the watch on the disk under the database: how much is free, and the ballast, a file that is given up when the
// disk is full, because SQLite then needs room even to delete.
import * as fs from "node:fs";
import { dirname } from "node:path";

/**
 * The size of the ballast, and of the WAL that it must replace: 16 MiB, about 2,000 reports. SQLite's usual 4 MiB copies
 * the WAL home, and fsyncs for it, four times as often under load, and stores a third fewer reports a second.
 */
const BALLAST_BYTES = 16 * 1024 * 1024;
/** A small disk gives a 16th of itself. */
const BALLAST_SHARE = 16;
/** The disk counts as low below four ballasts, and no longer above six: the WAL alone makes a difference of one. */
const LOW_BALLASTS = 4;
const ROOMY_BALLASTS = 6;
/** The WAL on a low disk. */
const LOW_WAL_BYTES = 1024 * 1024;

export class Disk {
  readonly #ballast: string;
  readonly #directory: string;

  constructor(databasePath: string) {
    this.#ballast = `${databasePath}-ballast`;
    this.#directory = dirname(databasePath);
  }

  /** Bytes that the manager may still write. */
  freeBytes(): number {
    const { bavail, bsize } = fs.statfsSync(this.#directory);
    return bavail * bsize;
  }

  get ballastBytes(): number {
    const { blocks, bsize } = fs.statfsSync(this.#directory);
    return Math.min(BALLAST_BYTES, Math.floor((blocks * bsize) / BALLAST_SHARE));
  }

  /** Whether the disk is low, given whether it was. */
  isLow(was: boolean): boolean {
    return this.freeBytes() < (was ? ROOMY_BALLASTS : LOW_BALLASTS) * this.ballastBytes;
  }

  walBytes(low: boolean): number {
    return Math.min(this.ballastBytes, low ? LOW_WAL_BYTES : Infinity);
  }

  /** Gives the ballast up, where there is one. */
  dropBallast(): void {
    fs.rmSync(this.#ballast, { force: true });
  }

  /** Lays the ballast down where it is missing and leaves as much free again. */
  layBallast(): void {
    const size = this.ballastBytes;
    if (fs.existsSync(this.#ballast) || this.freeBytes() < 2 * size) return;
    const temporary = `${this.#ballast}.tmp`;
    try {
      // Random bytes: a file system that compresses, or leaves holes, would keep nothing of zeros.
      const block = crypto.getRandomValues(new Uint8Array(64 * 1024));
      // A new file of our own: what a killed manager left, or somebody put there as a link, is not written through.
      fs.rmSync(temporary, { force: true });
      const descriptor = fs.openSync(temporary, "wx", 0o600);
      try {
        for (let written = 0; written < size; written += block.length) fs.writeSync(descriptor, block);
      } finally {
        fs.closeSync(descriptor);
      }
      fs.renameSync(temporary, this.#ballast);
    } catch {
      fs.rmSync(temporary, { force: true }); // the disk filled up meanwhile: tried again when there is room
    }
  }
}
