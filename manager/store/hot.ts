// Owns the count of reports whose bytes are still unpacked, per agent: what tells packing whose turn it is without
// asking the database each time.
import type { Database } from "bun:sqlite";

/** Reports of one agent in a pack: an hour at 30 s. 60 cost 8 % more bytes; 240 save 5 % and take twice as long to unpack. */
export const PACK_REPORTS = 120;
/** Fewer are packed all the same when the oldest waits this long: agents that are gone, or report seldom. */
const PACK_AGE_MS = 6 * 3600_000;
/** How often the agents are looked through for old ones. */
const SCAN_EVERY_MS = 60_000;

type Count = { reports: number; oldest_at: number };

export class HotReports {
  /** Rows of the audit log, packed or not. */
  total = 0;
  readonly #agents = new Map<string, Count>();
  readonly #ready = new Set<string>();
  #scannedAt = 0;

  constructor(private readonly database: Database) {
    this.reload();
  }

  /** Counts anew from the database. */
  reload(): void {
    this.#agents.clear();
    this.#ready.clear();
    const rows = this.database
      .query(
        `SELECT hot.agent_id, hot.reports, oldest.received_at AS oldest_at
         FROM (SELECT agent_id, count(*) AS reports, min(id) AS id FROM reports_hot GROUP BY agent_id) AS hot
         JOIN reports_hot AS oldest USING (id)`,
      )
      .all() as (Count & { agent_id: string })[];
    const packed = this.database.query("SELECT total(reports) AS reports FROM packs").get() as { reports: number };
    this.total = packed.reports;
    for (const { agent_id, reports, oldest_at } of rows) {
      this.total += reports;
      this.#set(agent_id, { reports, oldest_at });
    }
  }

  added(agentId: string, receivedAt: number): void {
    this.total++;
    const count = this.#agents.get(agentId);
    this.#set(agentId, { reports: (count?.reports ?? 0) + 1, oldest_at: count?.oldest_at ?? receivedAt });
  }

  /** After packing or pruning: what is left of this agent. */
  left(agentId: string, left: Count, now: number): void {
    this.#ready.delete(agentId);
    if (left.reports === 0) this.#agents.delete(agentId);
    else this.#set(agentId, left);
    if (left.reports > 0 && now - left.oldest_at > PACK_AGE_MS) this.#ready.add(agentId);
  }

  /** Not this one, for now. */
  postpone(agentId: string): void {
    this.#ready.delete(agentId);
  }

  /** The next agent whose oldest reports are due for packing; null: none. */
  due(now: number): string | null {
    if (this.#ready.size === 0 && Math.abs(now - this.#scannedAt) >= SCAN_EVERY_MS) {
      this.#scannedAt = now;
      for (const [agentId, { oldest_at }] of this.#agents) {
        if (now - oldest_at > PACK_AGE_MS) this.#ready.add(agentId);
      }
    }
    return this.#ready.values().next().value ?? null;
  }

  #set(agentId: string, count: Count): void {
    this.#agents.set(agentId, count);
    if (count.reports >= PACK_REPORTS) this.#ready.add(agentId);
  }
}
