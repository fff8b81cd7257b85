// Owns the WireGuard collector: `wg show interfaces`, then each interface's dump. The private key and the preshared keys
// are dropped here, in the parser, before any log, spool, dump or wire.
import { canonicalEndpoint, canonicalPrefix } from "../../shared/net.ts";
import type { Peer, Wireguard } from "../../shared/report.ts";
import { failure, type Host } from "../host.ts";
import { counter, cut, type Section } from "./section.ts";

// wireguard-tools, src/showconf and show.c (dump_print): the first line has 4 fields, each peer's has 8.
const INTERFACE_FIELDS = 4;
const PEER_FIELDS = 8;
const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;

export type Dump = {
  interface: Omit<Wireguard, "interface" | "peers" | "status"> | null;
  peers: Peer[];
  problems: string[];
  /** A list was cut to the wire's limit. */
  truncated: boolean;
};

function none(text: string): string | null {
  return text === "(none)" || text === "off" || text === "" ? null : text;
}

/** Seconds of it are still milliseconds that a Date holds. */
function wholeNumber(text: string): number | null {
  return /^[0-9]{1,12}$/.test(text) ? Number(text) : null;
}

/** `fwmark`: `off`, or a number in hex. */
function mark(text: string): number | null {
  const value = none(text);
  return value !== null && /^0x[0-9a-f]{1,8}$/i.test(value) ? Number(value) : null;
}

function parsePeer(fields: readonly string[]): Peer | string {
  const [publicKey, _presharedKey, endpoint, allowedIps, handshake, rx, tx, keepalive] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  if (!KEY.test(publicKey)) return "its public key is none";
  const [rxBytes, txBytes, handshakeSeconds] = [counter(rx), counter(tx), wholeNumber(handshake)];
  if (rxBytes === null || txBytes === null || handshakeSeconds === null) return "a counter is no number";
  const prefixes: string[] = [];
  for (const text of none(allowedIps)?.split(",") ?? []) {
    const prefix = canonicalPrefix(text);
    if (prefix === null) return "an AllowedIP is no prefix";
    prefixes.push(prefix);
  }
  const dialled = none(endpoint);
  const canonical = dialled === null ? null : canonicalEndpoint(dialled);
  if (dialled !== null && canonical === null) return "its endpoint is none";
  const seconds = none(keepalive);
  return {
    public_key: publicKey,
    endpoint: canonical,
    allowed_ips: prefixes,
    latest_handshake_at: handshakeSeconds === 0 ? null : handshakeSeconds * 1000,
    rx_bytes: rxBytes,
    tx_bytes: txBytes,
    persistent_keepalive_s: seconds === null ? null : wholeNumber(seconds),
  };
}

/**
 * Parses `wg show IF dump`: a line of the interface (private key, public key, listen port, fwmark), then one a peer
 * (public key, preshared key, endpoint, AllowedIPs, latest handshake in Unix s, rx, tx bytes, keepalive in s). Lines
 * that do not fit are skipped and told of by number, never by content.
 */
export function parseDump(text: string): Dump {
  const result: Dump = { interface: null, peers: [], problems: [], truncated: false };
  const lines = text.split("\n").filter((line) => line !== "");
  for (const [index, line] of lines.entries()) {
    const fields = line.split("\t");
    const wanted = index === 0 ? INTERFACE_FIELDS : PEER_FIELDS;
    if (fields.length !== wanted) {
      result.problems.push(`line ${index + 1} has ${fields.length} fields, not ${wanted}`);
      continue;
    }
    if (index === 0) {
      const [, publicKey, port, fwmark] = fields as [string, string, string, string];
      const listenPort = wholeNumber(port);
      result.interface = {
        public_key: KEY.test(publicKey) ? publicKey : null,
        listen_port: listenPort === null || listenPort === 0 || listenPort > 65535 ? null : listenPort,
        fwmark: mark(fwmark),
      };
      continue;
    }
    const peer = parsePeer(fields);
    if (typeof peer === "string") {
      result.problems.push(`line ${index + 1}: ${peer}`);
      continue;
    }
    const allowed = cut(peer.allowed_ips);
    result.peers.push({ ...peer, allowed_ips: allowed.items });
    result.truncated ||= allowed.truncated;
  }
  const { items, truncated } = cut(result.peers);
  return { ...result, peers: items, truncated: result.truncated || truncated };
}

const unread = (name: string, status: string): Wireguard => ({
  interface: name,
  public_key: null,
  listen_port: null,
  fwmark: null,
  peers: null,
  status,
});

async function collectOne(
  host: Host,
  name: string,
): Promise<{ item: Wireguard; problem: string | null; truncated: boolean }> {
  const result = await host.run(["wg", "show", name, "dump"]);
  if (result.is !== "ok") {
    const problem = failure("wg", result);
    return { item: unread(name, `error: ${problem}`), problem: `${name}: ${problem}`, truncated: false };
  }
  const { interface: own, peers, problems, truncated } = parseDump(result.stdout);
  if (own === null) {
    const problem = problems[0] ?? "wg printed nothing";
    return { item: unread(name, `error: ${problem}`), problem: `${name}: ${problem}`, truncated: false };
  }
  const status = problems.length === 0 ? "ok" : `partial: ${problems.length} skipped (${problems[0]})`;
  return {
    item: { interface: name, ...own, peers, status },
    problem: problems.length === 0 ? null : `${name}: ${problems.length} skipped, ${problems[0]}`,
    truncated,
  };
}

/** Every WireGuard interface. One hung userspace socket does not blind the others. */
export async function collectWireguard(host: Host): Promise<Section<Wireguard[]>> {
  const listed = await host.run(["wg", "show", "interfaces"]);
  if (listed.is === "missing") {
    // Without `wg`, the kernel still says whether there is anything to miss; a userspace one leaves its socket.
    const kernel = await kernelInterfaces(host);
    return kernel.length === 0
      ? { data: [], status: "ok" }
      : {
          data: null,
          status: `error: wg is not installed, and ${kernel.join(", ")} is there: install wireguard-tools`,
        };
  }
  if (listed.is !== "ok") return { data: null, status: `error: ${failure("wg", listed)}` };
  const names = listed.stdout
    .trim()
    .split(/\s+/)
    .filter((name) => name !== "");
  const results = await Promise.all(names.map((name) => collectOne(host, name)));
  const problems = results.map(({ problem }) => problem).filter((problem) => problem !== null);
  const failed = results.filter(({ item }) => item.peers === null).length;
  const severity = failed > 0 && failed === results.length ? "error" : "partial";
  return {
    data: results.map(({ item }) => item),
    status: problems.length === 0 ? "ok" : `${severity}: ${problems.join("; ").slice(0, 200)}`,
    ...(results.some(({ truncated }) => truncated) ? { truncated: true } : {}),
  };
}

async function kernelInterfaces(host: Host): Promise<string[]> {
  const names = await host.sysList("class/net");
  const found: string[] = [];
  for (const name of names) {
    const uevent = await host.sys(`class/net/${name}/uevent`);
    if (uevent.ok && /^DEVTYPE=wireguard$/m.test(uevent.text)) found.push(name);
  }
  return found;
}
