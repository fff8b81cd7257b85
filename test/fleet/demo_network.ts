// Owns the demo's network: 50 hosts on 6 sites, two meshes (a hub-and-spoke over three hubs, and a small full mesh), two
// vxlan overlays, a foreign peer, idle tunnels; and the faults that are there or come and go. Pure: time is given.
import {
  addHost,
  connect,
  createNetwork,
  type SimHost,
  type SimLink,
  type SimNetwork,
  wireguardInterface,
} from "./network.ts";

export type Demo = { network: SimNetwork; faults(now: number): void };

const SITES = ["fra", "ams", "hel", "waw", "lon", "mad"];

/** Builds the network as of `startedAt`; `faults(now)` sets what is broken at `now`. */
export function demoNetwork(seed: number, startedAt: number): Demo {
  const network = createNetwork(seed);
  const hubs: SimHost[] = [];
  const spokes: SimHost[] = [];
  const databases: SimHost[] = [];
  SITES.slice(0, 3).forEach((site) => hubs.push(addHost(network, `hub-${site}`, site, startedAt)));
  for (let i = 0; i < 33; i++) {
    const site = SITES[i % SITES.length]!;
    const behindNat = i % 11 === 10;
    spokes.push(
      addHost(
        network,
        `${["web", "app", "edge", "cache"][i % 4]}-${site}-${Math.floor(i / SITES.length) + 1}`,
        behindNat ? `home-${i}` : site,
        startedAt,
        { behindNat },
      ),
    );
  }
  for (let i = 0; i < 14; i++)
    databases.push(addHost(network, `db-${SITES[i % 3]}-${Math.floor(i / 3) + 1}`, SITES[i % 3]!, startedAt));
  const laptop = addHost(network, "laptop", "road", startedAt, { hasAgent: false, behindNat: true });

  const mesh = (host: SimHost, index: number) =>
    wireguardInterface(network, host, "wg0", `10.80.0.${index + 1}/24`, 51820);
  const members = [...hubs, ...spokes, laptop];
  const links: SimLink[] = [];
  const join = (
    a: SimHost,
    b: SimHost,
    rate: number,
    extra: { a?: string[]; b?: string[] } = {},
    keepalive: number | null = 25,
  ) => {
    const link = connect(
      network,
      { host: a, interface: mesh(a, members.indexOf(a)), extra: extra.b ?? [], keepalive },
      { host: b, interface: mesh(b, members.indexOf(b)), extra: extra.a ?? [], keepalive },
      startedAt,
      rate,
    );
    links.push(link);
    return link;
  };
  for (const [i, a] of hubs.entries()) for (const b of hubs.slice(i + 1)) join(a, b, 250_000);
  const spokeLinks = spokes.map((spoke, i) => [
    // A spoke routes its site's LAN through its first hub.
    join(hubs[i % 3]!, spoke, 4_000 + 900 * (i % 7), i < 3 ? { b: [`192.168.${i + 1}.0/24`] } : {}),
    join(hubs[(i + 1) % 3]!, spoke, 300),
  ]);
  // Spokes that talk to each other now and then, without keepalive: idle is healthy.
  const idle = join(spokes[4]!, spokes[9]!, 0, {}, null);
  idle.handshakeAt = startedAt - 3 * 3_600_000;
  const road = join(hubs[0]!, laptop, 900);

  const databaseLinks: SimLink[] = [];
  databases.forEach((a, i) =>
    databases.slice(i + 1).forEach((b, j) => {
      const own = (host: SimHost, index: number) =>
        wireguardInterface(network, host, "wg-db", `10.81.0.${index + 1}/24`, 51821);
      databaseLinks.push(
        connect(
          network,
          { host: a, interface: own(a, i) },
          { host: b, interface: own(b, i + 1 + j) },
          startedAt,
          20_000,
        ),
      );
    }),
  );
  databases[0]!.overlays.push({ name: "vxlan100", remote: databases[1]!, vni: 100 });
  databases[1]!.overlays.push({ name: "vxlan100", remote: databases[0]!, vni: 100 });
  databases[2]!.overlays.push({ name: "vxlan200", remote: databases[3]!, vni: 200 });
  databases[3]!.overlays.push({ name: "vxlan200", remote: databases[2]!, vni: 200 });

  const minute = 60_000;
  const during = (now: number, from: number, until: number) =>
    now >= startedAt + from * minute && now < startedAt + until * minute;
  /** `on` for the first `share` of every `period` minutes. */
  const comesAndGoes = (now: number, period: number, share: number, offset: number) =>
    (((now - startedAt) / minute + offset) % period) / period < share;

  return {
    network,
    faults(now) {
      for (const link of network.links) link.fault = null;
      for (const host of network.hosts) host.down = false;
      // Since twenty minutes into the past: a firewall change that lets hub-ams hear nothing from one spoke.
      const blocked = spokeLinks[7]![0]!;
      if (during(now, 12, 1e9)) blocked.fault = { is: "blocked", from: blocked.b };
      // A preshared key that was changed at one end alone.
      if (during(now, 5, 1e9)) databaseLinks[3]!.fault = { is: "preshared_key" };
      // A peer that somebody removed on one side.
      const removed = spokeLinks[12]![1]!;
      if (during(now, 18, 1e9)) removed.fault = { is: "missing_peer", at: removed.a };
      // A host that died, and one that reboots now and then.
      if (during(now, 15, 1e9)) spokes[20]!.down = true;
      if (comesAndGoes(now, 26, 0.3, 0)) spokes[26]!.down = true;
      // A lossy uplink that comes and goes.
      if (comesAndGoes(now, 16, 0.5, 3)) for (const link of spokeLinks[16]!) link.fault = { is: "lossy" };
      // An office whose direct way to the manager is shut: its reports come through a hub.
      spokes[14]!.relayedBy = during(now, 8, 1e9) ? hubs[2]! : null;
      // The laptop sleeps at times.
      road.fault = comesAndGoes(now, 20, 0.4, 9) ? { is: "cut" } : null;
    },
  };
}
