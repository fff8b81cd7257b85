// Owns a host of the lab: its network cards, addresses, routes, WireGuard interfaces, firewall, DNS server, and what a
// person would do on it (ping). Everything happens in its own namespaces; the machine's own network is never touched.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { covers, parsePrefix } from "../../shared/net.ts";
import type { Lab, Segment } from "./lab.ts";
import { type LabProcess, Namespace, type RunOptions, type RunResult } from "./namespace.ts";
import {
  generateKeyPair,
  type KeyPair,
  parseDump,
  type PeerOptions,
  type PeerStatus,
  type WireguardOptions,
} from "./wireguard.ts";

export type HostOptions = {
  /** Segments to be on from the start, as eth0, eth1, …; default: the lab's `underlay`. */
  segments?: Segment[];
  /** Content of its /etc/resolv.conf; default: the machine's own. */
  resolvConf?: string;
  /** Content of its /etc/machine-id; default: the machine's own. */
  machineId?: string;
  /** Other files that it sees in place of the machine's: path → content. The path must be there. */
  files?: Record<string, string>;
};

/** A card on a segment. Addresses are without length. */
export type Nic = { name: string; segment: Segment; address: string; address6: string; port: string };

export type PingOptions = {
  count?: number;
  /** Payload in bytes; the packet is 28 more (IPv6: 48). */
  size?: number;
  /** Seconds to wait for the last answer. */
  timeoutSeconds?: number;
  intervalSeconds?: number;
  /** Never fragment. */
  dontFragment?: boolean;
  source?: string;
};

export class WireguardInterface implements KeyPair {
  constructor(
    readonly host: Host,
    readonly name: string,
    readonly privateKey: string,
    readonly publicKey: string,
    readonly port: number,
    readonly addresses: string[],
    /** The wireguard-go behind it. */
    readonly process: LabProcess,
    private readonly makeRoutes: boolean,
  ) {}

  /** `address:port` at which the hosts of a segment (default: its first card's) reach it. */
  endpoint(nic = this.host.nics[0]): string {
    if (nic === undefined) throw new Error(`${this.host.name} is on no segment`);
    return `${nic.address}:${this.port}`;
  }

  /** The first address, without length. */
  get address(): string {
    return this.addresses[0]!.split("/")[0]!;
  }

  /** Adds peers, or changes what is given of those that are there. AllowedIPs replace the former ones. */
  async setPeers(...peers: PeerOptions[]): Promise<void> {
    // Routes first: a report between the two would truly say that AllowedIPs have no route.
    if (this.makeRoutes) await this.#routeTo(peers);
    const command = ["wg", "set", this.name];
    const secrets: string[] = [];
    for (const peer of peers) {
      command.push("peer", peer.publicKey);
      if (peer.presharedKey === null) command.push("preshared-key", "/dev/null");
      else if (peer.presharedKey !== undefined) {
        const file = join(this.host.dir, `preshared-${crypto.randomUUID()}`);
        writeFileSync(file, peer.presharedKey, { mode: 0o600 });
        secrets.push(file);
        command.push("preshared-key", file);
      }
      if (peer.endpoint !== undefined) command.push("endpoint", peer.endpoint);
      if (peer.keepalive !== undefined) command.push("persistent-keepalive", String(peer.keepalive));
      if (peer.allowedIps !== undefined) command.push("allowed-ips", peer.allowedIps.join(","));
    }
    try {
      await this.host.run(command);
    } finally {
      for (const file of secrets) rmSync(file);
    }
  }

  async #routeTo(peers: readonly PeerOptions[]): Promise<void> {
    const own = this.addresses.map((text) => parsePrefix(text)!);
    const routes = peers
      .flatMap((peer) => peer.allowedIps ?? [])
      .filter((text) => {
        const prefix = parsePrefix(text)!;
        return prefix.length > 0 && !own.some((address) => covers(address, prefix));
      });
    if (routes.length > 0) await this.host.ip(...routes.map((route) => `route replace ${route} dev ${this.name}`));
  }

  async removePeer(publicKey: string): Promise<void> {
    await this.host.run(["wg", "set", this.name, "peer", publicKey, "remove"]);
  }

  /** Puts another private key on it; the peers stay. Returns the interface as it is now. */
  async rekey(pair: KeyPair = generateKeyPair()): Promise<WireguardInterface> {
    await this.host.run(["wg", "set", this.name, "private-key", "/dev/stdin"], { input: pair.privateKey });
    const now = new WireguardInterface(
      this.host,
      this.name,
      pair.privateKey,
      pair.publicKey,
      this.port,
      this.addresses,
      this.process,
      this.makeRoutes,
    );
    this.host.wireguards.set(this.name, now);
    return now;
  }

  /** What `wg` says of its peers. */
  async peers(): Promise<PeerStatus[]> {
    return parseDump((await this.host.run(["wg", "show", this.name, "dump"])).stdout).peers;
  }

  /** What `wg` says of one peer. Throws when it is not listed. */
  async peer(publicKey: string): Promise<PeerStatus> {
    const found = (await this.peers()).find((peer) => peer.publicKey === publicKey);
    if (found === undefined) throw new Error(`${this.host.name} ${this.name} does not list ${publicKey}`);
    return found;
  }

  /** Ends wireguard-go; the interface is gone. */
  async remove(): Promise<void> {
    await this.process.stop();
    this.host.wireguards.delete(this.name);
  }
}

/** A dnsmasq that answers for the TXT records it was given, and refuses the rest. */
export class DnsServer {
  private process: LabProcess | null = null;
  constructor(
    private readonly host: Host,
    readonly address: string,
  ) {}

  /** Serves exactly these records from now on: name → values (each at most 255 bytes, no comma). */
  async serve(records: Record<string, string[]>): Promise<void> {
    await this.stop();
    const txt = Object.entries(records).flatMap(([name, values]) =>
      values.map((value) => `--txt-record=${name},${value}`),
    );
    this.process = await this.host.spawn([
      "dnsmasq",
      "--keep-in-foreground",
      "--conf-file=/dev/null",
      "--log-facility=-",
      "--user=root",
      "--pid-file=",
      "--no-resolv",
      "--no-hosts",
      "--bind-interfaces",
      `--listen-address=${this.address}`,
      ...txt,
    ]);
    await this.process.waitFor("started, version");
  }

  /** No answer from now on: the port is closed. */
  async stop(): Promise<void> {
    await this.process?.stop();
    this.process = null;
  }
}

export class Host implements AsyncDisposable {
  readonly nics: Nic[] = [];
  readonly wireguards = new Map<string, WireguardInterface>();

  constructor(
    readonly lab: Lab,
    readonly name: string,
    private readonly namespace: Namespace,
  ) {}

  /** Of this host's own: logs, state, whatever a test puts there. Gone with the lab. */
  get dir(): string {
    return this.namespace.dir;
  }
  /** Of its pid 1, from outside. */
  get pid(): number {
    return this.namespace.pid;
  }
  /** Its address on its first segment. */
  get address(): string {
    return this.nics[0]!.address;
  }
  get alive(): boolean {
    return this.namespace.alive;
  }

  run(command: string[], options?: RunOptions): Promise<RunResult> {
    return this.namespace.run(command, options);
  }

  spawn(
    command: string[],
    options?: { name?: string; env?: Record<string, string>; cwd?: string },
  ): Promise<LabProcess> {
    return this.namespace.spawn(command, options);
  }

  /** Where a path of this host is, as seen from outside. */
  path(path: string): string {
    return this.namespace.path(path);
  }

  /** Runs lines of `ip` in one batch: `ip("addr add 10.0.0.1/24 dev eth0", "route add …")`. */
  async ip(...lines: string[]): Promise<void> {
    await this.run(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /** Another card: eth0, eth1, … unless named. With the segment's next free addresses unless one is given. */
  async attach(
    segment: Segment,
    { name = `eth${this.nics.length}`, mtu, index }: { name?: string; mtu?: number; index?: number } = {},
  ): Promise<Nic> {
    const nic: Nic = { name, segment, ...segment.allocate(index), port: this.lab.nextPort() };
    await this.lab.switchIp(
      `link add ${nic.port} type veth peer name ${name} netns ${this.pid}`,
      `link set ${nic.port} ${mtu === undefined ? "" : `mtu ${mtu}`} master ${segment.bridge} up`,
    );
    await this.ip(
      `link set ${name} ${mtu === undefined ? "" : `mtu ${mtu}`} up`,
      `addr add ${nic.address}/${segment.length} dev ${name}`,
      `addr add ${nic.address6}/64 dev ${name} nodad`,
    );
    this.nics.push(nic);
    return nic;
  }

  /** Takes an interface of this host up or down. */
  async link(name: string, state: "up" | "down"): Promise<void> {
    await this.ip(`link set ${name} ${state}`);
  }

  /** Pulls a card's cable out of the switch, or puts it back in: the card stays up and loses its carrier. */
  async cable(nic: Nic, state: "in" | "out"): Promise<void> {
    await this.lab.switchIp(`link set ${nic.port} ${state === "in" ? "up" : "down"}`);
  }

  /** Forward packets between interfaces, IPv4 and IPv6. */
  async forward(on = true): Promise<void> {
    await this.sysctl({ "net.ipv4.ip_forward": on ? "1" : "0", "net.ipv6.conf.all.forwarding": on ? "1" : "0" });
  }

  async sysctl(settings: Record<string, string>): Promise<void> {
    await this.run(["sysctl", "-q", ...Object.entries(settings).map(([key, value]) => `${key}=${value}`)]);
  }

  /** Loads nftables rules as `nft -f` does: `nft("table ip t { chain input { … } }")`. */
  async nft(text: string): Promise<void> {
    await this.run(["nft", "-f", "-"], { input: `${text}\n` });
  }

  /** Makes it a NAT router: forwards, and gives what leaves by the card that card's address. */
  async masquerade(nic: Nic): Promise<void> {
    await this.forward();
    await this.nft(`table ip nat {
      chain postrouting {
        type nat hook postrouting priority 100
        oifname ${nic.name} masquerade
      }
    }`);
  }

  /** Limits what leaves by an interface to a rate, with a short queue. */
  async limit(interfaceName: string, kilobitsPerSecond: number): Promise<void> {
    // One full packet of burst at least, and 200 ms of queue: a slow line, not a broken one.
    await this.run(
      `tc qdisc replace dev ${interfaceName} root tbf rate ${kilobitsPerSecond}kbit burst 4kb latency 200ms`.split(" "),
    );
  }

  /** Makes a WireGuard interface: wireguard-go on a TUN device, up, with addresses, peers and routes. */
  async wireguard(name: string, options: WireguardOptions = {}): Promise<WireguardInterface> {
    const pair =
      options.privateKey !== undefined && options.publicKey !== undefined
        ? { privateKey: options.privateKey, publicKey: options.publicKey }
        : generateKeyPair();
    const { port = 51820, addresses = [], mtu, peers = [], routes = true } = options;
    const process = await this.spawn(["wireguard-go", "--foreground", name], {
      name: `wireguard-${name}`,
      env: { LOG_LEVEL: "error" },
    });
    const deadline = Date.now() + 10_000;
    while (!this.listensOn(`/wireguard/${name}.sock`)) {
      if (Date.now() > deadline)
        throw new Error(`${this.name}: wireguard-go ${name} did not start: ${process.output()}`);
      await Bun.sleep(5);
    }
    await this.run(["wg", "set", name, "listen-port", String(port), "private-key", "/dev/stdin"], {
      input: pair.privateKey,
    });
    await this.ip(
      ...addresses.map((address) => `addr add ${address} dev ${name}${address.includes(":") ? " nodad" : ""}`),
      `link set ${name} ${mtu === undefined ? "" : `mtu ${mtu}`} up`,
    );
    const made = new WireguardInterface(this, name, pair.privateKey, pair.publicKey, port, addresses, process, routes);
    this.wireguards.set(name, made);
    if (peers.length > 0) await made.setPeers(...peers);
    return made;
  }

  /** Whether a Unix socket whose path ends so is there and listens (__SO_ACCEPTCON in /proc/net/unix). `wg` deletes one that is bound but
   * does not listen yet, and with it the way to its interface. */
  private listensOn(pathEnd: string): boolean {
    const sockets = readFileSync(`/proc/${this.pid}/net/unix`, "utf8").split("\n");
    return sockets.some((line) => line.endsWith(pathEnd) && line.split(/\s+/)[3] === "00010000");
  }

  /** A dnsmasq on one of its addresses, port 53. */
  async dns(address = this.address, records: Record<string, string[]> = {}): Promise<DnsServer> {
    const server = new DnsServer(this, address);
    await server.serve(records);
    return server;
  }

  /** Whether at least one answer came back. */
  async ping(target: string, options: PingOptions = {}): Promise<boolean> {
    const { count = 1, size = 56, timeoutSeconds = 1, intervalSeconds = 0.2, dontFragment = false, source } = options;
    const command = ["ping", "-n", "-q", "-c", String(count), "-s", String(size), "-i", String(intervalSeconds)];
    command.push("-W", String(timeoutSeconds));
    if (dontFragment) command.push("-M", "do");
    if (source !== undefined) command.push("-I", source);
    const timeoutMs = (count * intervalSeconds + timeoutSeconds + 5) * 1000;
    return (await this.run([...command, target], { check: false, timeoutMs })).exitCode === 0;
  }

  /** Pings until an answer comes; false when none has within the time. A handshake takes one round trip more. */
  async pingUntil(target: string, timeoutSeconds = 10): Promise<boolean> {
    const deadline = Date.now() + timeoutSeconds * 1000;
    while (Date.now() < deadline) if (await this.ping(target)) return true;
    return false;
  }

  /** Sends about `bytes` there, and gets as many back (pings of 1,400 bytes as fast as they are answered). */
  async traffic(target: string, bytes: number): Promise<void> {
    const count = Math.ceil(bytes / 1400);
    await this.run(["ping", "-n", "-q", "-f", "-c", String(count), "-s", "1372", "-W", "1", target], { check: false });
  }

  /** Whether an interface is up, by its flags (IFF_UP); null when there is none. Costs no process. */
  isUp(interfaceName: string): boolean | null {
    try {
      return (Number(readFileSync(this.path(`/sys/class/net/${interfaceName}/flags`), "utf8")) & 1) === 1;
    } catch {
      return null;
    }
  }

  /** Pulls the plug: every process ends at once, the interfaces are gone. */
  async kill(): Promise<void> {
    await this.namespace.kill();
    this.lab.forget(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
