// Owns the reading of a report beside the agent's report before: what reads the same is taken over from that one instead
// of being checked and canonicalised again (from one report to the next little but counters changes). What
// differs goes through the schema, which alone says what is wrong. Pure.
import type { JsonObject } from "../shared/json.ts";
import { type Interface, type Peer, type Report, reportSchema, type System, type Wireguard } from "../shared/report.ts";

/** Unix milliseconds as the schema bounds them. */
const MAX_INSTANT = 8.64e15;

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isCountOrNull = (value: unknown): boolean => value === null || isCount(value);
const isInstant = (value: unknown): boolean => isCount(value) && (value as number) <= MAX_INSTANT;
const isInstantOrNull = (value: unknown): boolean => value === null || isInstant(value);
const isMeasure = (value: unknown): boolean => Number.isFinite(value) && (value as number) >= 0;

type Varying = { readonly [field: string]: (value: unknown) => boolean };
/** Without a prototype: a stranger's field `constructor` or `toString` must not find Object's. */
const varying = (fields: Varying): Varying => Object.assign(Object.create(null) as Varying, fields);
/** What moves from report to report, and what the schema asks of it. A field that is not in the former report is none. */
type PeerCounters = "latest_handshake_at" | "rx_bytes" | "tx_bytes";
const INTERFACE_COUNTERS = varying({
  rx_bytes: isCountOrNull,
  tx_bytes: isCountOrNull,
  rx_errors: isCountOrNull,
  tx_errors: isCountOrNull,
});
const SYSTEM_COUNTERS = varying({
  uptime_s: (value) => value === null || isMeasure(value),
  load: (value) => value === null || (Array.isArray(value) && value.length === 3 && value.every(isMeasure)),
  memory_available_bytes: isCountOrNull,
});
const elsewhere = () => true;
/** Of the report itself. The last three are compared by their own functions. */
const REPORT_STAMPS = varying({
  tick: isCount,
  nonce: (value) => typeof value === "string" && /^[0-9a-f]{32}$/.test(value),
  sent_at: isInstant,
  collected_at: isInstant,
  age_ms: (value) => value === null || Number.isSafeInteger(value),
  dropped: isCount,
  system: elsewhere,
  interfaces: elsewhere,
  wireguard: elsewhere,
});
const NONE = varying({});

/** Whether two values of JSON are the same. */
function same(raw: unknown, former: unknown): boolean {
  if (raw === former) return true;
  if (typeof raw !== "object" || raw === null || typeof former !== "object" || former === null) return false;
  if (!Array.isArray(raw)) return !Array.isArray(former) && sameObject(raw as JsonObject, former as JsonObject, NONE);
  if (!Array.isArray(former) || raw.length !== former.length) return false;
  for (let i = 0; i < raw.length; i++) if (!same(raw[i], former[i])) return false;
  return true;
}

/** The same fields with the same values, but for those that vary: these are only as the schema wants them. */
function sameObject(raw: JsonObject, former: JsonObject, counters: Varying): boolean {
  let fields = 0;
  for (const field in raw) {
    fields++;
    const [value, before] = [raw[field], former[field]];
    if (value === before) continue;
    const fits = counters[field];
    if (fits === undefined ? !same(value, before) : before === undefined || !fits(value)) return false;
  }
  for (const _ in former) fields--;
  return fields === 0;
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Each item of `raw` as `like` makes it of the former one and it; null: one is not alike but for its counters. */
function itemsLike<T extends object>(
  raw: unknown,
  former: readonly T[] | null,
  like: (former: T, raw: JsonObject) => T | null,
): T[] | null {
  if (former === null || !Array.isArray(raw) || raw.length !== former.length) return null;
  const items: T[] = [];
  for (let i = 0; i < raw.length; i++) {
    const item = isObject(raw[i]) ? like(former[i]!, raw[i]) : null;
    if (item === null) return null;
    items.push(item);
  }
  return items;
}

function interfaceLike(former: Interface, raw: JsonObject): Interface | null {
  if (!sameObject(raw, former, INTERFACE_COUNTERS)) return null;
  const { rx_bytes, tx_bytes, rx_errors, tx_errors } = raw as Interface;
  const item = { ...former, rx_bytes, tx_bytes };
  if (rx_errors !== undefined) item.rx_errors = rx_errors;
  if (tx_errors !== undefined) item.tx_errors = tx_errors;
  return item;
}

/** As sameObject and a copy, field by field: of all that a report holds there is most of peers, and this is twice as fast. */
function peerLike(former: Peer, raw: JsonObject): Peer | null {
  const { public_key, endpoint, allowed_ips, persistent_keepalive_s, via } = former;
  const { latest_handshake_at, rx_bytes, tx_bytes } = raw as Pick<Peer, PeerCounters>;
  if (
    raw.public_key !== public_key ||
    raw.endpoint !== endpoint ||
    raw.persistent_keepalive_s !== persistent_keepalive_s ||
    !same(raw.allowed_ips, allowed_ips) ||
    !same(raw.via, via) ||
    !isInstantOrNull(latest_handshake_at) ||
    !isCount(rx_bytes) ||
    !isCount(tx_bytes) ||
    // Nothing besides.
    Object.keys(raw).length !== Object.keys(former).length
  )
    return null;
  const peer: Required<Omit<Peer, "via">> & Pick<Peer, "via"> = {
    public_key,
    endpoint,
    allowed_ips,
    latest_handshake_at,
    rx_bytes,
    tx_bytes,
    persistent_keepalive_s,
  };
  if (via !== undefined) peer.via = via;
  return peer;
}

function wireguardLike(raw: unknown, former: readonly Wireguard[] | null): Wireguard[] | null {
  if (former === null || !Array.isArray(raw) || raw.length !== former.length) return null;
  const items: Wireguard[] = [];
  for (let i = 0; i < raw.length; i++) {
    const [own, before] = [raw[i] as unknown, former[i]!];
    if (!isObject(own)) return null;
    const peers = itemsLike(own.peers, before.peers, peerLike);
    if (peers === null || !sameObject({ ...own, peers: before.peers }, before, NONE)) return null;
    items.push({ ...before, peers });
  }
  return items;
}

/** The whole report, where nothing but counters and stamps differs; null: something does. */
function reportLike(
  data: JsonObject,
  former: Report,
  interfaces: Interface[] | null,
  wireguard: Wireguard[] | null,
): Report | null {
  if (interfaces === null || wireguard === null || !isObject(data.system) || former.system === null) return null;
  if (!sameObject(data, former, REPORT_STAMPS) || !sameObject(data.system, former.system, SYSTEM_COUNTERS)) return null;
  const { tick, nonce, sent_at, collected_at, age_ms, dropped } = data as Report;
  const { uptime_s, load, memory_available_bytes } = data.system as System;
  const system = { ...former.system, uptime_s, load, memory_available_bytes };
  const report = { ...former, tick, nonce, sent_at, collected_at, dropped, system, interfaces, wireguard };
  if (age_ms !== undefined) report.age_ms = age_ms;
  return report;
}

/** Sections without counters. */
const STEADY = ["delivery", "collectors", "routes", "neighbors", "rules", "forwarding", "firewall"] as const;

/**
 * As `reportSchema.safeParse(data)`. Objects and lists in the result that read as in `former`, a report that the schema
 * gave, are those of `former` themselves: nobody may change them.
 */
export function parseReport(data: JsonObject, former: Report | null): ReturnType<typeof reportSchema.safeParse> {
  if (former === null) return reportSchema.safeParse(data);
  const interfaces = itemsLike(data.interfaces, former.interfaces, interfaceLike);
  const wireguard = wireguardLike(data.wireguard, former.wireguard);
  const whole = reportLike(data, former, interfaces, wireguard);
  if (whole !== null) return { success: true, data: whole };
  const alike: Partial<Report> = {};
  // The schema sees an empty section in its place: nothing that it could complain of.
  const rest: JsonObject = { ...data };
  for (const section of STEADY) {
    const before = former[section];
    if (before === undefined || before === null || !same(data[section], before)) continue;
    Object.assign(alike, { [section]: before });
    rest[section] = section === "collectors" ? {} : null;
  }
  if (interfaces !== null) {
    alike.interfaces = interfaces;
    rest.interfaces = null;
  }
  if (wireguard !== null) {
    alike.wireguard = wireguard;
    rest.wireguard = null;
  }
  const parsed = reportSchema.safeParse(rest);
  if (parsed.success) Object.assign(parsed.data, alike);
  return parsed;
}
