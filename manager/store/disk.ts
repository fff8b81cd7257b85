// Owns the watch on the disk under the database: how much is free, and the ballast, a file that is given up when the
// disk is full, because SQLite then needs room even to delete.
import * as fs from "node:fs";
import { dirname } from "node:path";

/** Enough for a WAL of the low-disk size and the pages that a checkpoint appends. A small disk gives a 16th. */
const BALLAST_BYTES = 16 * 1024 * 1024;
const BALLAST_SHARE = 16;
/** Below four ballasts the disk counts as low. */
const LOW_BALLASTS = 4;
/** statfs is asked at most this often. */
const LOOK_EVERY_MS = 1000;

export class Disk {
  readonly #ballast: string;
  readonly #directory: string;
  #freeBytes = 0;
  #totalBytes = 0;
  #lookedAt = -Infinity;

  constructor(databasePath: string) {
    this.#ballast = `${databasePath}-ballast`;
    this.#directory = dirname(databasePath);
  }

  /** Bytes that the manager may still write; looked up again at most once a second, or at once with `fresh`. */
  freeBytes(fresh = false): number {
    const now = performance.now();
    if (fresh || now - this.#lookedAt >= LOOK_EVERY_MS) {
      const figures = fs.statfsSync(this.#directory);
      this.#freeBytes = figures.bavail * figures.bsize;
      this.#totalBytes = figures.blocks * figures.bsize;
      this.#lookedAt = now;
    }
    return this.#freeBytes;
  }

  get ballastBytes(): number {
    this.freeBytes();
    return Math.min(BALLAST_BYTES, Math.floor(this.#totalBytes / BALLAST_SHARE));
  }

  isLow(): boolean {
    return this.freeBytes() < LOW_BALLASTS * this.ballastBytes;
  }

  /** Gives the ballast up. Whether there was one. */
  dropBallast(): boolean {
    if (!fs.existsSync(this.#ballast)) return false;
    fs.rmSync(this.#ballast);
    this.freeBytes(true);
    return true;
  }

  /** Lays the ballast down where it is missing and there is room for it beside the low mark. */
  layBallast(): void {
    const size = this.ballastBytes;
    if (fs.existsSync(this.#ballast) || this.freeBytes() < (LOW_BALLASTS + 1) * size) return;
    const temporary = `${this.#ballast}.tmp`;
    try {
      // Random bytes: a file system that compresses, or leaves holes, would keep nothing of zeros.
      const block = crypto.getRandomValues(new Uint8Array(64 * 1024));
      const descriptor = fs.openSync(temporary, "w", 0o600);
      try {
        for (let written = 0; written < size; written += block.length) fs.writeSync(descriptor, block);
      } finally {
        fs.closeSync(descriptor);
      }
      fs.renameSync(temporary, this.#ballast);
      this.freeBytes(true);
    } catch {
      fs.rmSync(temporary, { force: true }); // the disk filled up meanwhile: tried again when there is room
    }
  }
}
