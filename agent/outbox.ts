// Owns what could not be delivered: a directory with a file a report, oldest first, within 24 h and 16 MiB. A kill at any
// moment loses nothing that was put in.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { syncDirectory, writePrivate } from "../shared/files.ts";
import type { Log } from "../shared/log.ts";
import type { Unstamped } from "./report.ts";

const OUTBOX_LIMIT_BYTES = 16 * 1024 * 1024;
export const OUTBOX_LIMIT_MS = 24 * 3_600_000;
/** Reports that a manager's schema refused, kept for a look. */
const MAX_REJECTED = 20;

/** A report before it is stamped, with what its age is reckoned from. */
export type Entry = {
  report: Unstamped;
  /** /proc/uptime at collection, in ms; null: unknown. */
  uptime_ms: number | null;
};

type Item = { name: string; bytes: number; collectedAt: number };

export class Outbox {
  #items: Item[] = [];
  #bytes = 0;
  #dropped = 0;
  #sequence = 0;

  constructor(
    private readonly directory: string,
    private readonly log: Log,
    private readonly limitBytes = OUTBOX_LIMIT_BYTES,
  ) {
    mkdirSync(join(directory, "rejected"), { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory).sort()) {
      const match = /^(\d{12})-(\d+)\.json$/.exec(name);
      if (match === null) continue;
      const stat = statSync(join(directory, name), { throwIfNoEntry: false });
      // -dump looks while the daemon delivers: what is gone since the listing is no more.
      if (stat?.isFile() !== true) continue;
      this.#items.push({ name, bytes: stat.size, collectedAt: Number(match[2]) });
      this.#sequence = Number(match[1]);
    }
    this.#bytes = this.#items.reduce((sum, item) => sum + item.bytes, 0);
    try {
      this.#dropped = Number(readFileSync(join(directory, "dropped"), "utf8")) || 0;
    } catch {
      // none was dropped yet
    }
  }

  get length(): number {
    return this.#items.length;
  }
  get bytes(): number {
    return this.#bytes;
  }
  get limit(): number {
    return this.limitBytes;
  }
  /** Reports that were lost to the limits, or refused for good, since the state began. */
  get dropped(): number {
    return this.#dropped;
  }
  /** When the oldest was collected; null: empty. */
  get oldestAt(): number | null {
    return this.#items[0]?.collectedAt ?? null;
  }

  /** Keeps a report: durable when this returns. Beyond the limits the oldest go. @throws StateError */
  push(entry: Entry): void {
    const text = JSON.stringify(entry);
    const name = `${String(++this.#sequence).padStart(12, "0")}-${entry.report.collected_at}.json`;
    writePrivate(join(this.directory, name), text);
    const bytes = Buffer.byteLength(text);
    this.#items.push({ name, bytes, collectedAt: entry.report.collected_at });
    this.#bytes += bytes;
    let lost = 0;
    while (
      this.#items.length > 1 &&
      (this.#bytes > this.limitBytes || entry.report.collected_at - this.#items[0]!.collectedAt > OUTBOX_LIMIT_MS)
    ) {
      this.#remove();
      lost++;
    }
    if (lost > 0) this.#countDropped(lost);
  }

  /** The oldest; null: empty. One that cannot be read is set aside. */
  peek(): Entry | null {
    for (;;) {
      const [oldest] = this.#items;
      if (oldest === undefined) return null;
      try {
        const entry = JSON.parse(readFileSync(join(this.directory, oldest.name), "utf8")) as Entry;
        if (typeof entry.report?.tick === "number") return entry;
      } catch {
        // falls through: broken
      }
      this.log.error("outbox_entry_broken", { file: oldest.name, effect: "set aside in rejected/" });
      this.setAside();
    }
  }

  /** The oldest was delivered. */
  shift(): void {
    this.#remove();
  }

  /** The oldest again, under a fresh tick. */
  replace(entry: Entry): void {
    const [oldest] = this.#items;
    if (oldest === undefined) return;
    const text = JSON.stringify(entry);
    writePrivate(join(this.directory, oldest.name), text);
    this.#bytes += Buffer.byteLength(text) - oldest.bytes;
    oldest.bytes = Buffer.byteLength(text);
  }

  /** The oldest is refused for good: out of the way, but not gone. */
  setAside(): void {
    const oldest = this.#items.shift();
    if (oldest === undefined) return;
    this.#bytes -= oldest.bytes;
    const rejected = join(this.directory, "rejected");
    renameSync(join(this.directory, oldest.name), join(rejected, oldest.name));
    // By the time of collection: the numbers begin anew after a start with nothing in it.
    const collectedAt = (name: string) => Number(/-(\d+)\.json$/.exec(name)?.[1] ?? 0);
    const byAge = readdirSync(rejected).sort((a, b) => collectedAt(a) - collectedAt(b));
    for (const name of byAge.slice(0, -MAX_REJECTED)) rmSync(join(rejected, name), { force: true });
    this.#countDropped(1);
  }

  /** A new identity: what the old one had to say is not ours. */
  clear(): void {
    for (const { name } of this.#items) rmSync(join(this.directory, name), { force: true });
    this.#items = [];
    this.#bytes = 0;
    syncDirectory(this.directory);
  }

  #remove(): void {
    const oldest = this.#items.shift();
    if (oldest === undefined) return;
    this.#bytes -= oldest.bytes;
    rmSync(join(this.directory, oldest.name), { force: true });
  }

  #countDropped(count: number): void {
    this.#dropped += count;
    writePrivate(join(this.directory, "dropped"), `${this.#dropped}\n`);
    this.log.warning("reports_dropped", { count, dropped: this.#dropped });
  }
}
