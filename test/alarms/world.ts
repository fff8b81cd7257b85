// Owns the small fleet on which alarm rules are tried: agents that report every 30 s, edges whose state a test sets, and
// a clock. Hand-written; the rules on real tunnels are test/diagnosis. With `restarts`, the alarms are built anew from
// what was stored before every single step.
import { isTroubled } from "../../manager/topology/state.ts";
import { Alarms } from "../../manager/alarms/alarms.ts";
import type {
  AgentRecord,
  AlarmChange,
  AlarmRow,
  AlarmTransition,
  Observation,
  Silence,
  TopologyReader,
} from "../../manager/model.ts";
import type { EdgeEnd, TopologyEdge, TopologyNetwork, TopologyNode } from "../../shared/api.ts";
import { parseEndpoint } from "../../shared/net.ts";
import type { Peer, Report, Wireguard } from "../../shared/report.ts";

export const INTERVAL_S = 30;
/** The world begins here; two days after its agents were first seen. */
export const BEGIN = Date.UTC(2026, 0, 5, 12);
export const DAY_MS = 86_400_000;

/** A public key of a name, 44 characters of base64. Test data, no key of anybody. */
export function key(name: string): string {
  return `${name.replace(/[^a-z0-9]/gi, "").padEnd(42, "0")}A=`;
}

export function peer(of: string, changes: Partial<Peer> = {}): Peer {
  return {
    public_key: key(of),
    endpoint: `192.168.50.${of.charCodeAt(0)}:51820`,
    allowed_ips: [`10.9.0.${of.charCodeAt(0)}/32`],
    latest_handshake_at: BEGIN,
    rx_bytes: 0,
    tx_bytes: 0,
    persistent_keepalive_s: 25,
    ...changes,
  };
}

function end(node: string): EdgeEnd {
  return {
    node,
    interface: node.startsWith("wg:") ? null : "wg0",
    endpoint: `192.168.50.${node.charCodeAt(0)}:51820`,
    nat: false,
    public_key: node.startsWith("wg:") ? node.slice(3) : key(node),
    listen_port: 51820,
    allowed_ips: null,
    handshake_age_s: null,
    latest_handshake_at: null,
    persistent_keepalive_s: 25,
    rx_bytes: null,
    tx_bytes: null,
    reported_at: null,
  };
}

export class World {
  now = BEGIN;
  /** Agents that report; take one away to silence it. */
  readonly speaking: Set<string>;
  readonly reports = new Map<string, Report>();
  readonly records = new Map<string, AgentRecord>();
  readonly edgesById = new Map<string, TopologyEdge>();
  readonly expected = new Set<string>();
  /** How the next reports come. */
  late = false;
  superseded = false;
  readonly relays = new Map<string, string[]>();
  readonly skewMs = new Map<string, number>();

  readonly stored = new Map<string, string>();
  readonly transitions: AlarmTransition[] = [];
  readonly silences: Silence[] = [];
  readonly written: { rows: number; withdrawn: number } = { rows: 0, withdrawn: 0 };
  #latest = new Map<string, Observation>();
  #ticks = new Map<string, number>();
  #alarms: Alarms;

  constructor(
    readonly agents: string[],
    private readonly options: { restarts: boolean; intervalS?: number; startedAt?: number; seenForMs?: number },
  ) {
    this.speaking = new Set(agents);
    const seenAt = BEGIN - (options.seenForMs ?? 2 * DAY_MS);
    for (const agent of agents) {
      this.records.set(agent, {
        agent_id: agent,
        public_key: `pin-${agent}`,
        hostname: agent,
        agent_version: "0.1.0",
        first_seen_at: seenAt,
        registered_at: seenAt,
        blocked: false,
        regenerate: false,
      });
      this.reports.set(agent, this.#report(agent));
    }
    for (const [place, a] of agents.entries()) for (const b of agents.slice(place + 1)) this.connect(a, b);
    this.#alarms = this.#make();
  }

  get intervalS(): number {
    return this.options.intervalS ?? INTERVAL_S;
  }

  /** The alarms at this step. */
  get alarms(): Alarms {
    if (this.options.restarts) this.#alarms = this.#make();
    return this.#alarms;
  }

  #make(): Alarms {
    const rows = [...this.stored.values()].map((text) => JSON.parse(text) as AlarmRow);
    // As Store.liveAlarms(1 hour).
    const live = rows.filter((row) => row.state !== "resolved" || row.resolved_at! > this.now - 3_600_000);
    const alarms = new Alarms(live, JSON.parse(JSON.stringify(this.silences)), this.options.startedAt ?? BEGIN);
    alarms.begin(this.topology);
    return alarms;
  }

  #report(agent: string): Report {
    const number = agent.charCodeAt(0);
    return {
      v: 1,
      type: "report",
      agent_id: agent,
      tick: 0,
      nonce: "",
      sent_at: 0,
      collected_at: 0,
      boot_id: "boot-1",
      agent_version: "0.1.0",
      interval_s: this.options.intervalS ?? INTERVAL_S,
      dropped: 0,
      delivery: {
        outbox_reports: 0,
        outbox_bytes: 0,
        outbox_limit_bytes: 1000,
        relay_refused: { loop: 0, hop_limit: 0 },
        psk_error: null,
      },
      collectors: { wireguard: "ok", interfaces: "ok" },
      system: null,
      interfaces: [
        card("eth0", [`192.168.50.${number}/24`]),
        { ...card("wg0", [`10.9.0.${number}/24`]), kind: "wireguard", mtu: 1420 },
      ],
      routes: [{ destination: "10.9.0.0/24", gateway: null, interface: "wg0", metric: 0 }],
      rules: [],
      neighbors: [],
      wireguard: [
        {
          interface: "wg0",
          public_key: key(agent),
          listen_port: 51820,
          fwmark: null,
          peers: this.agents.filter((other) => other !== agent).map((other) => peer(other)),
        },
      ],
    };
  }

  /** An edge `a-b` (in the order of the names), up. */
  connect(a: string, b: string, changes: Partial<TopologyEdge> = {}): TopologyEdge {
    const edge: TopologyEdge = {
      id: `${a}-${b}`,
      layer: "wireguard",
      network: "n1",
      a: end(a),
      b: end(b),
      state: "up",
      reason: null,
      cause: null,
      observed_by: [a, b].filter((node) => !node.startsWith("wg:")),
      latest_handshake_at: BEGIN,
      a_to_b_bps: null,
      b_to_a_bps: null,
      a_to_b_loss: null,
      b_to_a_loss: null,
      rides_on: [],
      first_seen_at: BEGIN,
      changed_at: BEGIN,
      ...changes,
    };
    this.edgesById.set(edge.id, edge);
    return edge;
  }

  edge(id: string): TopologyEdge {
    return this.edgesById.get(id)!;
  }

  /** An edge's new state. */
  set(id: string, state: TopologyEdge["state"], changes: Partial<TopologyEdge> = {}): void {
    Object.assign(this.edge(id), { state, cause: null, reason: null, changed_at: this.now, ...changes });
  }

  wireguard(agent: string, name = "wg0"): Wireguard {
    return this.reports.get(agent)!.wireguard!.find((wg) => wg.interface === name)!;
  }

  interface(agent: string, name: string): NonNullable<Report["interfaces"]>[number] {
    return this.reports.get(agent)!.interfaces!.find((item) => item.name === name)!;
  }

  /** Lets time pass: every agent that speaks reports every interval, at a moment of its own; the clock looks every second. */
  pass(seconds: number, everySeconds = 1): void {
    for (let second = 0; second < seconds; second += everySeconds) {
      this.now += everySeconds * 1000;
      const place = Math.round((this.now - BEGIN) / 1000) % this.intervalS;
      for (const [index, agent] of this.agents.entries()) {
        if (this.speaking.has(agent) && place === (index * 7) % this.intervalS) this.report(agent);
      }
      this.#take(this.alarms.onTime(this.topology, this.now));
    }
  }

  /** One report of an agent, now. */
  report(agent: string): AlarmChange {
    const tick = (this.#ticks.get(agent) ?? 0) + 1;
    this.#ticks.set(agent, tick);
    const alarms = this.alarms;
    const relayPath = this.relays.get(agent) ?? [];
    const observation: Observation = {
      report: { ...structuredClone(this.reports.get(agent)!), tick },
      received_at: this.now,
      observed_at: this.late ? this.now - 300_000 : this.now,
      relay_path: relayPath,
      via: relayPath.length === 0 ? "direct" : "relay",
      late: this.late,
      superseded: this.superseded,
      skew_ms: this.skewMs.get(agent) ?? 0,
    };
    if (!this.superseded) this.#latest.set(agent, observation);
    return this.#take(alarms.onObservation(observation, this.topology, { versions: [], events: [] }, this.now));
  }

  /** The manager restarts: its alarms are built anew from what is stored. */
  restart(): void {
    this.#alarms = this.#make();
  }

  /** Anything else that is done to the alarms. */
  do(action: (alarms: Alarms, now: number) => AlarmChange | null): void {
    const change = action(this.alarms, this.now);
    if (change !== null) this.#take(change);
  }

  /** The new window's id. */
  silence(silence: Omit<Silence, "id" | "created_at">): string {
    const added: Silence = { id: crypto.randomUUID(), created_at: this.now, ...silence };
    this.do((alarms, now) => {
      alarms.silence(added, now);
      return null;
    });
    this.silences.push(added);
    return added.id;
  }

  /** Ends a window; whether there was one. */
  endSilence(id: string): boolean {
    let found = false;
    this.do((alarms, now) => {
      const ended = alarms.endSilence(id, now);
      if (ended === null) return null;
      found = true;
      this.silences.splice(
        this.silences.findIndex((silence) => silence.id === id),
        1,
        ended.silence,
      );
      return ended.change;
    });
    return found;
  }

  #take(change: AlarmChange): AlarmChange {
    for (const row of change.alarms) {
      const text = JSON.stringify(row);
      if (this.stored.get(row.id) === text) throw new Error(`stored again unchanged: ${text}`);
      this.stored.set(row.id, text);
    }
    for (const id of change.withdrawn) {
      if (JSON.parse(this.stored.get(id)!).state !== "pending") throw new Error("withdrawn, but not pending");
      this.stored.delete(id);
    }
    this.transitions.push(...change.transitions);
    this.written.rows += change.alarms.length;
    this.written.withdrawn += change.withdrawn.length;
    return change;
  }

  rows(): AlarmRow[] {
    return [...this.stored.values()].map((text) => JSON.parse(text) as AlarmRow);
  }

  row(code: string, subject?: string): AlarmRow {
    const found = this.rows().filter((row) => row.code === code && (subject === undefined || row.subject === subject));
    if (found.length !== 1)
      throw new Error(`${found.length} rows of ${code} ${subject ?? ""}: ${this.open().join("; ")}`);
    return found[0]!;
  }

  /** Open alarms as `code subject`, effects as `code subject < cause, cause`; acknowledged ones end in ` (acknowledged)`. */
  open(): string[] {
    const rows = this.rows();
    const codes = new Map(rows.map((row) => [row.id, row.code]));
    return rows
      .filter((row) => row.state === "open" || row.state === "acknowledged")
      .map((row) => {
        const under = row.depends_on.map((id) => codes.get(id)!).sort();
        return `${row.code} ${row.subject}${under.length === 0 ? "" : ` < ${under.join(", ")}`}${row.state === "open" ? "" : " (acknowledged)"}`;
      })
      .sort();
  }

  /** What receivers were told, in order: `code state severity`. */
  told(): string[] {
    const rows = new Map(this.rows().map((row) => [row.id, row]));
    return this.transitions
      .filter((transition) => transition.notify)
      .map((transition) => `${rows.get(transition.alarm_id)!.code} ${transition.to} ${transition.severity}`);
  }

  /** Everything that happened, in a form that two runs share. */
  history(): unknown[] {
    const rows = new Map(this.rows().map((row) => [row.id, row]));
    return this.transitions.map(({ alarm_id, ...rest }) => {
      const row = rows.get(alarm_id)!;
      return { ...rest, code: row.code, subject: row.subject };
    });
  }

  readonly topology: TopologyReader = {
    agents: () => this.records.keys(),
    agent: (id) => this.records.get(id) ?? null,
    latest: (id) => this.#latest.get(id) ?? null,
    effective: (id) => this.#latest.get(id)?.report ?? null,
    edge: (id) => this.edgesById.get(id) ?? null,
    edgesOf: (node) => [...this.edgesById.values()].filter((edge) => edge.a.node === node || edge.b.node === node),
    expected: this.expected,
    troubledEdgesOf: (node) =>
      [...this.edgesById.values()].filter(
        (edge) => edge.layer === "wireguard" && (edge.a.node === node || edge.b.node === node) && isTroubled(edge),
      ),
    network: (id) => {
      const edges = [...this.edgesById.values()].filter(
        ({ layer, network }) => layer === "wireguard" && network === id,
      );
      return {
        nodes: new Set(edges.flatMap(({ a, b }) => [a.node, b.node])),
        links: edges.map(({ id, a, b, state, cause }) => ({ id, a: a.node, b: b.node, state, cause })),
      };
    },
    natAddressesOf: (agentId) => {
      const ends = [...this.edgesById.values()].map(({ a, b }) => (a.node === agentId ? a : b));
      const seen = ends.filter((end) => end.node === agentId && end.nat && end.endpoint !== null);
      return new Set(seen.map((end) => parseEndpoint(end.endpoint!)!.address));
    },
    handshakeSince: (agentId, after) => {
      for (const { a, b, state, latest_handshake_at: at } of this.edgesById.values()) {
        if (state !== "up" || (at ?? 0) <= after) continue;
        if (a.node === agentId) return b.node;
        if (b.node === agentId) return a.node;
      }
      return null;
    },
    edges: () => this.edgesById.values(),
    node: (id) => this.#node(id),
    nodes: () => [...this.records.keys()].map((id) => this.#node(id)!),
    networks: (): TopologyNetwork[] => [
      { id: "n1", name: "10.9.0.0/24", prefixes: ["10.9.0.0/24"], nodes: 0, parts: 1 },
    ],
    ownersOfKey: (publicKey) =>
      this.#interfaces().filter(({ agent_id, interface: name }) => {
        const wg = this.#latest.get(agent_id)?.report.wireguard?.find((item) => item.interface === name);
        return wg?.public_key === publicKey;
      }),
    ownersOfAddress: (address) =>
      this.#interfaces().filter(({ agent_id, interface: name }) => {
        const item = this.#latest.get(agent_id)?.report.interfaces?.find((candidate) => candidate.name === name);
        return item?.addresses.some((text) => text.split("/")[0] === address) === true;
      }),
    edgeOfPeer: (agentId, interfaceName, peerKey) => {
      for (const edge of this.edgesById.values()) {
        for (const [place, own, other] of [
          ["a", edge.a, edge.b],
          ["b", edge.b, edge.a],
        ] as const) {
          if (own.node !== agentId || own.interface !== interfaceName) continue;
          if (other.public_key === peerKey) return { edge, end: place };
        }
      }
      return null;
    },
  };

  #interfaces(): { agent_id: string; interface: string }[] {
    return [...this.#latest].flatMap(([agent_id, { report }]) =>
      (report.interfaces ?? []).map((item) => ({ agent_id, interface: item.name })),
    );
  }

  #node(id: string): TopologyNode | null {
    const record = this.records.get(id);
    if (record === undefined && !id.startsWith("wg:")) return null;
    return {
      id,
      kind: record === undefined ? "foreign" : "agent",
      label: record?.hostname ?? id,
      status: "online",
      addresses: [],
      networks: ["n1"],
      attached: [],
      nat: false,
      exit: false,
      reason: null,
      wireguard_keys: [],
    };
  }
}

export function card(name: string, addresses: string[]): NonNullable<Report["interfaces"]>[number] {
  return {
    name,
    kind: "physical",
    mac: null,
    mtu: 1500,
    up: true,
    carrier: true,
    addresses,
    rx_bytes: 0,
    tx_bytes: 0,
    speed_mbps: null,
    parent: null,
    master: null,
    tunnel: null,
  };
}
