// Owns relay edges: the way that reports take, from an agent by its relays. Pure.
import type { AgentMemory } from "./memory.ts";
import { PlainLayers } from "./plain.ts";

/** A way that no report took for so many intervals of its agent is used no more. */
const USED_INTERVALS = 3;

export class RelayLayer {
  readonly #ways = new Map<AgentMemory, string>();

  constructor(
    private readonly layers: PlainLayers,
    private readonly agent: (id: string) => AgentMemory | null,
  ) {}

  /** The way of an agent's newest report; [] is direct. Relays that are no known agents are passed over. */
  take(origin: AgentMemory, relayPath: readonly string[], now: number): void {
    const way = relayPath.join(" ");
    if (way === "" && !this.#ways.has(origin)) return;
    if (this.#ways.get(origin) !== way) {
      for (const edge of [...this.layers.edges.values()])
        if (edge.layer === "relay") this.layers.retract(edge, origin.id);
    }
    if (way === "") {
      this.#ways.delete(origin);
      return;
    }
    this.#ways.set(origin, way);
    const hops = [origin, ...relayPath.map((id) => this.agent(id)).filter((hop) => hop !== null)];
    for (let i = 1; i < hops.length; i++) {
      const [a, b] = [
        { agent: hops[i - 1]!, interface: null },
        { agent: hops[i]!, interface: null },
      ];
      if (a.agent === b.agent) continue;
      this.layers.put(
        PlainLayers.key("relay", a, b),
        "relay",
        a,
        b,
        origin.id,
        now,
        now + USED_INTERVALS * origin.intervalMs,
      );
    }
  }

  forget(origin: AgentMemory): void {
    this.#ways.delete(origin);
  }
}
