// Owns the making of a planned network out of namespaces and WireGuard, and what is asked of it there: the agents' view,
// and real pings.
import { resolve } from "node:path";
import type { Host } from "../lab/host.ts";
import { createLab, type Lab } from "../lab/lab.ts";
import { generateKeyPair } from "../lab/wireguard.ts";
import type { Sections } from "../topology/path_reader.ts";
import { type Plan, TUNNEL_MARK, UNDERLAY } from "./plan.ts";

const AGENT = resolve(import.meta.dir, "../../agent/main.ts");

/** All at once: a ping that is not answered takes its whole second. */
const PING_ALL = `for target; do (ping -n -q -c 1 -W 1 "$target" > /dev/null 2>&1 && echo "$target") & done; wait`;

/** Runs lines of `ip`, the IPv4 ones and those that begin with `-6 `; one that does not fit the host is passed over. */
async function batch(host: Host, lines: readonly string[]): Promise<void> {
  for (const family of ["-4", "-6"]) {
    const own = lines.filter((line) => line.startsWith("-6 ") === (family === "-6"));
    const input = own.map((line) => `${line.replace(/^-6 /, "")}\n`).join("");
    if (input !== "") await host.run(["ip", family, "-force", "-batch", "-"], { input, check: false });
  }
}

export class BuiltNetwork implements AsyncDisposable {
  private constructor(
    private readonly lab: Lab,
    readonly hosts: Host[],
    /** By host: every address at which it is to be pinged. */
    readonly addresses: string[][],
  ) {}

  static async build(plan: Plan): Promise<BuiltNetwork> {
    const lab = await createLab(`path${plan.seed}`);
    try {
      const segments = [lab.underlay];
      for (const [place, prefix] of plan.segments.slice(1).entries())
        segments.push(await lab.segment(`lan${place + 1}`, { prefix }));
      const hosts = await Promise.all(
        plan.hosts.map((host) => lab.host(host.name, { segments: host.segments.map((place) => segments[place]!) })),
      );
      const keys = new Map(
        plan.hosts.flatMap((host, i) => host.tunnels.map(({ name }) => [`${i} ${name}`, generateKeyPair()])),
      );
      const keyOf = (i: number, name: string) => keys.get(`${i} ${name}`)!;
      await Promise.all(
        plan.hosts.map(async (host, i) => {
          const made = hosts[i]!;
          if (host.forward) await made.forward();
          if (Object.keys(host.sysctl).length > 0) await made.sysctl(host.sysctl);
          // The tunnels' own packets are none of the faults' business: what breaks them is an edge's affair, not a path's.
          await batch(made, [
            `rule add fwmark ${TUNNEL_MARK} lookup main priority 1`,
            `rule add to ${UNDERLAY}.0/24 lookup main priority 2`,
            `-6 rule add fwmark ${TUNNEL_MARK} lookup main priority 1`,
            "-6 rule add to fd50:0::/64 lookup main priority 2",
          ]);
          for (const { name, port, addresses } of host.tunnels) {
            await made.wireguard(name, { ...keyOf(i, name), port, addresses });
            await made.run(["wg", "set", name, "fwmark", String(TUNNEL_MARK)]);
          }
        }),
      );
      await Promise.all(
        plan.hosts.map(async (host, i) => {
          const made = hosts[i]!;
          for (const { name, peers } of host.tunnels) {
            const settings = peers.map((peer) => ({
              publicKey: keyOf(peer.host, peer.interface).publicKey,
              allowedIps: peer.allowedIps,
              ...(peer.endpoint
                ? { endpoint: hosts[peer.host]!.wireguards.get(peer.interface)!.endpoint(), keepalive: 25 }
                : {}),
            }));
            if (settings.length > 0) await made.wireguards.get(name)!.setPeers(...settings);
          }
          await batch(made, host.lines);
          for (const rules of host.nft) await made.nft(rules);
        }),
      );
      const addresses = plan.hosts.map((host, i) => [
        ...host.tunnels.flatMap((tunnel) => tunnel.addresses.map((text) => text.slice(0, text.lastIndexOf("/")))),
        ...hosts[i]!.nics.filter((nic) => nic.segment !== lab.underlay).flatMap((nic) => [nic.address, nic.address6]),
      ]);
      return new BuiltNetwork(lab, hosts, addresses);
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the agent of a host would report. */
  async report(host: Host): Promise<Sections> {
    return JSON.parse((await host.run([process.execPath, AGENT, "-sysinfo"])).stdout) as Sections;
  }

  /** Pings every target from a host; returns those that answered. */
  async ping(host: Host, targets: readonly string[]): Promise<Set<string>> {
    const { stdout } = await host.run(["sh", "-c", PING_ALL, "ping", ...targets]);
    return new Set(stdout.split("\n"));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lab[Symbol.asyncDispose]();
  }
}
