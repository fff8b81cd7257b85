// Owns physical evidence: A's neighbour entry (address, MAC), where one agent B owns both on one host. A shared private
// subnet or a shared gateway MAC is none. Pure.
import type { Interface, Neighbor, Report } from "../../shared/report.ts";
import type { AgentMemory } from "./memory.ts";
import { type PlainEdge, PlainLayers } from "./plain.ts";

/** The edge ends a day after the last evidence: idle neighbours leave the cache, hosts do not leave the room. */
const EVIDENCE_MS = 24 * 3_600_000;
// Addresses that move between hosts, or that many share: VRRP and CARP (RFC 9568), HSRP 1 and 2, GLBP.
const SHARED_MAC = /^(00:00:5e:00:0[12]:|00:00:0c:07:ac:|00:00:0c:9f:f|00:07:b4:00:)/;

/** A card or bridge that others on the same wire can see. */
export function isOnWire(item: Interface): boolean {
  if (item.mac === null || SHARED_MAC.test(item.mac)) return false;
  if (item.kind === "loopback" || item.kind === "wireguard" || item.kind === "dummy" || item.kind === "tun")
    return false;
  // A bridge whose ports are all veth or tap lives in its host alone (docker, libvirt).
  if (item.kind === "bridge" && item.ports != null)
    return item.ports.other > 0 || item.ports.veth + item.ports.tap === 0;
  return !item.tunnel;
}

/** MAC → interface of what is on the wire. */
export function wireMacs(report: Report): Map<string, string> {
  const macs = new Map<string, string>();
  for (const item of report.interfaces ?? []) {
    if (!isOnWire(item)) continue;
    // A bridge has its port's MAC: the one with addresses is the one that answers.
    if (!macs.has(item.mac!) || item.addresses.length > 0) macs.set(item.mac!, item.name);
  }
  return macs;
}

/** What an agent's neighbour entries proved, and from what: it stays so while nothing of that changes. */
type Proven = { neighbors: readonly Neighbor[]; epoch: number; edges: readonly PlainEdge[] };

export class PhysicalLayer {
  /** Counts changes of whose the MACs and addresses are. */
  #epoch = 0;
  readonly #proven = new Map<AgentMemory, Proven>();
  readonly #owners = new Map<string, Map<AgentMemory, string>>();
  readonly #macs = new Map<AgentMemory, Map<string, string>>();

  constructor(
    private readonly layers: PlainLayers,
    private readonly agentsAt: (address: string) => ReadonlySet<AgentMemory> | null,
  ) {}

  /** An agent's addresses are others now. */
  readdressed(): void {
    this.#epoch++;
  }

  /** `steady`: its interfaces are as in its report before. */
  take(agent: AgentMemory, report: Report, at: number, steady: boolean): void {
    if (report.interfaces !== null && !steady) this.#index(agent, wireMacs(report));
    const own = this.#macs.get(agent);
    if (report.neighbors === null || own === undefined) return;
    const proven = this.#proven.get(agent);
    if (
      proven?.neighbors === report.neighbors &&
      proven.epoch === this.#epoch &&
      proven.edges.every((edge) => !edge.ended)
    ) {
      for (const edge of proven.edges) this.layers.witness(edge, agent.id, at + EVIDENCE_MS);
      return;
    }
    const edges: PlainEdge[] = [];
    const wires = new Set(own.values());
    for (const { address, mac, interface: name } of report.neighbors) {
      if (!wires.has(name) || SHARED_MAC.test(mac)) continue;
      const owners = this.#owners.get(mac);
      if (owners === undefined) continue;
      const addressed = this.agentsAt(address);
      const both = [...owners.keys()].filter((owner) => addressed?.has(owner) === true);
      // A pair that two agents own proves nothing about either.
      if (both.length !== 1 || both[0] === agent) continue;
      const far = both[0]!;
      const [a, b] = [
        { agent, interface: name },
        { agent: far, interface: owners.get(far)! },
      ];
      const [first, second] = a.agent.id < b.agent.id ? [a, b] : [b, a];
      const edge = this.layers.put(
        PlainLayers.key("physical", a, b),
        "physical",
        first,
        second,
        agent.id,
        at,
        at + EVIDENCE_MS,
      );
      this.layers.set(edge, "up", null, at);
      edges.push(edge);
    }
    this.#proven.set(agent, { neighbors: report.neighbors, epoch: this.#epoch, edges });
  }

  /**
   * After the replay at start, which is shorter than evidence lasts: what the store had stays. When it was last witnessed is
   * not stored; a day from now is the most that it can be good for.
   */
  recover(agentOf: (id: string) => AgentMemory | null, now: number): void {
    for (const stored of this.layers.storedOf("physical")) {
      const [a, b] = [agentOf(stored.a.node), agentOf(stored.b.node)];
      if (a === null || b === null) continue;
      const [one, two] = [
        { agent: a, interface: stored.a.interface },
        { agent: b, interface: stored.b.interface },
      ];
      const key = PlainLayers.key("physical", one, two);
      for (const witness of stored.observed_by)
        this.layers.put(key, "physical", one, two, witness, now, now + EVIDENCE_MS);
    }
  }

  forget(agent: AgentMemory): void {
    this.#index(agent, new Map());
    this.#macs.delete(agent);
    this.#proven.delete(agent);
  }

  #index(agent: AgentMemory, macs: Map<string, string>): void {
    const before = this.#macs.get(agent) ?? new Map<string, string>();
    this.#macs.set(agent, macs);
    if (before.size === macs.size && [...macs].every(([mac, name]) => before.get(mac) === name)) return;
    this.#epoch++;
    for (const mac of before.keys()) {
      if (macs.has(mac)) continue;
      const owners = this.#owners.get(mac);
      owners?.delete(agent);
      if (owners?.size === 0) this.#owners.delete(mac);
    }
    for (const [mac, name] of macs) {
      const owners = this.#owners.get(mac) ?? new Map<AgentMemory, string>();
      owners.set(agent, name);
      this.#owners.set(mac, owners);
    }
  }
}
