// Owns the benchmark's fleet: agents in a ring, each a peer of its neighbours, and their signed reports made beforehand.
import { addHost, collectHost, connect, createNetwork, type SimNetwork, wireguardInterface } from "../fleet/network.ts";
import { createSender, type Sender } from "../fleet/sender.ts";

/** A network of `agents` hosts in a ring, each with `peers` (even) nearest ones on wg0. */
export function ringNetwork(agents: number, peers: number, now: number): SimNetwork {
  const network = createNetwork(1);
  // Sites of ten, so that neighbours are there but few.
  for (let i = 0; i < agents; i++) addHost(network, `node-${i}`, `site-${Math.floor(i / 10)}`, now);
  const own = network.hosts.map((host, i) =>
    wireguardInterface(network, host, "wg0", `10.${64 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/10`, 51820),
  );
  for (let i = 0; i < agents; i++) {
    for (let step = 1; step <= Math.min(peers / 2, Math.floor((agents - 1) / 2)); step++) {
      const j = (i + step) % agents;
      connect(
        network,
        { host: network.hosts[i]!, interface: own[i]! },
        { host: network.hosts[j]!, interface: own[j]! },
        now,
        1000 + ((i * 37 + j) % 9000),
      );
    }
  }
  return network;
}

/** `rounds` signed reports of each agent, round by round: bodies ready to be posted. They are `intervalSeconds` apart and
 * end `agoMs` before `now`. */
export async function signedReports(
  network: SimNetwork,
  senders: readonly Sender[],
  rounds: number,
  now: number,
  intervalSeconds: number,
  agoMs = 0,
): Promise<string[]> {
  const bodies: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const age = agoMs + (rounds - 1 - round) * intervalSeconds * 1000;
    for (const [i, host] of network.hosts.entries()) {
      host.tick++;
      const collected = collectHost(network, host, now - age, intervalSeconds);
      // As wg-quick leaves it with one subnet: a route for the mesh, not one a peer; and a host without iproute2.
      collected.routes = (collected.routes ?? []).filter(({ interface: name }) => name !== "wg0");
      collected.routes.push({ destination: "10.64.0.0/10", gateway: null, interface: "wg0", metric: 0 });
      for (const item of collected.wireguard ?? []) for (const peer of item.peers ?? []) delete peer.via;
      bodies.push(JSON.stringify(await senders[i]!.report(collected, now, age)));
    }
  }
  return bodies;
}

export async function createSenders(network: SimNetwork, url: string, psk: string): Promise<Sender[]> {
  return Promise.all(network.hosts.map((host) => createSender(url, psk, host.id)));
}
