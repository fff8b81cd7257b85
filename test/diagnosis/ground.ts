// Owns one laboratory of the diagnosis suite: hosts, a mesh that can be made again, a manager, agents, and what the
// manager's alarms say.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Alarm, AlarmsResponse } from "../../shared/api.ts";
import type { Host, WireguardInterface } from "../lab/host.ts";
import { createLab, type Lab } from "../lab/lab.ts";
import type { LabProcess } from "../lab/namespace.ts";
import { eventually, MANAGER_PORT, RunningAgent, RunningManager } from "../lab/programs.ts";
import { generateKeyPair, type KeyPair, type PeerOptions } from "../lab/wireguard.ts";
import { INTERVAL_S } from "./faults.ts";

/** The fleet key of the suite; nobody else's. */
const TEST_PSK = "diagnosis-suite-fleet-key-0123456789abcdef";
const COMPILED = existsSync(
  join(import.meta.dir, `../../agent/bin/agent-${process.arch === "arm64" ? "arm64" : "amd64"}`),
);

/** A WireGuard interface as it should be, so that it can be made again. */
export type Plan = KeyPair & { host: string; name: string; port: number; address: string; peers: PeerOptions[] };

export class Ground {
  readonly hosts = new Map<string, Host>();
  readonly agents = new Map<string, RunningAgent>();
  readonly plans = new Map<string, Plan>();
  readonly wireguards = new Map<string, WireguardInterface>();
  readonly ids = new Map<string, string>();
  manager!: RunningManager;
  #pings: { host: string; command: string[]; process: LabProcess | null }[] = [];

  private constructor(readonly lab: Lab) {}

  static async create(name: string): Promise<Ground> {
    return new Ground(await createLab(`diagnosis-${name}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }

  host(name: string): Host {
    const found = this.hosts.get(name);
    if (found === undefined) throw new Error(`no host ${name}`);
    return found;
  }

  async addHosts(...names: string[]): Promise<void> {
    const made = await Promise.all(names.map((name) => this.lab.host(name)));
    for (const host of made) this.hosts.set(host.name, host);
  }

  async startManager(host: string, settings: Record<string, string> = { PSK: TEST_PSK }, prefix: string[] = []) {
    this.manager = await RunningManager.start(this.host(host), { settings, prefix });
  }

  /** Starts agents, and waits until the manager has each one's report. */
  async startAgents(
    names: string[],
    settings: Record<string, string> = { PSK: TEST_PSK },
    prefix: string[] = [],
  ): Promise<void> {
    const managerUrl = `http://${this.manager.host.address}:${MANAGER_PORT}`;
    for (const name of names) {
      const agent = await RunningAgent.start(this.host(name), {
        managerUrl,
        settings,
        prefix,
        intervalSeconds: INTERVAL_S,
        compiled: COMPILED,
      });
      this.agents.set(name, agent);
    }
  }

  /** Waits until every one of these has reported; their ids are known then. */
  async heard(...names: string[]): Promise<void> {
    await eventually(
      `${names.join(", ")} report`,
      async () => {
        const { agents } = await this.manager.get<{
          agents: { agent_id: string; hostname: string; tick: number | null }[];
        }>("/status/agents");
        for (const agent of agents) if (agent.tick !== null) this.ids.set(agent.hostname, agent.agent_id);
        return names.every((name) => this.ids.has(name));
      },
      30_000,
    );
  }

  async restartAgent(name: string, settings?: Record<string, string>, prefix?: string[]): Promise<void> {
    await this.agents.get(name)?.stop();
    await this.startAgents([name], settings, prefix);
  }

  /** While an agent is stopped in its tracks, what is done to its host is one change to it. */
  async unseenBy(name: string, change: () => Promise<unknown>): Promise<void> {
    const agent = this.agents.get(name)!;
    agent.process.kill("SIGSTOP");
    try {
      await change();
    } finally {
      agent.process.kill("SIGCONT");
    }
  }

  /**
   * Plans a mesh on hosts, 10.9.0.1, .2, … in their order, each pair as peers by /32 with endpoints; `adjust` changes a
   * peer's entry before it is made.
   */
  planMesh(
    hosts: string[],
    {
      name = "wg0",
      port = 51820,
      prefix = "10.9.0",
      keepalive = 25,
      nic = 0,
      adjust = (_from: string, _to: string, peer: PeerOptions): PeerOptions | null => peer,
    } = {},
  ): void {
    const keys = hosts.map(() => generateKeyPair());
    for (const [i, host] of hosts.entries()) {
      const peers = hosts.flatMap((other, j) => {
        if (i === j) return [];
        const peer = adjust(host, other, {
          publicKey: keys[j]!.publicKey,
          endpoint: `${this.host(other).nics[nic]!.address}:${port}`,
          allowedIps: [`${prefix}.${j + 1}/32`],
          ...(keepalive === 0 ? {} : { keepalive }),
        });
        return peer === null ? [] : [peer];
      });
      this.plans.set(`${host}/${name}`, { ...keys[i]!, host, name, port, address: `${prefix}.${i + 1}/24`, peers });
    }
  }

  plan(host: string, name = "wg0"): Plan {
    return this.plans.get(`${host}/${name}`)!;
  }

  wg(host: string, name = "wg0"): WireguardInterface {
    return this.wireguards.get(`${host}/${name}`)!;
  }

  peer(host: string, to: string, name = "wg0"): PeerOptions {
    const key = this.plan(to, name).publicKey;
    return this.plan(host, name).peers.find((peer) => peer.publicKey === key)!;
  }

  /** Makes what is planned (again): all of it, one host's, or one interface. */
  async makeWireguard(host?: string, interfaceName?: string): Promise<void> {
    for (const plan of this.plans.values()) {
      if (host !== undefined && plan.host !== host) continue;
      if (interfaceName !== undefined && plan.name !== interfaceName) continue;
      const { privateKey, publicKey, port, address, peers } = plan;
      this.wireguards.set(
        `${plan.host}/${plan.name}`,
        await this.host(plan.host).wireguard(plan.name, { privateKey, publicKey, port, addresses: [address], peers }),
      );
    }
  }

  /** Steady pings, so that a tunnel that breaks is noticed in 15 s: `[from, to address]`. */
  async keepPinging(pairs: [host: string, address: string][], size = 56): Promise<void> {
    for (const [host, address] of pairs) {
      const ping = { host, command: ["ping", "-n", "-q", "-i", "1", "-s", String(size), address], process: null };
      this.#pings.push(ping);
    }
    await this.resumePings();
  }

  /** Starts the pings of a host (of all) again, after it lost power. */
  async resumePings(host?: string): Promise<void> {
    for (const ping of this.#pings) {
      if (host === undefined ? ping.process !== null : ping.host !== host) continue;
      ping.process = await this.host(ping.host).spawn(ping.command, { name: "ping" });
    }
  }

  /** A host that lost power is there again: address, WireGuard, pings, agent. */
  async switchOn(name: string, index: number): Promise<void> {
    const host = await this.lab.host(name, { segments: [] });
    await host.attach(this.lab.underlay, { index });
    this.hosts.set(name, host);
    await this.makeWireguard(name);
    await this.resumePings(name);
    if (this.agents.has(name)) await this.startAgents([name]);
  }

  async alarms(state: "open" | "all" = "open"): Promise<Alarm[]> {
    return (await this.manager.get<AlarmsResponse>(`/status/alarms?state=${state}&limit=1000`)).alarms;
  }

  /** An operator acknowledges. */
  async acknowledge(code: string): Promise<void> {
    const token = (await Bun.file(join(this.manager.stateDir, "admin_token")).text()).trim();
    for (const alarm of await this.alarms()) {
      if (alarm.code !== code || alarm.state !== "open") continue;
      const answer = await this.manager.door.fetch(`/status/alarms/${alarm.id}/ack`, {
        method: "POST",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: "{}",
      });
      if (!answer.ok) throw new Error(`acknowledge ${code}: ${answer.status} ${await answer.text()}`);
    }
  }

  /** What the edges say, for a message about what went wrong. */
  async edges(): Promise<string[]> {
    const { edges } = await this.manager.get<{
      edges: {
        id: string;
        layer: string;
        state: string;
        cause: string | null;
        reason: string | null;
        a: { node: string; interface: string | null };
        b: { node: string; interface: string | null };
      }[];
    }>("/status/topology");
    const names = new Map([...this.ids].map(([name, id]) => [id, name]));
    const end = (item: { node: string; interface: string | null }) =>
      `${names.get(item.node) ?? item.node.slice(0, 8)} ${item.interface ?? "?"}`;
    return edges.map(
      (edge) => `${edge.layer} ${end(edge.a)} – ${end(edge.b)}: ${edge.state} ${edge.cause ?? ""} ${edge.reason ?? ""}`,
    );
  }
}
