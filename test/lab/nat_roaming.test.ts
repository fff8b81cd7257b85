// Hub and spoke, NAT and roaming on real hosts: a host behind a masquerading router, whose mapping moves, and one whose own address changes.
// The tunnels go on as the same edges; who sees another endpoint says so in an event.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { AgentsResponse, Event, EventsResponse, TopologyEdge, TopologyResponse } from "../../shared/api.ts";
import { compiled } from "../support/binary.ts";
import { describeWith, LAB_NEEDS } from "../support/needs.ts";
import type { Host } from "./host.ts";
import { createLab, type Lab } from "./lab.ts";
import { eventually, MANAGER_PORT, RunningAgent, RunningManager } from "./programs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const PSK = "roaming-test-fleet-key-0123456789abcdef01234";
const AGENTS = ["hub", "home", "rover"] as const;
const HUB = "10.9.0.1";
/** Seconds. Short, so that who moved is heard at its new place soon. */
const KEEPALIVE = 1;

describeWith(LAB_NEEDS, "NAT and roaming", () => {
  let lab: Lab;
  let manager: RunningManager;
  let router: Host;
  const hosts = new Map<string, Host>();
  const ids = new Map<string, string>();
  const host = (name: string) => hosts.get(name)!;
  const topology = () => manager.get<TopologyResponse>("/status/topology");

  /** The tunnel of the hub to another, from the hub's end on: `[edge, hub's end, the other's]`. */
  function linkTo({ edges }: TopologyResponse, name: string) {
    const [hub, other] = [ids.get("hub")!, ids.get(name)!];
    const found = edges.filter(
      ({ layer, a, b }) => layer === "wireguard" && [a.node, b.node].includes(hub) && [a.node, b.node].includes(other),
    );
    if (found.length !== 1) throw new Error(`${found.length} edges to ${name}`);
    const edge: TopologyEdge = found[0]!;
    return edge.a.node === hub ? { edge, near: edge.a, far: edge.b } : { edge, near: edge.b, far: edge.a };
  }
  const roamed = async (edge: TopologyEdge): Promise<Event[]> =>
    (await manager.get<EventsResponse>("/status/events?limit=500")).events.filter(
      ({ code, subject }) => code === "roamed" && subject === `edge:${edge.id}`,
    );
  /** The hub hears another at an endpoint, and the manager knows it. */
  const heardAt = (name: string, endpoint: (text: string) => boolean) =>
    eventually(
      `${name} is heard elsewhere`,
      async () => {
        const link = linkTo(await topology(), name);
        return link.far.endpoint !== null && endpoint(link.far.endpoint) ? link : null;
      },
      30_000,
    );

  beforeAll(async () => {
    compiled("agent");
    lab = await createLab("roaming");
    const lan = await lab.segment("lan", { prefix: "192.168.1" });
    for (const name of ["m", "hub", "rover"]) hosts.set(name, await lab.host(name));
    router = await lab.host("router", { segments: [lab.underlay, lan] });
    await router.masquerade(router.nics[0]!);
    hosts.set("home", await lab.host("home", { segments: [lan] }));
    await host("home").ip(`route add default via ${router.nics[1]!.address}`);
    const hub = await host("hub").wireguard("wg0", { addresses: [`${HUB}/24`] });
    for (const [i, name] of ["home", "rover"].entries()) {
      const address = `10.9.0.${i + 2}`;
      const spoke = await host(name).wireguard("wg0", {
        addresses: [`${address}/24`],
        peers: [
          { publicKey: hub.publicKey, endpoint: hub.endpoint(), allowedIps: ["10.9.0.0/24"], keepalive: KEEPALIVE },
        ],
      });
      await hub.setPeers({ publicKey: spoke.publicKey, allowedIps: [`${address}/32`] });
    }
    await host("hub").forward();
    for (const name of ["home", "rover"]) expect([name, await host(name).pingUntil(HUB)]).toEqual([name, true]);
    manager = await RunningManager.start(host("m"), { settings: { PSK } });
    const managerUrl = `http://${host("m").address}:${MANAGER_PORT}`;
    for (const name of AGENTS) await RunningAgent.start(host(name), { managerUrl, settings: { PSK } });
    await eventually("all report", async () => {
      const { agents } = await manager.get<AgentsResponse>("/status/agents");
      for (const agent of agents) if (agent.tick !== null) ids.set(agent.hostname, agent.agent_id);
      return ids.size === AGENTS.length;
    });
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test("hub and spoke: the hub lists /32s, the spokes the whole /24: edges hub–spoke only, one network", async () => {
    // From spoke to spoke by the hub, so that there is traffic which a guess could take for an edge.
    expect(await host("home").pingUntil("10.9.0.3")).toBe(true);
    const { edges, networks } = await eventually("both tunnels are up", async () => {
      const now = await topology();
      return now.edges.filter(({ layer, state }) => layer === "wireguard" && state === "up").length >= 2 ? now : null;
    });
    const pairs = edges
      .filter(({ layer }) => layer === "wireguard")
      .map(({ a, b }) => [a.node, b.node].map((id) => [...ids].find(([, own]) => own === id)?.[0] ?? id).sort());
    expect(pairs.sort()).toEqual([
      ["home", "hub"],
      ["hub", "rover"],
    ]);
    expect(networks).toHaveLength(1);
  });

  test("nat: true at the end behind the masquerading router, and at no other", async () => {
    // The hub says so with its first report after home's own.
    const view = await eventually("both tunnels are up, one of them through a NAT", async () => {
      const now = await topology();
      const [home, rover] = [linkTo(now, "home"), linkTo(now, "rover")];
      return home.edge.state === "up" && rover.edge.state === "up" && home.far.nat ? now : null;
    });
    const home = linkTo(view, "home");
    expect(home.far.endpoint).toStartWith(`${router.address}:`);
    expect(home.near).toMatchObject({ nat: false, endpoint: `${host("hub").address}:51820` });
    const rover = linkTo(view, "rover");
    expect(rover.far).toMatchObject({ nat: false, endpoint: `${host("rover").address}:51820` });
    expect(rover.near.nat).toBe(false);
    expect(AGENTS.map((name) => view.nodes.find(({ id }) => id === ids.get(name))!.nat)).toEqual([false, true, false]);
    expect(await roamed(home.edge)).toEqual([]);
    expect(await roamed(rover.edge)).toEqual([]);
  });

  test("a host whose address changes roams: one event by who sees it, the same edge, no NAT", async () => {
    const before = linkTo(await topology(), "rover");
    const [was, is] = [host("rover").address, `${lab.underlay.prefix}.77`];
    await host("rover").ip(`addr del ${was}/24 dev eth0`, `addr add ${is}/24 dev eth0`);
    // wireguard-go would go on with the source that it remembers.
    await host("rover").run(["wg", "set", "wg0", "fwmark", "1"]);
    const after = await heardAt("rover", (endpoint) => endpoint === `${is}:51820`);
    expect(after.edge).toMatchObject({ id: before.edge.id, state: "up", first_seen_at: before.edge.first_seen_at });
    const events = await roamed(after.edge);
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({
      severity: "info",
      message: expect.stringContaining(`rover is seen at ${is}:51820 now (was ${was}:51820)`),
      details: { from: `${was}:51820`, to: `${is}:51820`, observed_by: ids.get("hub")! },
    });
    // Until the host itself has said that it moved, its endpoint is none of its addresses.
    await eventually("its own report says so, too", async () => !linkTo(await topology(), "rover").far.nat, 30_000);
    expect(await roamed(after.edge)).toHaveLength(1);
  }, 60_000);

  test("a NAT mapping that moves is roaming, too; the end stays behind a NAT", async () => {
    const before = linkTo(await topology(), "home");
    const [was, is] = [router.address, `${lab.underlay.prefix}.99`];
    await router.ip(`addr del ${was}/24 dev eth0`, `addr add ${is}/24 dev eth0`);
    const after = await heardAt("home", (endpoint) => endpoint.startsWith(`${is}:`));
    expect(after.far.nat).toBe(true);
    expect(after.edge).toMatchObject({ id: before.edge.id, state: "up" });
    const events = await roamed(after.edge);
    expect(events.map(({ details }) => details)).toMatchObject([
      { from: before.far.endpoint, to: after.far.endpoint, observed_by: ids.get("hub")! },
    ]);
  }, 60_000);
});
