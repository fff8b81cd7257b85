// Owns one link's life as the API shows it: spans of one state from the stored versions, and samples (handshake age,
// rates, loss) computed from the stored reports of both ends.
import type { EdgeEnd, EdgeHistory, TopologyEdge } from "../shared/api.ts";
import type { Peer, Report } from "../shared/report.ts";
import type { StoredReport } from "./model.ts";
import type { Store } from "./store/store.ts";

/** A chart's width; more points cost time and show nothing. */
const MAX_SAMPLES = 1000;
/** Loss needs this much to mean anything (2-topology.md, loss for free). */
const LOSS_SPAN_MS = 5 * 60_000;
const LOSS_BYTES = 100_000;
const MAX_EVENTS = 200;
/** Work at a stretch: a week of two busy ends is 40,000 reports, and others want to be answered meanwhile. */
const STRETCH_MS = 10;

type Sample = EdgeHistory["samples"][number];
/** What one report says of the edge from one end. */
type Reading = { at: number; rx: number; tx: number; handshakeAgeSeconds: number | null };

/** The peer entry of `report` that is this edge: own interface by its key or name, the other end by its keys. */
function peerOf(
  report: Report,
  ownKeys: ReadonlySet<string>,
  ownInterface: string | null,
  otherKeys: ReadonlySet<string>,
): Peer | null {
  for (const item of report.wireguard ?? []) {
    const own = item.public_key !== null ? ownKeys.has(item.public_key) : item.interface === ownInterface;
    if (!own) continue;
    const peer = item.peers?.find((candidate) => otherKeys.has(candidate.public_key));
    if (peer !== undefined) return peer;
  }
  return null;
}

/** Bits per second between two readings; null across a counter reset. */
function rate(before: number, after: number, milliseconds: number): number | null {
  return after < before || milliseconds <= 0 ? null : Math.round(((after - before) * 8000) / milliseconds);
}

/** The reading at or before `at`, given readings in order; null: none. */
function lastBefore(readings: readonly Reading[], at: number): Reading | null {
  let low = 0;
  let high = readings.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (readings[middle]!.at <= at) low = middle + 1;
    else high = middle;
  }
  return readings[low - 1] ?? null;
}

/** 1 − received/sent over the last five minutes before `at`; null: too little sent, or a reset in between. */
function loss(sender: readonly Reading[], receiver: readonly Reading[], at: number): number | null {
  const [sentEnd, sentStart] = [lastBefore(sender, at), lastBefore(sender, at - LOSS_SPAN_MS)];
  if (sentEnd === null || sentStart === null) return null;
  const [gotEnd, gotStart] = [lastBefore(receiver, sentEnd.at), lastBefore(receiver, sentStart.at)];
  if (gotEnd === null || gotStart === null) return null;
  const sent = sentEnd.tx - sentStart.tx;
  const got = gotEnd.rx - gotStart.rx;
  if (sent < LOSS_BYTES || got < 0) return null;
  return Math.min(1, Math.max(0, 1 - got / sent));
}

/** Samples of an edge from both ends' readings, oldest first, thinned to MAX_SAMPLES. Pure. */
function samplesOf(a: readonly Reading[], b: readonly Reading[]): Sample[] {
  // The end with more to say sets the moments; the other end fills what the first cannot know.
  const [main, other] = a.length >= b.length ? [a, b] : [b, a];
  const samples: Sample[] = [];
  const step = Math.max(1, Math.ceil(main.length / MAX_SAMPLES));
  for (let i = step; i < main.length; i += step) {
    const [before, now] = [main[i - step]!, main[i]!];
    const out = rate(before.tx, now.tx, now.at - before.at);
    const into = rate(before.rx, now.rx, now.at - before.at);
    const otherAge = lastBefore(other, now.at)?.handshakeAgeSeconds ?? null;
    const ages = [now.handshakeAgeSeconds, otherAge].filter((age) => age !== null);
    samples.push({
      at: now.at,
      handshake_age_s: ages.length === 0 ? null : Math.min(...ages),
      a_to_b_bps: main === a ? out : into,
      b_to_a_bps: main === a ? into : out,
      a_to_b_loss: loss(a, b, now.at),
      b_to_a_loss: loss(b, a, now.at),
    });
  }
  return samples;
}

async function readings(
  reports: AsyncIterable<StoredReport>,
  ownKeys: ReadonlySet<string>,
  ownInterface: string | null,
  otherKeys: ReadonlySet<string>,
): Promise<Reading[]> {
  const result: Reading[] = [];
  let began = performance.now();
  for await (const stored of reports) {
    if (performance.now() - began > STRETCH_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      began = performance.now();
    }
    // Verified and checked when it came in: parsed, not checked again.
    const report = JSON.parse(stored.data) as Report;
    const peer = peerOf(report, ownKeys, ownInterface, otherKeys);
    if (peer === null) continue;
    result.push({
      at: stored.observed_at,
      rx: peer.rx_bytes,
      tx: peer.tx_bytes,
      handshakeAgeSeconds:
        peer.latest_handshake_at === null ? null : Math.max(0, (report.collected_at - peer.latest_handshake_at) / 1000),
    });
  }
  return result;
}

/** One link's life between two moments; null: no edge has or had this id. @throws StoreError */
export async function edgeHistory(store: Store, edgeId: string, from: number, to: number): Promise<EdgeHistory | null> {
  const versions = (await store.versionsOf("edge", edgeId)) as {
    from_at: number;
    until_at: number | null;
    body: TopologyEdge;
  }[];
  if (versions.length === 0) return null;
  const states: EdgeHistory["states"] = [];
  for (const { from_at, until_at, body } of versions) {
    if (from_at > to || (until_at !== null && until_at < from)) continue;
    const last = states.at(-1);
    if (last !== undefined && last.state === body.state && last.reason === body.reason && last.until_at === from_at)
      last.until_at = until_at;
    else states.push({ state: body.state, reason: body.reason, from_at, until_at });
  }
  const keysOf = (end: "a" | "b") =>
    new Set(versions.map(({ body }) => body[end].public_key).filter((key) => key !== null));
  const newest = versions.at(-1)!.body;
  const end = async (own: EdgeEnd, name: "a" | "b") =>
    own.node.startsWith("wg:") || newest.layer !== "wireguard"
      ? []
      : readings(store.reportsOf(own.node, from, to), keysOf(name), own.interface, keysOf(name === "a" ? "b" : "a"));
  const [a, b] = [await end(newest.a, "a"), await end(newest.b, "b")];
  const events = await store.events({ subject: `edge:${edgeId}`, from_at: from, to_at: to, limit: MAX_EVENTS });
  return { edge_id: edgeId, states, samples: samplesOf(a, b), events };
}
