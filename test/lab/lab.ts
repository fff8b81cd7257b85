// Owns a laboratory: hosts in namespaces of their own, joined by bridges ("segments") inside a switch namespace, with
// WireGuard meshes on them. Many labs can run at once, in one process or several: nothing has a name outside them.
//
//   await using lab = await createLab("mesh");
//   const [a, b] = await Promise.all([lab.host("a"), lab.host("b")]);
//   await lab.mesh([a, b], { keepalive: 25 });
//   await a.ping("10.9.0.2");
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Host, type HostOptions, type WireguardInterface } from "./host.ts";
import { Namespace } from "./namespace.ts";
import { generateKeyPair } from "./wireguard.ts";

const DIRECTORY_PREFIX = "kattila-lab-";

export type SegmentOptions = {
  /** First three bytes of its /24; default 192.168.50, 192.168.51, … */
  prefix?: string;
};

/** One broadcast domain: a bridge of the switch. */
export class Segment {
  private next = 1;
  constructor(
    readonly name: string,
    readonly bridge: string,
    /** `192.168.50` of 192.168.50.0/24. */
    readonly prefix: string,
    /** `fd50:0` of fd50:0::/64. */
    readonly prefix6: string,
  ) {}

  readonly length = 24;
  get subnet(): string {
    return `${this.prefix}.0/24`;
  }

  /** The addresses of its `index`-th host, or of the next. */
  allocate(index = this.next): { address: string; address6: string } {
    if (index > 254) throw new Error(`segment ${this.name} is full`);
    this.next = Math.max(this.next, index + 1);
    return { address: `${this.prefix}.${index}`, address6: `${this.prefix6}::${index}` };
  }
}

export type MeshOptions = {
  /** Default wg0. */
  interface?: string;
  /** First three bytes of its /24, default 10.9.0: the hosts are .1, .2, … in their order. */
  prefix?: string;
  /** `fd09::`: gives the hosts fd09::1/64, … as well. */
  prefix6?: string;
  port?: number;
  mtu?: number;
  /** Seconds; 0 (default) is off. */
  keepalive?: number;
  presharedKey?: string;
  /** Which pairs (by place in `hosts`) are peers; default: all. */
  pairs?: [number, number][];
};

export class Lab implements AsyncDisposable {
  private readonly hosts = new Set<Host>();
  private readonly segments: Segment[] = [];
  private readonly rules: string[] = [];
  private ports = 0;

  constructor(
    readonly name: string,
    /** Of this lab's own; gone with it. */
    readonly dir: string,
    private readonly lanSwitch: Namespace,
  ) {}

  /** The segment that hosts are on unless told otherwise. */
  get underlay(): Segment {
    return this.segments[0]!;
  }

  /** A new broadcast domain. */
  async segment(name: string, options: SegmentOptions = {}): Promise<Segment> {
    const place = this.segments.length;
    const { prefix = `192.168.${50 + place}` } = options;
    const segment = new Segment(name, `lan${place}`, prefix, `fd50:${place.toString(16)}`);
    this.segments.push(segment);
    await this.switchIp(`link add ${segment.bridge} type bridge mcast_snooping 0`, `link set ${segment.bridge} up`);
    return segment;
  }

  /** A new host. Its name is its host name too. */
  async host(name: string, options: HostOptions = {}): Promise<Host> {
    const { segments = [this.underlay], resolvConf, machineId, files = {} } = options;
    const bound = { ...files };
    if (resolvConf !== undefined) bound["/etc/resolv.conf"] = resolvConf;
    if (machineId !== undefined) bound["/etc/machine-id"] = machineId;
    // Taken before anything is awaited, so that hosts made side by side have addresses in the order of the calls.
    const indexes = segments.map((segment) => Number(segment.allocate().address.split(".")[3]));
    const namespace = await Namespace.create({ hostname: name, dir: join(this.dir, name), files: bound });
    const host = new Host(this, name, namespace);
    this.hosts.add(host);
    for (const [place, segment] of segments.entries()) await host.attach(segment, { index: indexes[place]! });
    return host;
  }

  /** A WireGuard mesh: an interface on each host, each a peer of each (or of those in `pairs`) by /32 (and /128). */
  async mesh(hosts: Host[], options: MeshOptions = {}): Promise<WireguardInterface[]> {
    const {
      interface: name = "wg0",
      prefix = "10.9.0",
      prefix6,
      port = 51820,
      keepalive,
      presharedKey,
      pairs,
    } = options;
    const keys = hosts.map(() => generateKeyPair());
    const isPair = (i: number, j: number) =>
      pairs === undefined ? i !== j : pairs.some(([x, y]) => (x === i && y === j) || (x === j && y === i));
    return Promise.all(
      hosts.map((host, i) =>
        host.wireguard(name, {
          ...keys[i]!,
          port,
          ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
          addresses: [`${prefix}.${i + 1}/24`, ...(prefix6 === undefined ? [] : [`${prefix6}${i + 1}/64`])],
          peers: hosts.flatMap((other, j) =>
            isPair(i, j)
              ? [
                  {
                    publicKey: keys[j]!.publicKey,
                    endpoint: `${other.address}:${port}`,
                    allowedIps: [`${prefix}.${j + 1}/32`, ...(prefix6 === undefined ? [] : [`${prefix6}${j + 1}/128`])],
                    ...(keepalive === undefined ? {} : { keepalive }),
                    ...(presharedKey === undefined ? {} : { presharedKey }),
                  },
                ]
              : [],
          ),
        }),
      ),
    );
  }

  /** Filters what the switch forwards: an nftables rule of the bridge family, as `ip saddr 192.168.50.1 udp dport 51820
   * drop`. The sender does not notice. Ends with `lift()`. */
  async filter(rule: string): Promise<{ lift(): Promise<void> }> {
    this.rules.push(rule);
    await this.applyRules();
    return {
      lift: async () => {
        const place = this.rules.indexOf(rule);
        if (place < 0) return;
        this.rules.splice(place, 1);
        await this.applyRules();
      },
    };
  }

  private applying: Promise<unknown> = Promise.resolve();

  /** One after the other: two at once could end with the older set of rules in force. */
  private applyRules(): Promise<unknown> {
    this.applying = this.applying.then(() => this.loadRules());
    return this.applying;
  }

  private async loadRules(): Promise<void> {
    const text = `table bridge lab { chain forward { type filter hook forward priority 0; }; }
      flush chain bridge lab forward
      ${this.rules.map((rule) => `add rule bridge lab forward ${rule}`).join("\n")}\n`;
    await this.lanSwitch.run(["nft", "-f", "-"], { input: text });
  }

  /** Lines of `ip` in the switch's namespace. */
  async switchIp(...lines: string[]): Promise<void> {
    // Without entering the switch's pid namespace: `netns <pid>` in a line is a pid as seen from here.
    const child = Bun.spawn(["nsenter", "-t", String(this.lanSwitch.pid), "--net", "--", "ip", "-batch", "-"], {
      stdin: Buffer.from(`${lines.join("\n")}\n`),
      stdout: "ignore",
      stderr: "pipe",
      timeout: 20_000,
    });
    const [errors, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
    if (code !== 0) throw new Error(`switch of ${this.name}: ip ${lines.join("; ")}: ${errors.trim()}`);
  }

  /** A name for the next port of the switch. */
  nextPort(): string {
    return `port${this.ports++}`;
  }

  forget(host: Host): void {
    this.hosts.delete(host);
  }

  /** Ends every host, and removes the lab's directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.hosts].map((host) => host.kill()));
    await this.lanSwitch.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

let labs = 0;

/** A lab with an empty switch and one segment, `underlay`. Ends with `await using`, or with the process. */
export async function createLab(name: string): Promise<Lab> {
  if (labs === 0) removeDirectoriesOfTheDead();
  const dir = join(tmpdir(), `${DIRECTORY_PREFIX}${process.pid}-${labs++}-${name}`);
  mkdirSync(dir, { mode: 0o700 });
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  const lab = new Lab(name, dir, await Namespace.create({ hostname: "switch", dir: join(dir, "switch") }));
  await lab.segment("underlay");
  return lab;
}

/** Namespaces end with their process by themselves; the directories of killed ones stay until someone looks. */
function removeDirectoriesOfTheDead(): void {
  for (const entry of readdirSync(tmpdir())) {
    if (!entry.startsWith(DIRECTORY_PREFIX)) continue;
    try {
      process.kill(Number(entry.slice(DIRECTORY_PREFIX.length).split("-")[0]), 0);
    } catch {
      rmSync(join(tmpdir(), entry), { recursive: true, force: true });
    }
  }
}
