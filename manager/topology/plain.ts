// Owns the edges of the layers below and beside WireGuard (physical, tunnel, relay): each is there by evidence, keeps its
// id, and ends when its evidence is too old. Pure; physical.ts, tunnels.ts and relay.ts bring the evidence.
import type { EdgeState, Layer, TopologyEdge } from "../../shared/api.ts";
import type { AgentMemory } from "./memory.ts";
import { edgeHash } from "./versions.ts";

export type PlainLayer = Exclude<Layer, "wireguard">;
export type PlainEnd = { agent: AgentMemory; interface: string | null };

export class PlainEdge {
  state: EdgeState = "up";
  reason: string | null = null;
  /** Who gave evidence, and when it is too old. */
  readonly evidence = new Map<string, number>();
  stored: number | null = null;
  storedAt = Number.NEGATIVE_INFINITY;
  ended = false;
  constructor(
    readonly id: string,
    readonly layer: PlainLayer,
    readonly key: string,
    readonly a: PlainEnd,
    readonly b: PlainEnd,
    readonly firstSeenAt: number,
    public changedAt: number,
  ) {}
}

export class PlainLayers {
  readonly edges = new Map<string, PlainEdge>();
  readonly dirty = new Set<PlainEdge>();
  readonly #byKey = new Map<string, PlainEdge>();
  readonly #byNode = new Map<string, Set<PlainEdge>>();
  readonly #stored = new Map<string, TopologyEdge>();
  /** No evidence is too old before this. */
  #expiresAt = Number.POSITIVE_INFINITY;

  constructor(private readonly newId: () => string) {}

  static key(layer: PlainLayer, a: PlainEnd, b: PlainEnd, detail = ""): string {
    const [one, two] = [`${a.agent.id} ${a.interface ?? ""}`, `${b.agent.id} ${b.interface ?? ""}`];
    return layer === "relay" || one < two ? `${layer} ${one} ${two} ${detail}` : `${layer} ${two} ${one} ${detail}`;
  }

  remember(edges: Iterable<TopologyEdge>): void {
    for (const edge of edges) if (edge.layer !== "wireguard") this.#stored.set(storedKey(edge), edge);
  }

  /** Stored edges of a layer for which no evidence came again yet. */
  storedOf(layer: PlainLayer): TopologyEdge[] {
    return [...this.#stored.values()].filter((edge) => edge.layer === layer);
  }

  /** Stored edges for which no evidence came again; they are given up. */
  *unclaimed(): Iterable<TopologyEdge> {
    yield* this.#stored.values();
    this.#stored.clear();
  }

  of(nodeId: string): ReadonlySet<PlainEdge> {
    return this.#byNode.get(nodeId) ?? EMPTY;
  }

  /** Evidence by `witness` that the edge is there, good until `until`. */
  put(key: string, layer: PlainLayer, a: PlainEnd, b: PlainEnd, witness: string, at: number, until: number): PlainEdge {
    let edge = this.#byKey.get(key);
    if (edge === undefined) {
      const name = endsKey(layer, a.agent.id, a.interface, b.agent.id, b.interface);
      const stored = this.#stored.get(name);
      this.#stored.delete(name);
      edge = new PlainEdge(
        stored?.id ?? this.newId(),
        layer,
        key,
        a,
        b,
        stored?.first_seen_at ?? at,
        stored?.changed_at ?? at,
      );
      if (stored !== undefined) {
        edge.state = stored.state;
        edge.reason = stored.reason;
        edge.stored = edgeHash(stored);
      }
      this.#byKey.set(key, edge);
      this.edges.set(edge.id, edge);
      for (const end of [a, b]) {
        const own = this.#byNode.get(end.agent.id) ?? new Set();
        own.add(edge);
        this.#byNode.set(end.agent.id, own);
      }
      this.dirty.add(edge);
    }
    this.witness(edge, witness, until);
    return edge;
  }

  /** Evidence again by `witness` for an edge that has not ended. */
  witness(edge: PlainEdge, witness: string, until: number): void {
    if (!edge.evidence.has(witness)) this.dirty.add(edge);
    edge.evidence.set(witness, until);
    this.#expiresAt = Math.min(this.#expiresAt, until);
  }

  set(edge: PlainEdge, state: EdgeState, reason: string | null, at: number): void {
    if (edge.state === state && edge.reason === reason) return;
    if (edge.state !== state) edge.changedAt = Math.max(at, edge.storedAt);
    edge.state = state;
    edge.reason = reason;
    this.dirty.add(edge);
  }

  /** A witness takes its word back. */
  retract(edge: PlainEdge, witness: string): void {
    if (!edge.evidence.delete(witness)) return;
    this.dirty.add(edge);
    if (edge.evidence.size === 0) this.#end(edge);
  }

  /** Ends what has no evidence any more. Costs nothing while none can be too old. */
  expire(now: number): void {
    if (now < this.#expiresAt) return;
    this.#expiresAt = Number.POSITIVE_INFINITY;
    for (const edge of [...this.edges.values()]) {
      for (const [witness, until] of edge.evidence) {
        if (until <= now) this.retract(edge, witness);
        else this.#expiresAt = Math.min(this.#expiresAt, until);
      }
    }
  }

  forget(nodeId: string): void {
    for (const edge of [...this.of(nodeId)]) {
      edge.evidence.clear();
      this.#end(edge);
    }
    for (const edge of [...this.edges.values()]) this.retract(edge, nodeId);
  }

  #end(edge: PlainEdge): void {
    edge.ended = true;
    this.#byKey.delete(edge.key);
    this.edges.delete(edge.id);
    for (const end of [edge.a, edge.b]) this.#byNode.get(end.agent.id)?.delete(edge);
    this.dirty.add(edge);
  }
}

const EMPTY: ReadonlySet<PlainEdge> = new Set();

function endsKey(
  layer: string,
  aNode: string,
  aInterface: string | null,
  bNode: string,
  bInterface: string | null,
): string {
  const [one, two] = [`${aNode} ${aInterface ?? ""}`, `${bNode} ${bInterface ?? ""}`];
  return layer === "relay" || one < two ? `${layer} ${one} ${two}` : `${layer} ${two} ${one}`;
}

function storedKey(edge: TopologyEdge): string {
  return endsKey(edge.layer, edge.a.node, edge.a.interface, edge.b.node, edge.b.interface);
}
