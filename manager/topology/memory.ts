// Owns the objects that inference keeps between reports: agents, WireGuard interfaces ("seats", an agent's or a foreign
// peer's), what each lists ("arcs"), and the links between two seats. Data only; wireguard.ts changes them.
import type { EdgeCause, EdgeState, TopologyEdge } from "../../shared/api.ts";
import { type Endpoint, parseEndpoint } from "../../shared/net.ts";
import type { Peer, Report } from "../../shared/report.ts";
import type { AgentRecord, Observation } from "../model.ts";
import type { LossMeter } from "./rates.ts";
import type { Remembered } from "./state.ts";
import { PeerMemory } from "./window.ts";

export class AgentMemory {
  /** Newest observation that counts as current. */
  latest: Observation | null = null;
  /** Its report, with sections that failed as they last were. */
  effective: Report | null = null;
  /** When the newest message arrived, whatever its tick; null: none yet. */
  receivedAt: number | null = null;
  intervalMs = 30_000;
  /** By what arrives: as history keeps it (late is a moment of online). */
  down = true;
  /** Silent for two intervals, and told so. */
  late = false;
  /** WireGuard interfaces, also those that are gone while a link still ends at them. */
  seats: Seat[] = [];
  /** Interface addresses without length → interface; loopback and link-local left out. */
  addresses: ReadonlyMap<string, string> = new Map();
  /** Interface and gateway of the main default route, as text; null: none; undefined: never seen. */
  defaultRoute: string | null | undefined = undefined;
  constructor(public record: AgentRecord) {}
  get id(): string {
    return this.record.agent_id;
  }
}

/** One end of WireGuard links: an agent's interface, or a foreign key (`agent` null). */
export class Seat {
  readonly links = new Map<Seat, Link>();
  /** What it lists, by public key. */
  readonly arcs = new Map<string, Arc>();
  /** The same in the order of the last list, where that had nothing else; null: look each one up. */
  order: readonly Arc[] | null = null;
  /** Of these, all that stand aside or lead to no agent's key as listed, and some that did: who looks, sorts them out. */
  readonly unsettled = new Set<Arc>();
  name: string | null = null;
  port: number | null = null;
  up: boolean | null = null;
  /** With length, as reported. */
  addresses: readonly string[] = [];
  /** Manager's time since which its host does not show it; null: it does. */
  goneSince: number | null = null;
  /** Manager's time at which its host last told of it. */
  heardAt = Number.NEGATIVE_INFINITY;
  network: Network | null = null;
  constructor(
    readonly agent: AgentMemory | null,
    public key: string,
  ) {}
  /** The id of its node. */
  get node(): string {
    return this.agent?.id ?? `wg:${this.key}`;
  }
}

/** What a seat lists for one key: its peer entry, and what is remembered of it. */
export class Arc extends PeerMemory {
  /** Where it belongs; null: shadowed by another entry for the same far end. */
  link: Link | null = null;
  /** It names a key that the far seat does not have (any more). */
  wrongKey = false;
  /** The far end was picked of several that have the key. */
  picked = false;
  /** Its packets go round in its own tunnel. */
  loops = false;
  /** The interface that its packets leave by; null: unknown. And the endpoint for which that was found out. */
  carrier: string | null = null;
  carriedFor: string | null = null;
  /** Prefixes that this entry says the far end routes for others; and what they were last worked out from. */
  attached: readonly string[] = [];
  attachedFrom: { own: readonly string[]; far: ReadonlyMap<string, string> | null; allowed: readonly string[] } | null =
    null;
  /** Its AllowedIPs hold all addresses of a family. */
  offersDefault = false;
  /** This host's default route leads to the far end. */
  exit = false;
  /** Seen by this seat at an address that is not the far end's own. */
  nat = false;
  /** What the endpoint said of it last, and what that was worked out from. */
  natFrom: {
    endpoint: string | null;
    addresses: ReadonlyMap<string, string>;
    port: number | null;
    natted: boolean;
  } | null = null;
  #dialled: { text: string; endpoint: Endpoint | null } | null = null;
  constructor(
    readonly seat: Seat,
    readonly key: string,
    public peer: Peer,
  ) {
    super();
  }
  /** Its far end is an agent, by the key that it lists. */
  get isSettled(): boolean {
    return this.link !== null && !this.wrongKey && this.link.other(this.seat).agent !== null;
  }
  /** The peer's endpoint; null: none known. */
  get endpoint(): Endpoint | null {
    const text = this.peer.endpoint;
    if (text === null) return null;
    if (this.#dialled?.text !== text) this.#dialled = { text, endpoint: parseEndpoint(text) };
    return this.#dialled.endpoint;
  }
}

/** A WireGuard edge. */
export class Link {
  arcA: Arc | null = null;
  arcB: Arc | null = null;
  state: EdgeState = "unknown";
  cause: EdgeCause | null = null;
  remembered: Remembered | null = null;
  loss: LossMeter | null = null;
  /** Hash of the version that history has; null: none yet. */
  stored: number | null = null;
  /** Since when history has it. */
  storedAt = Number.NEGATIVE_INFINITY;
  /** As the store had it: a replay that comes to the same state keeps the moment, and of a key's owners picks the same. */
  loaded: { state: EdgeState | null; changedAt: number; nodes: readonly string[]; edge: TopologyEdge } | null = null;
  ended = false;
  constructor(
    public id: string,
    public a: Seat,
    public b: Seat,
    public firstSeenAt: number,
    public changedAt: number,
  ) {}
  arcOf(seat: Seat): Arc | null {
    return seat === this.a ? this.arcA : this.arcB;
  }
  setArc(seat: Seat, arc: Arc | null): void {
    if (seat === this.a) this.arcA = arc;
    else this.arcB = arc;
  }
  other(seat: Seat): Seat {
    return seat === this.a ? this.b : this.a;
  }
}

/** WireGuard interfaces that links connect. */
export class Network {
  readonly seats = new Set<Seat>();
  parts = 1;
  /** A link's state moved between working and not, or it joined or left. */
  partsDirty = true;
  /** A link ended: it may have fallen into two. */
  mayBeSplit = false;
  constructor(
    public id: string,
    /** The store knows it by this id. */
    public isStored = false,
  ) {}
}
