// Owns WireGuard's cryptokey routing: which peer a destination belongs to, and which peer may send a source
// (drivers/net/wireguard/allowedips.c). Pure.
import { type Address, contains } from "../../../shared/net.ts";
import type { Peer } from "../../../shared/report.ts";
import { cachedPrefix } from "../prefixes.ts";

/** The peer to which the longest AllowedIPs entry that holds `address` belongs; null: none. */
export function peerOf(peers: readonly Peer[], address: Address): { peer: Peer; allowedIp: string } | null {
  let best: { peer: Peer; allowedIp: string } | null = null;
  let length = -1;
  for (const peer of peers) {
    for (const text of peer.allowed_ips) {
      const prefix = cachedPrefix(text);
      if (prefix === null || prefix.length <= length || !contains(prefix, address)) continue;
      best = { peer, allowedIp: text };
      length = prefix.length;
    }
  }
  return best;
}
