// Owns tunnel edges: one end's local, remote and id match the other's; and tun/tap overlays by a point-to-point subnet
// that exactly two agents share. Pure.
import { canonicalPrefix } from "../../shared/net.ts";
import type { Interface, Report } from "../../shared/report.ts";
import type { AgentMemory } from "./memory.ts";
import { PlainLayers } from "./plain.ts";

type TunnelInterface = Interface & { tunnel: NonNullable<Interface["tunnel"]> };

function tunnelsOf(report: Report | null): TunnelInterface[] {
  return (report?.interfaces ?? []).filter((item): item is TunnelInterface => item.tunnel !== null);
}

function remotesOf(item: TunnelInterface): string[] {
  const remotes = new Set(item.remotes ?? []);
  if (item.tunnel.remote !== null) remotes.add(item.tunnel.remote);
  return [...remotes];
}

/** Whether `there` (on `far`) is the other end of `here` (on `agent`), which sends to `remote`. */
function isOtherEnd(agent: AgentMemory, here: TunnelInterface, remote: string, there: TunnelInterface): boolean {
  if (there.kind !== here.kind || there.tunnel.id !== here.tunnel.id) return false;
  if (there.tunnel.local !== null && there.tunnel.local !== remote) return false;
  return remotesOf(there).some((address) =>
    here.tunnel.local === null ? agent.addresses.has(address) : address === here.tunnel.local,
  );
}

/** Prefix of two addresses of a tun or tap device: /30, /31 (RFC 3021), /126, /127; null: none. */
function pointToPoint(item: Interface): string | null {
  if (item.kind !== "tun" && item.kind !== "tap") return null;
  for (const address of item.addresses) {
    const length = Number(address.slice(address.lastIndexOf("/") + 1));
    const narrow = address.includes(":") ? length >= 126 && length < 128 : length >= 30 && length < 32;
    if (narrow) return canonicalPrefix(address);
  }
  return null;
}

export class TunnelLayer {
  /** Point-to-point prefix → agents' interfaces that have it. */
  readonly #shared = new Map<string, Map<AgentMemory, string>>();
  readonly #prefixes = new Map<AgentMemory, Map<string, string>>();
  /** Keys of the edges that an agent bears witness to. */
  readonly #witnessed = new Map<AgentMemory, Set<string>>();

  constructor(
    private readonly layers: PlainLayers,
    private readonly agentsAt: (address: string) => ReadonlySet<AgentMemory> | null,
  ) {}

  /** `until`: when the agent's word is too old. */
  take(agent: AgentMemory, report: Report, at: number): void {
    if (report.interfaces === null) return;
    const said = new Set<string>();
    const bear = (key: string, own: Interface, far: AgentMemory, farName: string | null, farUp: boolean | null) => {
      said.add(key);
      const [here, there] = [
        { agent, interface: own.name },
        { agent: far, interface: farName },
      ];
      const [a, b] = agent.id < far.id ? [here, there] : [there, here];
      const edge = this.layers.put(key, "tunnel", a, b, agent.id, at, Number.POSITIVE_INFINITY);
      if (own.up === false || farUp === false) {
        this.layers.set(
          edge,
          "down",
          `${own.up === false ? own.name : farName} is down at ${(own.up === false ? agent : far).record.hostname}`,
          at,
        );
      } else if (farName === null) {
        this.layers.set(
          edge,
          "one_sided",
          `${far.record.hostname} has no matching ${own.kind} for ${own.name} of ${agent.record.hostname}`,
          at,
        );
      } else this.layers.set(edge, "up", null, at);
    };
    for (const own of tunnelsOf(report)) {
      for (const remote of remotesOf(own)) {
        for (const far of this.agentsAt(remote) ?? []) {
          if (far === agent) continue;
          const match = tunnelsOf(far.effective).find((there) => isOtherEnd(agent, own, remote, there)) ?? null;
          const hereName = `${agent.id} ${own.name}`;
          const key =
            match === null
              ? `tunnel ${hereName} → ${far.id}`
              : `tunnel ${[hereName, `${far.id} ${match.name}`].sort().join(" ")}`;
          bear(key, own, far, match?.name ?? null, match?.up ?? null);
        }
      }
    }
    const prefixes = new Map<string, string>();
    for (const item of report.interfaces) {
      const prefix = pointToPoint(item);
      if (prefix !== null) prefixes.set(prefix, item.name);
    }
    this.#index(agent, prefixes);
    for (const [prefix, name] of prefixes) {
      const sharers = this.#shared.get(prefix)!;
      if (sharers.size !== 2) continue;
      const [far, farName] = [...sharers].find(([other]) => other !== agent)!;
      const own = report.interfaces.find((item) => item.name === name)!;
      const there = far.effective?.interfaces?.find((item) => item.name === farName);
      bear(
        `tunnel ${[`${agent.id} ${name}`, `${far.id} ${farName}`].sort().join(" ")}`,
        own,
        far,
        farName,
        there?.up ?? null,
      );
    }
    // What it said before and does not say now.
    const before = this.#witnessed.get(agent);
    if (before !== undefined) {
      for (const edge of [...this.layers.of(agent.id)]) {
        if (edge.layer === "tunnel" && before.has(edge.key) && !said.has(edge.key)) this.layers.retract(edge, agent.id);
      }
    }
    if (said.size > 0) this.#witnessed.set(agent, said);
    else this.#witnessed.delete(agent);
  }

  forget(agent: AgentMemory): void {
    this.#index(agent, new Map());
    this.#prefixes.delete(agent);
    this.#witnessed.delete(agent);
  }

  #index(agent: AgentMemory, prefixes: Map<string, string>): void {
    for (const prefix of this.#prefixes.get(agent)?.keys() ?? []) {
      if (prefixes.has(prefix)) continue;
      const sharers = this.#shared.get(prefix);
      sharers?.delete(agent);
      if (sharers?.size === 0) this.#shared.delete(prefix);
    }
    for (const [prefix, name] of prefixes) {
      const sharers = this.#shared.get(prefix) ?? new Map<AgentMemory, string>();
      sharers.set(agent, name);
      this.#shared.set(prefix, sharers);
    }
    if (prefixes.size > 0) this.#prefixes.set(agent, prefixes);
    else this.#prefixes.delete(agent);
  }
}
