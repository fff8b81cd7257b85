// Owns the objects that inference keeps between reports: agents, WireGuard interfaces ("seats", an agent's or a foreign
// peer's), what each lists ("arcs"), and the links between two seats. Data only; wireguard.ts changes them.
import type { EdgeCause, EdgeState, NodeStatus } from "../../shared/api.ts";
import type { Peer, Report } from "../../shared/report.ts";
import type { AgentRecord, Observation } from "../model.ts";
import type { Network } from "./networks.ts";
import type { LossMeter } from "./rates.ts";
import type { Remembered } from "./state.ts";
import { PeerMemory } from "./window.ts";

/** Counts reasons for each text: the texts that have any are what is so. */
export class Counted {
  #counts: Map<string, number> | null = null;
  /** Whether the text is new. */
  add(text: string): boolean {
    this.#counts ??= new Map();
    const count = this.#counts.get(text) ?? 0;
    this.#counts.set(text, count + 1);
    return count === 0;
  }
  /** Whether the text is gone. */
  remove(text: string): boolean {
    const count = this.#counts?.get(text) ?? 0;
    if (count > 1) this.#counts!.set(text, count - 1);
    else this.#counts?.delete(text);
    return count === 1;
  }
  sorted(): string[] {
    return this.#counts === null ? [] : [...this.#counts.keys()].sort();
  }
}

/** What peers say of a node: both agents and foreign peers have it. */
export class Repute {
  /** Prefixes that it routes for others, by the AllowedIPs that peers list for it. */
  readonly attached = new Counted();
  /** Peers whose default route it carries. */
  exits = 0;
  /** Peers that see it at an address that is not its own. */
  natted = 0;
}

export class AgentMemory {
  /** Newest observation that counts as current. */
  latest: Observation | null = null;
  /** Its report, with sections that failed as they last were. */
  effective: Report | null = null;
  /** When the newest message arrived, whatever its tick; null: none yet. */
  receivedAt: number | null = null;
  /** Until then it does not count as silent: the manager has only just started. */
  graceUntil = 0;
  intervalMs = 30_000;
  status: NodeStatus = "unknown";
  /** WireGuard interfaces, also those that are gone while an edge still ends at them. */
  seats: Seat[] = [];
  /** Interface addresses without length → interface. */
  addresses = new Map<string, string>();
  /** Manager's time of the last change of `addresses` after the first report. */
  addressesChangedAt = Number.NEGATIVE_INFINITY;
  readonly repute = new Repute();
  /** Links by which a peer heard from it after its agent fell silent. */
  vouchers = 0;
  /** Gateway and interface of the main default route, as text; null: none; undefined: never seen. */
  defaultRoute: string | null | undefined = undefined;
  constructor(public record: AgentRecord) {}
  get id(): string {
    return this.record.agent_id;
  }
}

/** A public key, and who has it. */
export class Key {
  /** Agents' interfaces that have it now; or the one foreign seat. */
  seats: Seat[] = [];
  /** The interface that had it last, while somebody still lists it. */
  former: Seat | null = null;
  /** Arcs that list it but belong to a seat with another key (a wrong or an old key). */
  readonly strays = new Set<Arc>();
  /** Arcs that list it. */
  uses = 0;
  constructor(readonly text: string) {}
}

/** One end of WireGuard links: an agent's interface, or a foreign key. */
export class Seat {
  readonly links = new Map<Seat, Link>();
  /** What it lists, in the order of the report. */
  arcs: Arc[] = [];
  /** Arcs of its own that list a key that no agent has now. */
  readonly loose = new Set<Arc>();
  name: string | null = null;
  port: number | null = null;
  up: boolean | null = null;
  /** With length, as reported. */
  addresses: readonly string[] = [];
  /** Manager's time since which its host does not show it; null: it does. */
  goneSince: number | null = null;
  /** When its host last told of it (arrival; observation). */
  heardAt = Number.NEGATIVE_INFINITY;
  observedAt = Number.NEGATIVE_INFINITY;
  fresh = false;
  network: Network | null = null;
  /** A foreign seat's; an agent's is its agent's. */
  readonly #repute: Repute | null;
  constructor(
    public agent: AgentMemory | null,
    public key: Key | null,
  ) {
    this.#repute = agent === null ? new Repute() : null;
  }
  get repute(): Repute {
    return this.agent?.repute ?? this.#repute ?? NOBODY;
  }
  /** The id of its node. */
  get node(): string {
    return this.agent?.id ?? `wg:${this.key?.text ?? ""}`;
  }
}
const NOBODY = new Repute();

const NONE: readonly string[] = [];

/** What a seat lists for one key: its peer entry, and what is remembered of it. */
export class Arc extends PeerMemory {
  /** Where it belongs; null: shadowed by another of the same key, or the seat's own key. */
  link: Link | null = null;
  /** It names a key that the far seat does not have (any more). */
  wrongKey = false;
  /** Seen by this seat at an address that is not the far end's own. */
  nat = false;
  /** Prefixes that this entry says the far end routes for others. */
  attached: readonly string[] = NONE;
  /** This host's default route leads to the far end. */
  exit = false;
  /** Its packets go round in its own tunnel. */
  loops = false;
  constructor(
    readonly seat: Seat,
    readonly key: Key,
    public peer: Peer,
  ) {
    super();
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
  /** Which node is vouched for by the other end: 0 none, 1 a, 2 b. */
  vouches: 0 | 1 | 2 = 0;
  /** What history holds of it differs from what is so. */
  dirty = false;
  ended = false;
  constructor(
    readonly id: string,
    public a: Seat,
    public b: Seat,
    readonly firstSeenAt: number,
    public changedAt: number,
  ) {}
  arcOf(seat: Seat): Arc | null {
    return seat === this.a ? this.arcA : this.arcB;
  }
  other(seat: Seat): Seat {
    return seat === this.a ? this.b : this.a;
  }
}
