// Owns what the stream's listeners hear: committed changes, gathered for a moment so that a burst is one message.
import type { Fleet, Published } from "./fleet.ts";
import type { Stream } from "./stream.ts";
import type { Segments } from "./topology/segments.ts";

/** Long enough to gather a burst of reports, short enough to be live. */
const GATHER_MS = 250;

export class Live {
  #nodes = new Set<string>();
  #edges = new Set<string>();
  #networks = new Set<string>();
  #timer: Timer | null = null;
  /** Large segments at the last message: what the topology gave, and how they look. null: there was no message. */
  #segments: { of: Segments; shown: string } | null = null;

  constructor(
    private readonly stream: Stream,
    private readonly fleet: () => Fleet,
    private readonly now: () => number,
  ) {}

  publish({ versions, moved, alarms, events }: Published): void {
    if (this.stream.listeners === 0) return;
    const sets = { node: this.#nodes, edge: this.#edges, network: this.#networks };
    for (const version of versions) sets[version.kind].add(version.id);
    for (const id of moved.nodes) this.#nodes.add(id);
    for (const id of moved.edges) this.#edges.add(id);
    if (versions.length + moved.nodes.length + moved.edges.length > 0)
      this.#timer ??= setTimeout(() => this.#flush(), GATHER_MS);
    const now = this.now();
    for (const { since_at: _since, memory: _memory, state, ...alarm } of alarms) {
      if (state === "pending") continue;
      this.stream.send("alarm", {
        ...alarm,
        state,
        silenced: this.fleet().alarms.isSilenced({ ...alarm, state, since_at: 0, memory: {} }, now),
      });
    }
    for (const event of events) this.stream.send("event", event);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #flush(): void {
    this.#timer = null;
    const { topology } = this.fleet();
    const now = this.now();
    const pick = <T>(ids: Set<string>, find: (id: string) => T | null) => {
      const present: T[] = [];
      const removed: string[] = [];
      for (const id of ids) {
        const found = find(id);
        if (found === null) removed.push(id);
        else present.push(found);
      }
      ids.clear();
      return { present, removed };
    };
    const networks = new Map([...topology.networks()].map((network) => [network.id, network]));
    const nodes = pick(this.#nodes, (id) => topology.shownNode(id, now));
    const edges = pick(this.#edges, (id) => topology.edge(id));
    // The picture shows a large segment as one node (GET /status/topology), so its pairs are not sent.
    const segments = topology.segments();
    const before = this.#segments;
    if (before?.of !== segments) this.#segments = { of: segments, shown: shownSegments(segments) };
    const shown = this.#segments!.shown;
    const isPhysical = edges.present.some(({ layer }) => layer === "physical");
    const changedNetworks = pick(this.#networks, (id) => networks.get(id) ?? null);
    this.stream.send("topology", {
      nodes: nodes.present,
      edges: edges.present.map(segments.drawn).filter((edge) => edge !== null),
      networks: changedNetworks.present,
      removed: { nodes: nodes.removed, edges: edges.removed, networks: changedNetworks.removed },
      // Without a message before, what a page has asked for is not known: what may be of a segment, is.
      stale: before === null ? (isPhysical && shown !== "") || edges.removed.length > 0 : before.shown !== shown,
      at: now,
    });
  }
}

/** What of large segments can be seen: who hangs on them, and in which state. */
function shownSegments({ nodes, edges }: Segments): string {
  return [...nodes.map(({ id, label }) => `${id} ${label}`), ...edges.map(({ id, state }) => `${id} ${state}`)].join(
    "\n",
  );
}
