// Owns a small fleet that changes at random (seeded): agents join, leave and come back, change keys, addresses, peers and
// endpoints, fail to collect, and deliver late, out of order or by relay. Gives what ingest hands to inference.
import type { AgentRecord, Observation } from "../../manager/model.ts";
import type { Collected, Report } from "../../shared/report.ts";
import {
  addHost,
  collectHost,
  connect,
  createNetwork,
  type SimHost,
  type SimInterface,
  type SimNetwork,
  wireguardInterface,
} from "../fleet/network.ts";
import { fakeKey, fakeUuid, seeded } from "../fleet/random.ts";
import { observed, record } from "./build.ts";

export const INTERVAL_MS = 30_000;

export type Step =
  | { is: "join"; record: AgentRecord; at: number }
  | { is: "forget"; agentId: string; at: number }
  | { is: "report"; observation: Observation };

type Host = SimHost & { highestTick: number; kept: { report: Report; at: number }[]; cutOff: number; present: boolean };

/** Rounds of a fleet's life. Each round is one report interval, in which every host that is there reports once. */
export class RandomFleet {
  now: number;
  readonly #random: () => number;
  readonly #network: SimNetwork;
  readonly #interfaces = new Map<SimHost, SimInterface[]>();
  readonly #hidden = new Set<SimInterface>();
  #sections: ((report: Collected, host: SimHost) => void)[] = [];

  constructor(seed: number, hosts: number, startedAt: number) {
    this.now = startedAt;
    this.#random = seeded(seed);
    this.#network = createNetwork(seed + 1000);
    for (let i = 0; i < hosts; i++) this.#addHost();
    for (let i = 0; i < 2 * hosts; i++) this.#connect();
  }

  /** Ends every fault: what is there works, and reports. */
  calm(): void {
    this.#hidden.clear();
    for (const host of this.#hosts()) {
      host.down = false;
      host.cutOff = 0;
      for (const own of this.#owned(host)) own.up = true;
    }
    for (const link of this.#network.links) link.fault = null;
  }

  /** What happens in the next interval, in order of arrival. `quiet`: nothing changes but counters. */
  round({ quiet = false }: { quiet?: boolean } = {}): Step[] {
    const steps: Step[] = [];
    const endsAt = this.now + INTERVAL_MS;
    this.#sections = [];
    for (let i = quiet ? 0 : Math.floor(this.#random() * 3); i > 0; i--) this.#change(steps);
    const hosts = this.#hosts().filter((host) => host.present && !host.down);
    for (const host of hosts) {
      if (host.tick === 0) steps.push({ is: "join", record: record(host.id, host.hostname, this.now), at: this.now });
    }
    const spacing = INTERVAL_MS / (hosts.length + 1);
    for (const host of this.#shuffled(hosts)) {
      this.now += Math.floor(spacing * (0.2 + 0.7 * this.#random()));
      host.tick++;
      host.kept.push({ report: this.#report(host), at: this.now });
      if (host.cutOff > 0) {
        host.cutOff--;
        continue;
      }
      // A backlog is drained oldest first; after a relay took the newest, the older ones are superseded.
      const backlog = host.kept.splice(0);
      if (backlog.length > 1 && this.#random() < 0.4) backlog.unshift(backlog.pop()!);
      for (const { report, at } of backlog) {
        const age = this.now - at;
        const superseded = report.tick < host.highestTick;
        host.highestTick = Math.max(host.highestTick, report.tick);
        const relay = !quiet && this.#random() < 0.1 ? this.#pick(hosts) : null;
        const way = relay === null || relay === host ? {} : { relay_path: [relay.id], via: "relay" as const };
        const sent = { ...report, sent_at: this.now, age_ms: age };
        steps.push({ is: "report", observation: observed(sent, this.now, { superseded, ...way }) });
        this.now++;
      }
    }
    this.now = endsAt;
    return steps;
  }

  #report(host: Host): Report {
    const collected = collectHost(this.#network, host, this.now, INTERVAL_MS / 1000);
    collected.wireguard = (collected.wireguard ?? []).filter(
      ({ interface: name }) => !this.#owned(host).some((item) => item.name === name && this.#hidden.has(item)),
    );
    for (const change of this.#sections) change(collected, host);
    return structuredClone({
      ...collected,
      agent_id: host.id,
      nonce: fakeUuid(this.#random).replaceAll("-", ""),
      sent_at: this.now,
    });
  }

  #change(steps: Step[]): void {
    const random = this.#random;
    const host = this.#pick(this.#hosts().filter(({ present }) => present));
    if (host === null) return;
    const own = this.#pick(this.#owned(host));
    const end = this.#pick(host.ends);
    switch (Math.floor(random() * 21)) {
      case 0:
        if (this.#hosts().length < 12) this.#connect(this.#addHost());
        return;
      case 1:
        host.down = !host.down;
        return;
      case 2:
        if (host.tick === 0 || random() < 0.5) return;
        host.present = false;
        steps.push({ is: "forget", agentId: host.id, at: this.now });
        return;
      case 3:
      case 4:
        this.#connect(host);
        return;
      case 5: {
        // Its peer is removed at both ends, or at one.
        if (end === null) return;
        end.host.ends.splice(end.host.ends.indexOf(end), 1);
        if (random() < 0.6) end.other.host.ends.splice(end.other.host.ends.indexOf(end.other), 1);
        return;
      }
      case 6:
        if (own !== null) own.publicKey = fakeKey(random);
        return;
      case 7:
        host.publicAddress = `198.19.${Math.floor(random() * 4)}.${1 + Math.floor(random() * 200)}`;
        return;
      case 8:
        if (own !== null) own.address = `10.${Math.floor(random() * 3)}.0.${1 + Math.floor(random() * 200)}/24`;
        return;
      case 9:
        if (own !== null) own.up = !own.up;
        return;
      case 10:
        if (own !== null && !this.#hidden.delete(own)) this.#hidden.add(own);
        return;
      case 11:
        if (end !== null) end.keepalive = end.keepalive === null ? 25 : null;
        return;
      case 12:
        if (end !== null) end.allowedIps = [...end.allowedIps, `192.168.${100 + Math.floor(random() * 5)}.0/24`];
        return;
      case 13:
        if (end !== null) end.allowedIps = random() < 0.5 ? ["0.0.0.0/0"] : end.allowedIps.slice(0, 1);
        return;
      case 14:
        if (end !== null)
          end.link.fault = random() < 0.4 ? { is: "cut" } : random() < 0.5 ? { is: "blocked", from: end } : null;
        return;
      case 15:
        host.bootId = fakeUuid(random);
        return;
      case 16:
        host.cutOff = 1 + Math.floor(random() * 4);
        return;
      case 17: {
        const section = this.#pick(["wireguard", "interfaces", "routes", "neighbors"] as const)!;
        this.#sections.push((report, of) => {
          if (of === host) report[section] = null;
        });
        return;
      }
      case 18:
        this.#sections.push((report, of) => {
          for (const item of of === host ? (report.wireguard ?? []) : []) item.peers = null;
        });
        return;
      case 19: {
        const other = this.#pick(this.#hosts().filter((candidate) => candidate !== host && candidate.present));
        if (other !== null) host.overlays = [{ name: "vxlan7", remote: other, vni: 7 }];
        return;
      }
      case 20: {
        // Behind the same public address from now on, or no more.
        host.behindNat = !host.behindNat;
        return;
      }
    }
  }

  #hosts(): Host[] {
    return this.#network.hosts as Host[];
  }

  #owned(host: SimHost): SimInterface[] {
    return this.#interfaces.get(host) ?? [];
  }

  #addHost(): Host {
    const number = this.#network.hosts.length;
    const host = addHost(this.#network, `host-${number}`, `site-${number % 3}`, this.now) as Host;
    Object.assign(host, { highestTick: 0, kept: [], cutOff: 0, present: true });
    const count = this.#random() < 0.3 ? 2 : 1;
    this.#interfaces.set(
      host,
      Array.from({ length: count }, (_, i) =>
        wireguardInterface(this.#network, host, `wg${i}`, `10.${i}.0.${number + 1}/24`, 51820 + i),
      ),
    );
    return host;
  }

  #connect(from?: Host): void {
    const a = from ?? this.#pick(this.#hosts())!;
    const b = this.#pick(this.#hosts().filter((host) => host !== a));
    if (b === null) return;
    const [one, two] = [this.#pick(this.#owned(a))!, this.#pick(this.#owned(b))!];
    if (a.ends.some((end) => end.interface === one && end.other.interface === two)) return;
    const keepalive = this.#random() < 0.7 ? 25 : null;
    connect(
      this.#network,
      { host: a, interface: one, keepalive },
      { host: b, interface: two },
      this.now,
      this.#random() < 0.5 ? 0 : 5000,
    );
  }

  #pick<T>(items: readonly T[]): T | null {
    return items[Math.floor(this.#random() * items.length)] ?? null;
  }

  #shuffled<T>(items: readonly T[]): T[] {
    const rest = [...items];
    for (let i = rest.length - 1; i > 0; i--) {
      const j = Math.floor(this.#random() * (i + 1));
      [rest[i], rest[j]] = [rest[j]!, rest[i]!];
    }
    return rest;
  }
}
