// Owns the interfaces collector: `ip -j -d -s addr` where iproute2 is there, else /sys/class/net with node:os. Interfaces
// that are down are in it; veths without an address are a count.
import { canonicalAddress, canonicalInterfaceAddress, canonicalMac } from "../../shared/net.ts";
import type { Interface, InterfaceKind, Tunnel } from "../../shared/report.ts";
import { failure, type Host } from "../host.ts";
import { counter, cut, parseJson, type Section, short } from "./section.ts";

/** As iproute2 prints it (ip/ipaddress.c, ip/iplink_*.c). */
type IpAddr = {
  ifname?: string;
  link?: string | null;
  master?: string;
  flags?: string[];
  mtu?: number;
  link_type?: string;
  address?: string;
  linkinfo?: { info_kind?: string; info_slave_kind?: string; info_data?: Record<string, unknown> };
  addr_info?: { family?: string; local?: string; prefixlen?: number }[];
  stats64?: { rx?: { bytes?: number; errors?: number }; tx?: { bytes?: number; errors?: number } };
};

export type Interfaces = { interfaces: Interface[]; veths: number };

const KINDS: Record<string, InterfaceKind> = {
  wireguard: "wireguard",
  bridge: "bridge",
  bond: "bond",
  vlan: "vlan",
  vxlan: "vxlan",
  gre: "gre",
  gretap: "gre",
  ip6gre: "gre",
  ip6gretap: "gre",
  ipip: "ipip",
  ip6tnl: "ipip",
  sit: "sit",
  geneve: "geneve",
  veth: "veth",
  dummy: "dummy",
};

function kindOf(item: IpAddr): InterfaceKind {
  if (item.link_type === "loopback") return "loopback";
  const kind = item.linkinfo?.info_kind;
  if (kind === "tun") return item.linkinfo?.info_data?.["type"] === "tap" ? "tap" : "tun";
  if (kind !== undefined) return KINDS[kind] ?? "virtual";
  // No kind: a driver's own device. Ethernet, wireless and mobile cards have a link type of their own.
  return item.link_type === "ether" || item.link_type === "ieee802.11" ? "physical" : "virtual";
}

const TUNNELS: ReadonlySet<InterfaceKind> = new Set(["vxlan", "gre", "ipip", "sit", "geneve"]);

/** `any`, 0.0.0.0 and :: stand for none. */
function outer(value: unknown): string | null {
  if (typeof value !== "string") return null;
  const address = canonicalAddress(value);
  return address === null || address === "0.0.0.0" || address === "::" ? null : address;
}

/** A GRE key comes as a dotted quad or a number, a VNI as a number. */
function tunnelId(value: unknown): number | null {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return null;
  if (/^[0-9]+$/.test(value)) return counter(value);
  const quad = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(value);
  return quad === null
    ? null
    : ((Number(quad[1]) << 24) >>> 0) + (Number(quad[2]) << 16) + (Number(quad[3]) << 8) + Number(quad[4]);
}

function tunnelOf(kind: InterfaceKind, data: Record<string, unknown>): Tunnel | null {
  if (!TUNNELS.has(kind)) return null;
  return {
    local: outer(data["local"] ?? data["local6"]),
    // VXLAN's `group` is none: everybody in it.
    remote: outer(data["remote"] ?? data["remote6"]),
    id: tunnelId(data["id"] ?? data["ikey"] ?? data["okey"]),
    port: typeof data["port"] === "number" ? data["port"] : null,
  };
}

function bytes(value: unknown): number | null {
  return typeof value === "number" && value >= 0 ? Math.floor(value) % 2 ** 53 : null;
}

/** Parses `ip -j -d -s addr`. Entries without a name are passed over. @returns null: no such JSON. */
export function parseIpAddr(text: string): Interfaces | null {
  const list = parseJson<IpAddr[]>(text);
  if (!Array.isArray(list)) return null;
  const ports = new Map<string, { veth: number; tap: number; other: number }>();
  const interfaces: Interface[] = [];
  let veths = 0;
  for (const item of list) {
    if (typeof item?.ifname !== "string") continue;
    const kind = kindOf(item);
    if (item.master !== undefined) {
      const count = ports.get(item.master) ?? { veth: 0, tap: 0, other: 0 };
      count[kind === "veth" || kind === "tap" ? kind : "other"]++;
      ports.set(item.master, count);
    }
    const addresses: string[] = [];
    for (const { local, prefixlen } of item.addr_info ?? []) {
      // Of ::ffff:a.b.c.d the length is an IPv6 one: what the wire cannot say is left out, for it would refuse the report.
      const address = local === undefined ? null : canonicalInterfaceAddress(`${local}/${prefixlen}`);
      if (address !== null) addresses.push(address);
    }
    if (kind === "veth" && addresses.length === 0) {
      veths++;
      continue;
    }
    const flags = item.flags ?? [];
    const up = flags.includes("UP");
    interfaces.push({
      name: short(item.ifname),
      kind,
      mac: item.address === undefined || kind === "loopback" ? null : canonicalMac(item.address),
      mtu: item.mtu ?? null,
      up,
      // A device that is down has no carrier to speak of.
      carrier: up ? flags.includes("LOWER_UP") : null,
      addresses,
      rx_bytes: bytes(item.stats64?.rx?.bytes),
      tx_bytes: bytes(item.stats64?.tx?.bytes),
      speed_mbps: null,
      parent: kind === "veth" || item.link == null ? tunnelLink(item) : short(item.link),
      master: item.master === undefined ? null : short(item.master),
      tunnel: tunnelOf(kind, item.linkinfo?.info_data ?? {}),
      rx_errors: bytes(item.stats64?.rx?.errors),
      tx_errors: bytes(item.stats64?.tx?.errors),
    });
  }
  for (const item of interfaces)
    if (item.kind === "bridge") item.ports = ports.get(item.name) ?? { veth: 0, tap: 0, other: 0 };
  return { interfaces, veths };
}

function tunnelLink(item: IpAddr): string | null {
  const link = item.linkinfo?.info_data?.["link"];
  return typeof link === "string" ? short(link) : null;
}

/** Parses `bridge -j fdb show dev X`: the remotes of the all-zero entry are where head-end replication sends. */
export function parseFdbRemotes(text: string): string[] {
  const list = parseJson<{ mac?: string; dst?: string }[]>(text);
  if (!Array.isArray(list)) return [];
  const remotes = new Set<string>();
  for (const { mac, dst } of list) {
    const address = dst === undefined ? null : canonicalAddress(dst);
    if (mac === "00:00:00:00:00:00" && address !== null) remotes.add(address);
  }
  return [...remotes];
}

async function line(host: Host, path: string): Promise<string | null> {
  const result = await host.sys(path);
  return result.ok ? result.text.trim() : null;
}

/** ARPHRD_* of linux/if_arp.h */
const ARPHRD_ETHER = "1";
const ARPHRD_LOOPBACK = "772";

/** Without iproute2: /sys/class/net says what there is, node:os what addresses it has (of interfaces that are up). */
async function fromSys(host: Host): Promise<Interfaces> {
  const { networkInterfaces } = await import("node:os");
  const known = networkInterfaces();
  const names = (await host.sysList("class/net")).sort();
  let veths = 0;
  const interfaces: Interface[] = [];
  for (const name of names) {
    const at = (file: string) => line(host, `class/net/${name}/${file}`);
    const [mtu, flags, mac, type, carrier, rx, tx, uevent, device] = await Promise.all([
      at("mtu"),
      at("flags"),
      at("address"),
      at("type"),
      at("carrier"),
      at("statistics/rx_bytes"),
      at("statistics/tx_bytes"),
      at("uevent"),
      host.sysList(`class/net/${name}/device`),
    ]);
    if (flags === null) continue; // it vanished, or is no interface (bonding_masters)
    const devtype = /^DEVTYPE=(.*)$/m.exec(uevent ?? "")?.[1];
    const tunFlags = await at("tun_flags");
    let kind: InterfaceKind =
      type === ARPHRD_LOOPBACK ? "loopback" : device.length > 0 ? "physical" : (KINDS[devtype ?? ""] ?? "virtual");
    if (tunFlags !== null) kind = (Number(tunFlags) & 1) === 1 ? "tun" : "tap"; // IFF_TUN
    const addresses = (known[name] ?? []).flatMap(({ cidr }) => {
      const address = canonicalInterfaceAddress((cidr ?? "").replace(/%[^/]*/, ""));
      return address === null ? [] : [address];
    });
    if (kind === "virtual" && type === ARPHRD_ETHER && (await at("iflink")) !== (await at("ifindex"))) kind = "veth";
    if (kind === "veth" && addresses.length === 0) {
      veths++;
      continue;
    }
    interfaces.push({
      name: short(name),
      kind,
      mac: kind === "loopback" || mac === null ? null : canonicalMac(mac),
      mtu: mtu === null ? null : counter(mtu),
      up: (Number(flags) & 1) === 1, // IFF_UP
      carrier: carrier === null ? null : carrier === "1",
      addresses,
      rx_bytes: rx === null ? null : counter(rx),
      tx_bytes: tx === null ? null : counter(tx),
      speed_mbps: null,
      parent: null,
      master: null,
      tunnel: null,
    });
  }
  return { interfaces, veths };
}

/** What iproute2 does not say: speed, the effective reverse-path filter, VXLAN's remotes. */
async function complete(host: Host, item: Interface, allFilter: number | null): Promise<void> {
  if (item.kind === "physical" || item.kind === "bond") {
    const speed = await line(host, `class/net/${item.name}/speed`);
    // -1: unknown or no link
    item.speed_mbps = speed !== null && /^[0-9]+$/.test(speed) ? Number(speed) : null;
  }
  // A name with a slash cannot be: the kernel refuses it. One with a dot is a path of its own in /proc/sys.
  const filter = await host.proc(`sys/net/ipv4/conf/${item.name}/rp_filter`);
  const own = filter.ok ? counter(filter.text.trim()) : null;
  if (own !== null && allFilter !== null) item.rp_filter = Math.max(allFilter, own);
  if (item.kind === "vxlan") {
    const fdb = await host.run(["bridge", "-j", "fdb", "show", "dev", item.name]);
    if (fdb.is === "ok") item.remotes = parseFdbRemotes(fdb.stdout);
  }
}

export async function collectInterfaces(host: Host): Promise<Section<Interface[]> & { veths: number }> {
  const result = await host.run(["ip", "-j", "-d", "-s", "addr"]);
  let found: Interfaces | null = result.is === "ok" ? parseIpAddr(result.stdout) : null;
  let status = "ok";
  if (found === null) {
    // A small `ip` (busybox) knows no -j: as good as none.
    if (result.is !== "missing" && result.is !== "ok")
      status = `partial: ${failure("ip", result)}; read from /sys/class/net`;
    found = await fromSys(host);
    if (found.interfaces.length === 0)
      return { data: null, status: "error: neither ip nor /sys/class/net says what interfaces there are", veths: 0 };
  }
  const all = await host.proc("sys/net/ipv4/conf/all/rp_filter");
  const { items, truncated } = cut(found.interfaces);
  await Promise.all(items.map((item) => complete(host, item, all.ok ? counter(all.text.trim()) : null)));
  let some = truncated;
  for (const item of items) {
    const [addresses, remotes] = [cut(item.addresses), cut(item.remotes ?? [])];
    item.addresses = addresses.items;
    if (item.remotes != null) item.remotes = remotes.items;
    some ||= addresses.truncated || remotes.truncated;
  }
  return { data: items, status, veths: found.veths, ...(some ? { truncated: true } : {}) };
}
