// Owns which WireGuard interfaces are one network, what it is called, and in how many parts working links leave it. A
// link joins two networks (the smaller is relabelled); one that ends may split its network: that is looked at later,
// at most once a second. Pure.
import type { TopologyNetwork } from "../../shared/api.ts";
import {
  contains,
  familyBits,
  formatPrefix,
  isLinkLocal,
  network as networkPrefix,
  parsePrefix,
  type Prefix,
} from "../../shared/net.ts";
import { type Link, Network, type Seat } from "./memory.ts";
import { cachedPrefix } from "./prefixes.ts";
import { passes } from "./state.ts";

/** Prefixes listed of one network. */
const MAX_PREFIXES = 8;
/** Host addresses alone: the prefix that covers them all is its name, unless it is shorter than this. */
const MIN_NAME_LENGTH = 8;

/** Whether they have an address or a prefix in common; fe80:: says nothing. */
function sharesAddress(a: Seat, b: Seat): boolean {
  return a.addresses.some((text) => {
    const own = cachedPrefix(text);
    if (own === null || (own.family === 6 && isLinkLocal(own))) return false;
    return b.addresses.some((other) => {
      const prefix = cachedPrefix(other);
      if (prefix === null || prefix.family !== own.family) return false;
      return prefix.value === own.value || (prefix.length === own.length && contains(own, prefix));
    });
  });
}

export class Networks {
  readonly all = new Map<string, Network>();
  /** Those whose shown form may have changed. */
  readonly dirty = new Set<Network>();
  /** The replay at start is over. */
  settled = false;

  constructor(
    private readonly newId: () => string,
    /** A seat's network changed: what history has of its links changes too. */
    private readonly relabelled: (seat: Seat) => void,
  ) {}

  /** Gives a seat the network of an id known from the store. */
  adopt(seat: Seat, id: string): void {
    if (seat.network !== null) return;
    let network = this.all.get(id);
    if (network === undefined) {
      network = new Network(id, true);
      this.all.set(id, network);
    }
    this.#join(seat, network);
  }

  /** Gives a network that was taken for a new one the id that the store knows it by. */
  rename(network: Network, id: string): void {
    if (network.isStored || this.all.has(id)) return;
    this.all.delete(network.id);
    network.id = id;
    network.isStored = true;
    this.all.set(id, network);
    this.#touch(network);
    for (const seat of network.seats) this.relabelled(seat);
  }

  linked(link: Link): void {
    const { a, b } = link;
    if (a.network === null && b.network === null) {
      const network = new Network(this.newId());
      this.all.set(network.id, network);
      this.#join(a, network);
      this.#join(b, network);
    } else if (a.network === null) this.#join(a, b.network!);
    else if (b.network === null) this.#join(b, a.network);
    else if (a.network !== b.network) this.#merge(a.network, b.network);
    this.#touch(a.network!);
    for (const seat of [a, b]) this.siblings(seat);
  }

  /** Interfaces of one node that share an address or prefix are one: meshes with one interface a link. */
  siblings(seat: Seat): void {
    if (seat.network === null || seat.agent === null) return;
    for (const other of seat.agent.seats) {
      if (other === seat || other.network === null || other.network === seat.network) continue;
      if (sharesAddress(seat, other)) this.#merge(seat.network, other.network);
    }
  }

  unlinked(link: Link): void {
    for (const seat of [link.a, link.b]) {
      const { network } = seat;
      if (network === null) continue;
      this.#touch(network);
      if (seat.links.size === 0) this.#leave(seat);
    }
    const { a, b } = link;
    if (a.network === null || b.network === null) return;
    // A common neighbour still holds them together: so it is in every dense mesh.
    for (const neighbour of a.links.keys()) if (b.links.has(neighbour)) return;
    a.network.mayBeSplit = true;
  }

  /** An interface whose links went to another, or to several. */
  left(seat: Seat): void {
    if (seat.network === null || seat.links.size > 0) return;
    seat.network.mayBeSplit = true;
    this.#leave(seat);
  }

  /** Addresses changed: the name may, and siblings may join or part. */
  readdressed(seat: Seat): void {
    if (seat.network === null) return;
    this.#touch(seat.network);
    seat.network.mayBeSplit = true;
    this.siblings(seat);
  }

  moved(link: Link): void {
    this.recount(link.a);
  }

  /** Who has the seat reports now, or does so no more. */
  recount(seat: Seat): void {
    if (seat.network !== null) seat.network.partsDirty = true;
  }

  /** Splits what fell apart and counts parts anew, where something changed. */
  settle(counts: (seat: Seat) => boolean): void {
    for (const network of this.all.values()) {
      if (network.mayBeSplit) this.#split(network);
      if (!network.partsDirty) continue;
      network.partsDirty = false;
      const parts = countParts(network, counts);
      if (parts === network.parts) continue;
      network.parts = parts;
      this.dirty.add(network);
    }
  }

  #touch(network: Network): void {
    network.partsDirty = true;
    this.dirty.add(network);
  }

  #join(seat: Seat, network: Network): void {
    seat.network = network;
    network.seats.add(seat);
    this.relabelled(seat);
  }

  #leave(seat: Seat): void {
    const network = seat.network!;
    network.seats.delete(seat);
    seat.network = null;
    this.relabelled(seat);
    if (network.seats.size > 0) return;
    this.all.delete(network.id);
    this.dirty.add(network);
  }

  #merge(one: Network, two: Network): void {
    // While the replay puts it together again, the one that the store knows goes on.
    const weight = ({ isStored, seats }: Network) =>
      isStored && !this.settled ? Number.POSITIVE_INFINITY : seats.size;
    const [large, small] = weight(one) >= weight(two) ? [one, two] : [two, one];
    for (const seat of small.seats) this.#join(seat, large);
    small.seats.clear();
    large.mayBeSplit ||= small.mayBeSplit;
    this.all.delete(small.id);
    this.dirty.add(small);
    this.#touch(large);
  }

  #split(network: Network): void {
    network.mayBeSplit = false;
    const components: Seat[][] = [];
    const seen = new Set<Seat>();
    for (const start of network.seats) {
      if (seen.has(start)) continue;
      seen.add(start);
      const component = [start];
      for (let i = 0; i < component.length; i++) {
        const seat = component[i]!;
        const reach = (other: Seat) => {
          if (seen.has(other) || other.network !== network) return;
          seen.add(other);
          component.push(other);
        };
        for (const other of seat.links.keys()) reach(other);
        for (const other of seat.agent?.seats ?? []) if (other !== seat && sharesAddress(seat, other)) reach(other);
      }
      components.push(component);
    }
    if (components.length < 2) return;
    // It keeps its id where most of its members stay.
    components.sort((a, b) => b.length - a.length);
    for (const component of components.slice(1)) {
      const part = new Network(this.newId());
      this.all.set(part.id, part);
      for (const seat of component) {
        network.seats.delete(seat);
        this.#join(seat, part);
      }
      this.#touch(part);
    }
    this.#touch(network);
  }
}

/** Parts that have an agent which reports; nodes that do not report join parts but make none. */
function countParts(network: Network, counts: (seat: Seat) => boolean): number {
  const parent = new Map<string, string>();
  const find = (node: string): string => {
    let root = node;
    for (let up = parent.get(root); up !== undefined && up !== root; up = parent.get(root)) root = up;
    parent.set(node, root);
    return root;
  };
  const reporting = new Set<string>();
  for (const seat of network.seats) {
    find(seat.node);
    if (counts(seat)) reporting.add(seat.node);
    for (const link of seat.links.values()) {
      if (link.a !== seat || !passes(link)) continue;
      const [a, b] = [find(link.a.node), find(link.b.node)];
      if (a !== b) parent.set(a, b);
    }
  }
  return Math.max(1, new Set([...reporting].map(find)).size);
}

/** The longest prefix that covers all; null: none, or too short to name anything. */
function cover(prefixes: readonly Prefix[]): Prefix | null {
  const [first] = prefixes;
  if (first === undefined) return null;
  for (let length = first.length; length >= MIN_NAME_LENGTH; length--) {
    const shift = BigInt(familyBits(first.family) - length);
    if (prefixes.every((prefix) => prefix.value >> shift === first.value >> shift))
      return networkPrefix({ ...first, length });
  }
  return null;
}

/** How a network is shown. */
export function networkView(network: Network): TopologyNetwork {
  const counts = new Map<string, number>();
  const hosts: Prefix[] = [];
  const nodes = new Set<string>();
  for (const seat of network.seats) {
    nodes.add(seat.node);
    for (const text of seat.addresses) {
      const prefix = parsePrefix(text);
      if (prefix === null || isLinkLocal(prefix)) continue;
      if (prefix.length === familyBits(prefix.family)) hosts.push(prefix);
      else {
        const name = formatPrefix(networkPrefix(prefix));
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
    }
  }
  if (counts.size === 0) {
    for (const family of [4, 6] as const) {
      const covering = cover(hosts.filter((prefix) => prefix.family === family));
      if (covering !== null) counts.set(formatPrefix(covering), 1);
    }
  }
  const prefixes = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([prefix]) => prefix);
  return {
    id: network.id,
    name: prefixes[0] ?? "unnamed",
    prefixes: prefixes.slice(0, MAX_PREFIXES),
    nodes: nodes.size,
    parts: network.parts,
  };
}
