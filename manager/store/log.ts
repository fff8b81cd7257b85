// Owns the reading of the audit log: reports by agent, by moment, in order, whether their bytes are hot or packed.
import type { Database } from "bun:sqlite";
import type { StoredReport } from "../model.ts";
import type { HotReports } from "./hot.ts";
import { decodePack } from "./pack.ts";
import type { Store } from "./store.ts";

export type LogReader = Pick<
  Store,
  "replayWindow" | "hasReport" | "latestReport" | "reportsSince" | "reportsOf" | "allReports"
>;

/** Width of the replay window, in ticks and in nonces (1-protocol.md, Replay). */
const WINDOW = 120;
/** Ids read at once when streaming: some 13 MB of reports. Wider windows unpack less often, each pack once per window. */
const STREAM_IDS = 2000;

export const HOT_COLUMNS =
  "id, agent_id, tick, boot_id, nonce, collected_at, received_at, observed_at, relay_path, data, hmac, sig";

export function hotReport(row: unknown): StoredReport {
  const report = row as Omit<StoredReport, "relay_path"> & { relay_path: string };
  return { ...report, relay_path: JSON.parse(report.relay_path) };
}

/** Prepares every statement once. Streams read a bounded window at a time; between windows the log may change. */
export function prepareLogReader(database: Database, hot: Pick<HotReports, "idsOf">): LogReader {
  const highestPacked = database.prepare("SELECT max(tick_to) AS tick FROM packs WHERE agent_id = ?1");
  const packsOfTicks = database.prepare(
    "SELECT id FROM packs WHERE agent_id = ?1 AND tick_to >= ?2 AND tick_from <= ?3 ORDER BY id_to",
  );
  const hotById = database.prepare(`SELECT ${HOT_COLUMNS} FROM reports_hot WHERE id = ?1`);
  const hotMarks = database.prepare("SELECT tick, nonce FROM reports_hot WHERE id = ?1");
  const packsNewestFirst = database.prepare(
    "SELECT body FROM packs WHERE agent_id = ?1 AND id_to < ?2 ORDER BY id_to DESC LIMIT 1",
  );
  const packsObserved = database.prepare(`
    SELECT id, observed_from FROM packs WHERE agent_id = ?1 AND observed_to >= ?2 AND observed_from <= ?3
    ORDER BY observed_from, id`);
  const packBody = database.prepare("SELECT body FROM packs WHERE id = ?1");
  const hotObserved = database.prepare(
    `SELECT ${HOT_COLUMNS} FROM reports_hot WHERE id = ?1 AND observed_at BETWEEN ?2 AND ?3`,
  );
  const nextHot = database.prepare("SELECT min(id) AS id FROM reports_hot WHERE id >= ?1 AND received_at >= ?2");
  const nextPacked = database.prepare("SELECT min(id_from) AS id FROM packs WHERE id_to >= ?1 AND received_to >= ?2");
  const widestPack = database.prepare("SELECT max(id_to - id_from) AS ids FROM packs");
  const hotBetween = database.prepare(
    `SELECT ${HOT_COLUMNS} FROM reports_hot WHERE id >= ?1 AND id < ?2 AND received_at >= ?3`,
  );
  const packsBetween = database.prepare(
    "SELECT body FROM packs WHERE id_to >= ?1 AND id_to < ?2 + ?4 AND id_from < ?2 AND received_to >= ?3",
  );

  const bodyOf = (row: unknown): Uint8Array | null => (row as { body: Uint8Array } | null)?.body ?? null;
  const idOf = (row: unknown): number | null => (row as { id: number | null } | null)?.id ?? null;

  /** What replay looks at, of an agent's unpacked reports, oldest first. */
  const marksOf = (agentId: string): { id: number; tick: number; nonce: string }[] =>
    hot.idsOf(agentId).flatMap((id) => {
      const mark = hotMarks.get(id) as { tick: number; nonce: string } | null;
      return mark === null ? [] : [{ id, ...mark }];
    });

  /** An agent's packed reports of these ticks; oldest first. */
  const packed = (agentId: string, tickFrom: number, tickTo: number): StoredReport[] =>
    (packsOfTicks.all(agentId, tickFrom, tickTo) as { id: number }[])
      .flatMap(({ id }) => decodePack(bodyOf(packBody.get(id))!))
      .filter(({ tick }) => tick >= tickFrom && tick <= tickTo);

  const stored = (agentId: string, tick: number): StoredReport | null => {
    const mark = marksOf(agentId).find((candidate) => candidate.tick === tick);
    return mark === undefined ? (packed(agentId, tick, tick)[0] ?? null) : hotReport(hotById.get(mark.id));
  };

  const highest = (agentId: string): number | null => {
    const top = (highestPacked.get(agentId) as { tick: number | null }).tick;
    return marksOf(agentId).reduce<number | null>((most, { tick }) => Math.max(most ?? tick, tick), top);
  };

  async function* reportsSince(receivedFrom: number): AsyncGenerator<StoredReport> {
    for (let from = 0; ;) {
      const unpacked = idOf(nextHot.get(from, receivedFrom));
      const inPacks = idOf(nextPacked.get(from, receivedFrom));
      if (unpacked === null && inPacks === null) return;
      from = Math.max(from, Math.min(unpacked ?? Infinity, inPacks ?? Infinity));
      const to = from + STREAM_IDS;
      const rows = hotBetween.all(from, to, receivedFrom).map(hotReport);
      const widest = (widestPack.get() as { ids: number | null }).ids ?? 0;
      for (const row of packsBetween.iterate(from, to, receivedFrom, widest)) {
        const wanted = decodePack(bodyOf(row)!, (id) => id >= from && id < to);
        rows.push(...wanted.filter((report) => report.received_at >= receivedFrom));
      }
      yield* rows.sort((a, b) => a.id - b.id);
      from = to;
    }
  }

  return {
    replayWindow: async (agentId) => {
      const top = highest(agentId);
      if (top === null) return { highest_tick: null, ticks: [], nonces: [] };
      const marks = marksOf(agentId);
      const ticks = [...packed(agentId, top - WINDOW + 1, top), ...marks]
        .map(({ tick }) => tick)
        .filter((tick) => tick > top - WINDOW)
        .sort((a, b) => a - b);
      const nonces = marks.map(({ nonce }) => nonce).reverse();
      for (let below = Number.MAX_SAFE_INTEGER; nonces.length < WINDOW;) {
        const body = bodyOf(packsNewestFirst.get(agentId, below));
        if (body === null) break;
        const reports = decodePack(body);
        nonces.push(...reports.map(({ nonce }) => nonce).reverse());
        below = reports[0]!.id;
      }
      return { highest_tick: top, ticks, nonces: nonces.slice(0, WINDOW).reverse() };
    },
    hasReport: async (agentId, tick, bootId, collectedAt) => {
      const report = stored(agentId, tick);
      return report !== null && report.boot_id === bootId && report.collected_at === collectedAt;
    },
    latestReport: async (agentId) => {
      const top = highest(agentId);
      return top === null ? null : stored(agentId, top);
    },
    reportsSince,
    allReports: () => reportsSince(0),
    reportsOf: async function* (agentId, observedFrom, observedTo) {
      const within = ({ observed_at }: StoredReport): boolean =>
        observed_at >= observedFrom && observed_at <= observedTo;
      const inOrder = (a: StoredReport, b: StoredReport): number => a.observed_at - b.observed_at || a.id - b.id;
      // Read in one turn of the event loop: no row is packed in between. Packs deleted later are left out.
      const unpacked = hot.idsOf(agentId).flatMap((id) => hotObserved.all(id, observedFrom, observedTo).map(hotReport));
      const packs = packsObserved.all(agentId, observedFrom, observedTo) as { id: number; observed_from: number }[];
      // A buffered report observed long ago may lie in a later pack: what no later pack can precede goes out.
      let pending: StoredReport[] = unpacked;
      const last = { observed_from: Infinity, id: null };
      for (const pack of [...packs, last]) {
        const [due, rest] = split(pending.sort(inOrder), (report) => report.observed_at < pack.observed_from);
        yield* due;
        const body = pack.id === null ? null : bodyOf(packBody.get(pack.id));
        pending = body === null ? rest : [...rest, ...decodePack(body).filter(within)];
      }
    },
  };
}

function split<T>(sorted: T[], isDue: (value: T) => boolean): [due: T[], rest: T[]] {
  const first = sorted.findIndex((value) => !isDue(value));
  return first < 0 ? [sorted, []] : [sorted.slice(0, first), sorted.slice(first)];
}
