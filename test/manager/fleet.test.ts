// The queue through which the manager's memory changes: jobs of one turn share a transaction.
import { expect, test } from "bun:test";
import { Fleet } from "../../manager/fleet.ts";
import type { AgentRecord } from "../../manager/model.ts";
import type { Store } from "../../manager/store/store.ts";
import { createLog } from "../../shared/log.ts";
import type { TopologyResponse } from "../../shared/api.ts";
import { AGENT, OTHER, type Place, place, report, T0 } from "../store/support.ts";
import { ground, registered } from "./support.ts";

const RETIRED = "2d2f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f";
const record = (agent_id: string, byte: number): AgentRecord => ({
  agent_id,
  public_key: new Uint8Array(32).fill(byte).toBase64(),
  hostname: "hel-1",
  agent_version: "0.1.0",
  first_seen_at: T0,
  registered_at: T0,
  blocked: false,
  regenerate: false,
});

async function loaded(own: Place): Promise<{ store: Store; fleet: Fleet }> {
  const store = await own.open();
  const fleet = new Fleet(
    store,
    T0,
    createLog("error"),
    () => {},
    () => T0,
  );
  await fleet.load(T0);
  return { store, fleet };
}

test("what is cleared takes along what came before it in the same turn, and not what comes after", async () => {
  using own = place();
  const { store, fleet } = await loaded(own);
  await Promise.all([
    fleet.mutate((turn) => fleet.putAgent(record(AGENT, 1), turn)),
    fleet.mutate((turn) => fleet.putAgent(record(RETIRED, 3), turn)),
    fleet.mutate((turn) => fleet.retireAgent(RETIRED, turn)),
    fleet.mutate((turn) => void (turn.batch.meta = { sessions: { kept: true } })),
    fleet.mutate((turn) => fleet.wipe(turn)),
    fleet.mutate((turn) => fleet.putAgent(record(OTHER, 2), turn)),
  ]);
  expect([...fleet.agents.keys()]).toEqual([OTHER]);
  expect([...fleet.retired]).toEqual([RETIRED]);
  expect(await store.retiredAgents()).toEqual([RETIRED]);
  expect((await store.loadAgents()).map(({ agent_id }) => agent_id)).toEqual([OTHER]);
  expect((await store.topologyAt(null)).nodes.map(({ id }) => id)).toEqual([OTHER]);
  expect(await store.meta("sessions")).toEqual({ kept: true });
  await store.close();
});

test("an agent that is forgotten in the turn in which it was written is forgotten", async () => {
  using own = place();
  const { store, fleet } = await loaded(own);
  const renamed = { ...record(OTHER, 2), hostname: "hel-2" };
  await Promise.all([
    fleet.mutate((turn) => fleet.putAgent(record(AGENT, 1), turn)),
    fleet.mutate((turn) => fleet.putAgent(record(OTHER, 2), turn)),
    fleet.mutate((turn) => fleet.forgetAgent(AGENT, turn)),
    fleet.mutate((turn) => fleet.forgetAgent(OTHER, turn)),
    fleet.mutate((turn) => fleet.putAgent(renamed, turn)),
  ]);
  expect(await store.loadAgents()).toEqual([renamed]);
  expect([...fleet.agents.values()]).toEqual([renamed]);
  await store.close();
});

test.each(["", "{", "null", "[]", '{"wireguard":5}', "\u0000"])(
  "a stored report whose bytes became %j is passed over at start",
  async (data) => {
    using own = place();
    const store = await own.open();
    const altered = { ...report(1, { data: "{}" }), data, received_at: T0 - 1000, observed_at: T0 - 1000 };
    await store.commit({ agents: [record(AGENT, 1)], reports: [altered] });
    await store.close();
    const { fleet, store: again } = await loaded(own);
    expect([...fleet.agents.keys()]).toEqual([AGENT]);
    expect(fleet.topology.effective(AGENT)).toBeNull();
    await again.close();
  },
);

test("sections that could not be read for longer than the replay reaches are still as they were", async () => {
  const own = await ground();
  try {
    own.clock.at = T0;
    const agent = await registered(own);
    const minutes = async (count: number, over = {}) => {
      for (let i = 0; i < count; i++) {
        own.clock.at! += 60_000;
        await agent.send({ interval_s: 60, ...over });
        await own.advance();
      }
    };
    const picture = async () => {
      const { nodes, edges } = (await (await fetch(`${own.url}/status/topology`)).json()) as TopologyResponse;
      return {
        nodes: nodes.map(({ id, label, addresses }) => [id, label, addresses]),
        edges: edges.map(({ id, a, b, state, observed_by }) => [id, a.node, a.interface, b.node, state, observed_by]),
      };
    };
    await minutes(3);
    await minutes(20, { wireguard: null, interfaces: null });
    const before = await picture();
    expect(before.edges).toHaveLength(1);
    await own.stop();
    await own.start();
    await own.advance();
    expect(await picture()).toEqual(before);
    await minutes(2, { wireguard: null, interfaces: null });
    expect(await picture()).toEqual(before);
  } finally {
    await own.remove();
  }
});
