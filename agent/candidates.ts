// Owns which addresses may be asked whether they relay (1-protocol.md, Relay): from the kernel's state alone, each inside
// some peer's AllowedIPs other than a default route. Pure.
import {
  type Address,
  canonicalAddress,
  contains,
  familyBits,
  formatAddress,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  network,
  parseAddress,
  parsePrefix,
  type Prefix,
} from "../shared/net.ts";
import type { Report } from "../shared/report.ts";

/** Of a WireGuard interface's own subnet, so many of the lowest addresses. */
const SUBNET_ADDRESSES = 32;

/**
 * AllowedIPs shorter than this lead to the world, as a default route does: its halves (0.0.0.0/1 and 128.0.0.0/1), and what
 * is left of it without the private ranges (2000::/3). No mesh is addressed so: 10.0.0.0/8 and fc00::/7 are the widest.
 */
const SHORTEST_OF_A_MESH = { 4: 8, 6: 7 } as const;

export type Candidate = {
  address: string;
  /** Of the peer whose AllowedIPs hold it, in Unix ms; null: never. */
  handshakeAt: number | null;
};

type Kernel = Pick<Report, "wireguard" | "interfaces">;
type Allowed = { prefix: Prefix; handshakeAt: number | null };

function allowedOf(kernel: Kernel): Allowed[] {
  const allowed: Allowed[] = [];
  for (const item of kernel.wireguard ?? []) {
    for (const peer of item.peers ?? []) {
      for (const text of peer.allowed_ips) {
        const prefix = parsePrefix(text);
        if (prefix !== null && prefix.length >= SHORTEST_OF_A_MESH[prefix.family])
          allowed.push({ prefix, handshakeAt: peer.latest_handshake_at });
      }
    }
  }
  return allowed;
}

function ownAddresses(kernel: Kernel): Set<string> {
  return new Set(
    (kernel.interfaces ?? []).flatMap((item) => item.addresses.map((text) => text.slice(0, text.lastIndexOf("/")))),
  );
}

/** Filter of what may be probed at all, and the freshest handshake of the peers that hold it. */
export function probeFilter(kernel: Kernel): (address: string) => Candidate | null {
  const allowed = allowedOf(kernel);
  const own = ownAddresses(kernel);
  return (text) => {
    const canonical = canonicalAddress(text);
    const address = canonical === null ? null : parseAddress(canonical);
    if (address === null || own.has(canonical!)) return null;
    if (isLoopback(address) || isLinkLocal(address) || isMulticast(address) || isUnspecified(address)) return null;
    const holders = allowed.filter(({ prefix }) => contains(prefix, address));
    if (holders.length === 0) return null;
    const times = holders.map(({ handshakeAt }) => handshakeAt).filter((at) => at !== null);
    return { address: canonical!, handshakeAt: times.length === 0 ? null : Math.max(...times) };
  };
}

/**
 * Addresses to probe, in order: peers by /32 and /128 with the freshest handshake first (a quiet tunnel is not left out:
 * probing wakes it), then what those named, then the lowest of each WireGuard interface's own subnet.
 */
export function candidates(kernel: Kernel, named: readonly string[]): Candidate[] {
  const filter = probeFilter(kernel);
  const found = new Map<string, Candidate>();
  const add = (address: string) => {
    const candidate = filter(address);
    if (candidate !== null && !found.has(candidate.address)) found.set(candidate.address, candidate);
  };
  const hosts = allowedOf(kernel).filter(({ prefix }) => prefix.length === familyBits(prefix.family));
  hosts.sort((a, b) => (b.handshakeAt ?? 0) - (a.handshakeAt ?? 0));
  for (const { prefix } of hosts) add(formatAddress(prefix));
  for (const address of named) add(address);
  const tunnels = new Set((kernel.wireguard ?? []).map((item) => item.interface));
  for (const item of kernel.interfaces ?? []) {
    if (!tunnels.has(item.name)) continue;
    for (const text of item.addresses) {
      const prefix = parsePrefix(text);
      if (prefix === null || prefix.length === familyBits(prefix.family)) continue;
      const subnet = network(prefix);
      for (let i = 1n; i <= BigInt(SUBNET_ADDRESSES); i++) {
        const address: Address = { family: subnet.family, value: subnet.value + i };
        if (!contains(subnet, address)) break;
        add(formatAddress(address));
      }
    }
  }
  return [...found.values()];
}

/** Prefixes of peers' AllowedIPs of /8 or longer (IPv6: /32): who is inside may ask this agent. */
export function trustedPrefixes(kernel: Kernel): Prefix[] {
  return allowedOf(kernel)
    .map(({ prefix }) => prefix)
    .filter((prefix) => prefix.length >= (prefix.family === 4 ? 8 : 32));
}
