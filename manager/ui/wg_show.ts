// Owns how one end's view of a peer reads as `wg show` prints it, so that it can be laid beside a terminal. Pure.
import type { EdgeEnd } from "../../shared/api.ts";

function plural(number: number, unit: string): string {
  return `${number} ${unit}${number === 1 ? "" : "s"}`;
}

/** As wireguard-tools' show.c prints an age: `1 minute, 40 seconds ago`. */
export function wgAge(seconds: number): string {
  if (seconds <= 0) return "Now";
  const parts: string[] = [];
  for (const [unit, size] of [
    ["year", 31_536_000],
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ] as const) {
    const number = Math.floor(seconds / size);
    seconds -= number * size;
    if (number > 0) parts.push(plural(number, unit));
  }
  return `${parts.join(", ")} ago`;
}

/** As show.c prints bytes: two decimals of a binary unit. */
export function wgBytes(count: number): string {
  for (const [unit, size] of [
    ["TiB", 2 ** 40],
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const)
    if (count >= size) return `${(count / size).toFixed(2)} ${unit}`;
  return `${count} B`;
}

/** What `wg show` prints on `self`'s host about `other`; lines whose fact is unknown are left out, as wg does. */
export function wgShow(self: EdgeEnd, other: EdgeEnd, now: number): string {
  const lines = [`interface: ${self.interface ?? "?"}`];
  if (self.public_key !== null) lines.push(`  public key: ${self.public_key}`);
  if (self.listen_port !== null) lines.push(`  listening port: ${self.listen_port}`);
  if (self.allowed_ips === null) return [...lines, "", `(no peer ${other.public_key ?? ""})`].join("\n");
  lines.push("", `peer: ${other.public_key ?? "?"}`);
  if (other.endpoint !== null) lines.push(`  endpoint: ${other.endpoint}`);
  lines.push(`  allowed ips: ${self.allowed_ips.length === 0 ? "(none)" : self.allowed_ips.join(", ")}`);
  if (self.latest_handshake_at !== null)
    lines.push(`  latest handshake: ${wgAge(Math.floor((now - self.latest_handshake_at) / 1000))}`);
  if (self.rx_bytes !== null && self.tx_bytes !== null && (self.rx_bytes > 0 || self.tx_bytes > 0))
    lines.push(`  transfer: ${wgBytes(self.rx_bytes)} received, ${wgBytes(self.tx_bytes)} sent`);
  if (self.persistent_keepalive_s !== null)
    lines.push(`  persistent keepalive: every ${plural(self.persistent_keepalive_s, "second")}`);
  return lines.join("\n");
}
