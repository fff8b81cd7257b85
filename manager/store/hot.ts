// Owns what is known of the reports whose bytes are still unpacked: their ids, per agent. Kept in memory: an index of them
// in the database would cost every report a page of its own, written twice.
import type { Database } from "bun:sqlite";

/** Reports of one agent in a pack: an hour at 30 s. 60 cost 8 % more bytes; 240 save 5 % and take twice as long to unpack. */
export const PACK_REPORTS = 120;
/** Fewer are packed all the same when the oldest waits this long: agents that are gone, or report seldom. */
const PACK_AGE_MS = 6 * 3600_000;
/** How often the agents are looked through for old ones. */
const SCAN_EVERY_MS = 60_000;

/** `ids`: in the order of receipt, which is ascending; `oldest_at`: when the first of them was received. */
type Unpacked = { ids: number[]; oldest_at: number };

export class HotReports {
  /** Rows of the audit log, packed or not. */
  total = 0;
  readonly #agents = new Map<string, Unpacked>();
  readonly #ready = new Set<string>();
  #scannedAt = 0;

  constructor(private readonly database: Database) {
    this.reload();
  }

  /** Looks through the database anew. */
  reload(): void {
    this.#agents.clear();
    this.#ready.clear();
    const packed = this.database.query("SELECT total(reports) AS reports FROM packs").get() as { reports: number };
    this.total = packed.reports;
    const rows = this.database.query("SELECT id, agent_id, received_at FROM reports_hot ORDER BY id");
    for (const row of rows.iterate()) {
      const { id, agent_id, received_at } = row as { id: number; agent_id: string; received_at: number };
      this.added(agent_id, id, received_at);
    }
  }

  /** Ids of an agent's unpacked reports, ascending. */
  idsOf(agentId: string): readonly number[] {
    return this.#agents.get(agentId)?.ids ?? [];
  }

  added(agentId: string, id: number, receivedAt: number): void {
    this.total++;
    let unpacked = this.#agents.get(agentId);
    if (unpacked === undefined) {
      unpacked = { ids: [], oldest_at: receivedAt };
      this.#agents.set(agentId, unpacked);
    }
    if (unpacked.ids.push(id) >= PACK_REPORTS) this.#ready.add(agentId);
  }

  /**
   * After packing or pruning: an agent's `count` oldest are hot no more.
   * @param receivedAt when the report of this id was received
   */
  removed(agentId: string, count: number, receivedAt: (id: number) => number, now: number): void {
    this.#ready.delete(agentId);
    const unpacked = this.#agents.get(agentId);
    if (unpacked === undefined) return;
    unpacked.ids.splice(0, count);
    const first = unpacked.ids[0];
    if (first === undefined) {
      this.#agents.delete(agentId);
      return;
    }
    unpacked.oldest_at = receivedAt(first);
    if (unpacked.ids.length >= PACK_REPORTS || now - unpacked.oldest_at > PACK_AGE_MS) this.#ready.add(agentId);
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
}
