// Owns how facts become words: ages, amounts, moments, states. Unknown is said as such, never as zero. Pure.
import type { EdgeState, Layer, NodeStatus, Severity } from "../../shared/api.ts";

export const UNKNOWN = "unknown";

/** `12 s`, `4 min`, `3 h 20 min`, `2 d 4 h`. */
export function duration(milliseconds: number | null): string {
  if (milliseconds === null) return UNKNOWN;
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return hours % 24 === 0 ? `${days} d` : `${days} d ${hours % 24} h`;
}

/** How long ago, by the manager's clock. */
export function ago(at: number | null, now: number): string {
  if (at === null) return "never";
  return `${duration(now - at)} ago`;
}

const two = (number: number) => String(number).padStart(2, "0");

/** `02:41`, with the day when it is not today, in the reader's own time zone. */
export function clock(at: number, now: number): string {
  const [date, today] = [new Date(at), new Date(now)];
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return date.toDateString() === today.toDateString() ? time : `${day(at)} ${time}`;
}

/** The manager's words with their moments (ISO 8601, UTC) as `clock` says them: one zone on one page. */
export function localTimes(text: string, now: number): string {
  return text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, (moment) => clock(Date.parse(moment), now));
}

/** Agent clock minus manager clock, in words. */
export function skew(milliseconds: number | null): string {
  if (milliseconds === null) return UNKNOWN;
  if (Math.abs(milliseconds) < 1000) return "in time";
  return `${duration(Math.abs(milliseconds))} ${milliseconds > 0 ? "ahead" : "behind"}`;
}

/** `02:41:07`. */
export function seconds(at: number): string {
  const date = new Date(at);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `2026-11-23`. */
export function day(at: number): string {
  const date = new Date(at);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let index = 0;
  while (value >= base && index < units.length - 1) {
    value /= base;
    index++;
  }
  return `${value < 10 && index > 0 ? value.toFixed(1) : Math.round(value)} ${units[index]}`;
}

/** Bits a second in SI units. */
export function rate(bps: number | null): string {
  return bps === null ? UNKNOWN : scaled(bps, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
}

export function bytes(count: number | null): string {
  return count === null ? UNKNOWN : scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
}

export function percent(share: number | null): string {
  if (share === null) return UNKNOWN;
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** The first characters of a key or id, as `wg` users recognise them. */
export function shortKey(key: string): string {
  return key.length > 12 ? `${key.slice(0, 8)}…` : key;
}

export const STATE_WORDS: Record<EdgeState, string> = {
  up: "up",
  late: "late",
  idle: "idle",
  unused: "unused",
  stale: "stale",
  never: "never up",
  lossy: "lossy",
  down: "down",
  one_sided: "one-sided",
  key_mismatch: "key mismatch",
  unknown: "unknown",
};

/** What a state means, for a legend and for those who hear the page. */
export const STATE_MEANS: Record<EdgeState, string> = {
  up: "handshakes are recent",
  late: "the next handshake is overdue",
  idle: "no keepalive, nothing sent, nothing lost",
  unused: "configured, never used",
  stale: "it worked, now packets stay unanswered",
  never: "it never worked: every handshake stays unanswered",
  lossy: "packets are lost, or large ones do not pass",
  down: "the interface is down at one end",
  one_sided: "only one end lists the other",
  key_mismatch: "one end lists a key that the other does not have",
  unknown: "no end reported lately",
};

/** One sign for each state, so that colour never stands alone. */
export const STATE_SIGN: Record<EdgeState, string> = {
  up: "●",
  late: "◔",
  idle: "○",
  unused: "·",
  stale: "✕",
  never: "∅",
  lossy: "≈",
  down: "▼",
  one_sided: "◐",
  key_mismatch: "≠",
  unknown: "?",
};

export const STATUS_SIGN: Record<NodeStatus, string> = { online: "●", late: "◔", down: "✕", unknown: "?" };
export const SEVERITY_SIGN: Record<Severity, string> = { critical: "▲", warning: "◆", info: "i" };
export const LAYER_WORDS: Record<Layer, string> = {
  wireguard: "WireGuard",
  physical: "physical",
  tunnel: "tunnel",
  relay: "relay",
};

/** `peer_one_sided` → `peer one-sided`. */
export function codeWords(code: string): string {
  return code.replace("one_sided", "one-sided").replaceAll("_", " ");
}
