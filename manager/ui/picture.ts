// Owns the network as the dashboard holds it: nodes, edges and networks by id, kept up by the stream's changes, and which
// edges a node has. Pure.
import type {
  EdgeState,
  StreamEvents,
  TopologyEdge,
  TopologyNetwork,
  TopologyNode,
  TopologyResponse,
} from "../../shared/api.ts";

const PROBLEMS: ReadonlySet<EdgeState> = new Set(["stale", "never", "lossy", "down", "one_sided", "key_mismatch"]);

/** Packets do not pass as configured. */
export function isProblem(edge: TopologyEdge): boolean {
  return PROBLEMS.has(edge.state);
}

export class Picture {
  readonly nodes = new Map<string, TopologyNode>();
  readonly edges = new Map<string, TopologyEdge>();
  readonly networks = new Map<string, TopologyNetwork>();
  /** The moment it shows, by the manager's clock. */
  at = 0;
  /** Grows with every change. */
  version = 0;
  /** Grows when nodes or edges come or go, or an edge moves to other nodes: only then is there something to lay out. */
  shape = 0;
  #edgesOf: Map<string, TopologyEdge[]> | null = null;

  constructor(response?: TopologyResponse) {
    if (response !== undefined) this.replace(response);
  }

  /** Takes a whole answer; what it does not name is gone. */
  replace(response: TopologyResponse): void {
    const removed = {
      nodes: missing(this.nodes, response.nodes),
      edges: missing(this.edges, response.edges),
      networks: missing(this.networks, response.networks),
    };
    this.apply({ ...response, removed });
  }

  apply(change: Omit<StreamEvents["topology"], "stale">): void {
    let shaped = change.removed.nodes.length > 0 || change.removed.edges.length > 0;
    for (const id of change.removed.nodes) this.nodes.delete(id);
    for (const id of change.removed.edges) this.edges.delete(id);
    for (const id of change.removed.networks) this.networks.delete(id);
    for (const node of change.nodes) {
      shaped ||= !this.nodes.has(node.id);
      // One without a name, or with one that nobody sees, goes by its id.
      this.nodes.set(node.id, node.label.trim() === "" ? { ...node, label: node.id } : node);
    }
    for (const edge of change.edges) {
      const before = this.edges.get(edge.id);
      shaped ||= before === undefined || before.a.node !== edge.a.node || before.b.node !== edge.b.node;
      this.edges.set(edge.id, edge);
    }
    for (const network of change.networks) this.networks.set(network.id, network);
    this.at = Math.max(this.at, change.at);
    this.version++;
    if (shaped) this.shape++;
    this.#edgesOf = null;
  }

  edgesOf(node: string): readonly TopologyEdge[] {
    if (this.#edgesOf === null) {
      const index = new Map<string, TopologyEdge[]>();
      const add = (id: string, edge: TopologyEdge) => {
        const list = index.get(id);
        if (list === undefined) index.set(id, [edge]);
        else list.push(edge);
      };
      for (const edge of this.edges.values()) {
        add(edge.a.node, edge);
        if (edge.b.node !== edge.a.node) add(edge.b.node, edge);
      }
      this.#edgesOf = index;
    }
    return this.#edgesOf.get(node) ?? [];
  }

  /** What a person calls a node. */
  label(id: string): string {
    return this.nodes.get(id)?.label ?? id;
  }

  /** `hub-fra wg0 – web-fra-1 wg0`. */
  edgeLabel(edge: TopologyEdge): string {
    const end = ({ node, interface: name }: TopologyEdge["a"]) =>
      name === null ? this.label(node) : `${this.label(node)} ${name}`;
    return `${end(edge.a)} – ${end(edge.b)}`;
  }
}

function missing(known: ReadonlyMap<string, unknown>, now: readonly { id: string }[]): string[] {
  const present = new Set(now.map(({ id }) => id));
  return [...known.keys()].filter((id) => !present.has(id));
}

/** Nodes and edges that a person's words fit: name, id, address, key, endpoint, interface. */
export function search(picture: Picture, text: string, limit = 20): { nodes: TopologyNode[]; edges: TopologyEdge[] } {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return { nodes: [], edges: [] };
  const fits = (value: string | null) => value !== null && value.toLowerCase().includes(wanted);
  const nodes: TopologyNode[] = [];
  for (const node of picture.nodes.values()) {
    if (nodes.length >= limit) break;
    const { label, id, addresses, attached, wireguard_keys: keys } = node;
    if (fits(label) || fits(id) || addresses.some(fits) || attached.some(fits) || keys.some(fits)) nodes.push(node);
  }
  const edges: TopologyEdge[] = [];
  for (const edge of picture.edges.values()) {
    if (edges.length >= limit) break;
    if ([edge.a, edge.b].some((end) => fits(end.endpoint) || end.allowed_ips?.some(fits) === true)) edges.push(edge);
  }
  return { nodes, edges };
}
