// Property: what inference keeps up to date report by report is what it infers from scratch. Random fleets, seeded. After
// every step of the wild rounds: the same as a topology that begins then and is given the reports of the agents that are
// there, in order and nothing else; and as one that shares nothing between reports. And, once the fleet was calm for longer
// than the replay at start, the same as a manager that begins then, with its database or without.
import { expect, setDefaultTimeout, test } from "bun:test";
import type { AgentRecord, TopologyChange } from "../../manager/model.ts";
import type { TopologyEdge, TopologyNetwork, TopologyNode, TopologyResponse } from "../../shared/api.ts";
import { type Stored, Topology } from "../../manager/topology/topology.ts";
import { INTERVAL_MS, RandomFleet, type Step } from "./random_fleet.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const T0 = 1_790_000_000_000;
/** As the manager replays at its start. */
const REPLAY_MS = 15 * 60_000;
const ERAS = 2;
const WILD_ROUNDS = 25;
/** Longer than the replay: what is remembered of the wild rounds must make no difference then. */
const CALM_ROUNDS = REPLAY_MS / INTERVAL_MS + 10;

/** The first; and some that found what others did not: parts after a silence, a key's owner forgotten, a word withdrawn. */
const SEEDS = [1, 2, 3, 4, 5, 6, 142, 507, 589];

type Told = Extract<Step, { is: "report" }>;

/** What history has, as the store would give it back. */
class History {
  readonly #kinds = {
    node: new Map<string, TopologyNode>(),
    edge: new Map<string, TopologyEdge>(),
    network: new Map<string, TopologyNetwork>(),
  };

  take({ versions }: TopologyChange): void {
    for (const version of versions) {
      const kept = this.#kinds[version.kind] as Map<string, unknown>;
      if (version.body === null) kept.delete(version.id);
      else kept.set(version.id, structuredClone(version.body));
    }
  }

  stored(): Stored {
    const { node, edge, network } = this.#kinds;
    return { nodes: [...node.values()], edges: [...edge.values()], networks: [...network.values()] };
  }
}

/** A picture without what differs by right: ids that are given at random, and what only counters tell. `keep`: the states,
 * where the same counters were seen; and the ids, where the same store was. */
function shape(view: TopologyResponse, keep: { states?: boolean; ids?: boolean } = {}): unknown {
  const name = (edge: TopologyEdge) =>
    `${edge.layer} ${[edge.a, edge.b]
      .map((end) => `${end.node} ${end.interface} ${end.public_key}`)
      .sort()
      .join(" – ")}`;
  const names = new Map(view.edges.map((edge) => [edge.id, name(edge)]));
  const networks = new Map(
    view.networks.map(({ id }) => [
      id,
      view.nodes
        .filter((node) => node.networks.includes(id))
        .map((node) => node.id)
        .sort()
        .join(" "),
    ]),
  );
  const rename = (ids: readonly string[]) => ids.map((id) => networks.get(id) ?? id).sort();
  const edges = view.edges.map((edge) => {
    const ends = [edge.a, edge.b].map((end) => ({
      ...end,
      ...{ handshake_age_s: 0, latest_handshake_at: 0, rx_bytes: 0, tx_bytes: 0, reported_at: 0 },
    }));
    return {
      name: name(edge),
      ends: ends.sort((one, other) => (one.node + one.interface < other.node + other.interface ? -1 : 1)),
      network: edge.network === null ? null : networks.get(edge.network),
      observed_by: [...edge.observed_by].sort(),
      rides_on: edge.rides_on
        .map((ride) => ({ ...ride, edge: ride.edge === null ? null : names.get(ride.edge) }))
        .sort((one, other) => (one.node < other.node ? -1 : 1)),
      ...(keep.states === true ? { state: edge.state, reason: edge.reason } : {}),
      ...(keep.ids === true ? { id: edge.id } : {}),
    };
  });
  const byName = (one: { name: string }, other: { name: string }) => (one.name < other.name ? -1 : 1);
  return {
    edges: edges.sort(byName),
    nodes: view.nodes
      .map(({ reason: _reason, ...node }) => ({
        ...node,
        name: node.id,
        networks: rename(node.networks),
        wireguard_keys: node.wireguard_keys.toSorted(),
      }))
      .sort(byName),
    networks: view.networks
      .map((network) => ({
        ...network,
        id: networks.get(network.id),
        name: `${network.name} ${networks.get(network.id)}`,
      }))
      .sort(byName),
  };
}

/** The picture of a manager that starts at `now` from these reports. */
function replayed(
  records: readonly AgentRecord[],
  stored: Stored,
  told: readonly Told[],
  now: number,
): TopologyResponse {
  const topology = new Topology(records, stored, now);
  for (const { observation } of told) {
    const copy = structuredClone(observation);
    topology.observe(copy, copy.received_at, { replay: true });
  }
  topology.advance(now);
  return topology.view(now);
}

/** Ids in order: two topologies that are fed the same give the same. */
function counting(): () => string {
  let id = 0;
  return () => `id-${++id}`;
}

/** Makes what reads the same in two reports the same object. */
class SharedSections {
  readonly #known = new Map<string, unknown>();

  share<T>(value: T): T {
    if (typeof value !== "object" || value === null) return value;
    const text = JSON.stringify(value);
    const known = this.#known.get(text);
    if (known !== undefined) return known as T;
    const shared = Array.isArray(value)
      ? value.map((item) => this.share(item))
      : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.share(item)]));
    this.#known.set(text, shared);
    return shared as T;
  }
}

for (const seed of SEEDS) {
  test(`incremental inference is inference from scratch, random fleet ${seed}`, () => {
    const fleet = new RandomFleet(seed, 5, T0);
    const none = () => ({ nodes: [], edges: [], networks: [] });
    // As ingest feeds it, with whatever is alike shared between reports; and with nothing shared.
    const topology = new Topology([], none(), T0, counting());
    const copied = new Topology([], none(), T0, counting());
    const sections = new SharedSections();
    const history = new History();
    const records = new Map<string, AgentRecord>();
    let told: Told[] = [];
    /** `wild`: compared with inference from scratch after each step; that is quadratic, so of the first era alone. */
    const round = (quiet: boolean, wild = false) => {
      for (const step of fleet.round({ quiet })) {
        let changes: [TopologyChange, TopologyChange];
        if (step.is === "join") {
          records.set(step.record.agent_id, step.record);
          changes = [topology.addAgent(step.record, step.at), copied.addAgent(step.record, step.at)];
        } else if (step.is === "forget") {
          records.delete(step.agentId);
          told = told.filter(({ observation }) => observation.report.agent_id !== step.agentId);
          changes = [topology.forgetAgent(step.agentId, step.at), copied.forgetAgent(step.agentId, step.at)];
        } else {
          told.push(step);
          const at = step.observation.received_at;
          const shared = { ...step.observation, report: sections.share(step.observation.report) };
          changes = [topology.observe(shared, at), copied.observe(structuredClone(step.observation), at)];
        }
        expect(changes[0]).toEqual(changes[1]);
        expect(topology.view(fleet.now)).toEqual(copied.view(fleet.now));
        history.take(changes[0]);
        if (!wild) continue;
        const at = step.is === "report" ? step.observation.received_at : step.at;
        history.take(topology.advance(at));
        copied.advance(at);
        const scratch = replayed([...records.values()], none(), told, at);
        expect(shape(scratch, { states: true })).toEqual(shape(topology.view(at), { states: true }));
      }
      history.take(topology.advance(fleet.now));
      copied.advance(fleet.now);
    };
    for (let era = 0; era < ERAS; era++) {
      for (let i = 0; i < WILD_ROUNDS; i++) round(false, era === 0);
      fleet.calm();
      for (let i = 0; i < CALM_ROUNDS; i++) round(true);
      const { now } = fleet;
      const recent = told.filter(({ observation }) => observation.received_at > now - REPLAY_MS);
      const picture = topology.view(now);
      // A manager that is started now, with its database; and one that has those reports alone.
      const restarted = replayed([...records.values()], history.stored(), recent, now);
      expect(shape(restarted, { states: true, ids: true })).toEqual(shape(picture, { states: true, ids: true }));
      const scratch = replayed([...records.values()], none(), recent, now);
      expect(shape(scratch)).toEqual(shape(picture));
    }
    expect(records.size).toBeGreaterThan(2);
    expect(topology.view(fleet.now).edges.filter(({ state }) => state === "up").length).toBeGreaterThan(2);
  });
}
