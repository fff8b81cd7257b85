// Owns the situations that the recorder plays: what two WireGuard ends are set up to, and what is done to them and
// when. What inference ought to say about each stands in test/recordings/expectations.ts.
import type { Host, WireguardInterface } from "./host.ts";
import type { Lab } from "./lab.ts";
import { generateKeyPair, generatePresharedKey } from "./wireguard.ts";

/** What a situation is played on. */
export type Stage = {
  lab: Lab;
  /** Names a key, as it stands in the recording. */
  key(label: string, publicKey: string): void;
  /** Does something `t` seconds after the start. */
  at(t: number, what: string, action: () => Promise<unknown>): void;
  /** The ends to sample; the edge in question lies between the first two. */
  end(host: Host): void;
  /** Says that the host's first card has this address from now on. */
  readdressed(host: Host, address: string): void;
};

export type Situation = { name: string; description: string; play(stage: Stage): Promise<void> };

const A = "10.9.0.1";
const B = "10.9.0.2";
/** Where a fault comes in: late enough that a report of the healthy link is there, early enough that five minutes of
 * symptoms are left. */
const FAULT_S = 40;

type PairOptions = {
  /** Seconds at a and at b; default 25 at both. */
  keepalive?: [number, number];
  /** Whether a knows b's endpoint, and b a's; default both. */
  endpoints?: [boolean, boolean];
  presharedKeys?: [string | undefined, string | undefined];
  /** What a lists instead of b's key. */
  wrongKey?: string;
  ipv6?: boolean;
  /** One ping from a to b before the start, so that there is a session; default true where it can work. */
  greet?: boolean;
};
type Pair = { a: Host; b: Host; wgA: WireguardInterface; wgB: WireguardInterface };

/** Hosts a and b on one segment, each the other's peer on wg0. */
async function pair(stage: Stage, options: PairOptions = {}): Promise<Pair> {
  const { keepalive = [25, 25], endpoints = [true, true], presharedKeys = [], wrongKey, ipv6 = false } = options;
  const [a, b] = await Promise.all([stage.lab.host("a"), stage.lab.host("b")]);
  const [keyA, keyB] = [generateKeyPair(), generateKeyPair()];
  stage.key("a", keyA.publicKey);
  stage.key("b", keyB.publicKey);
  const at = (host: Host) => `${ipv6 ? `[${host.nics[0]!.address6}]` : host.address}:51820`;
  const optional = (place: 0 | 1, other: Host) => ({
    ...(endpoints[place] ? { endpoint: at(other) } : {}),
    ...(presharedKeys[place] === undefined ? {} : { presharedKey: presharedKeys[place] }),
  });
  // a first, so that its keepalive (where it has one) starts the handshake
  const wgA = await a.wireguard("wg0", {
    ...keyA,
    addresses: [`${A}/24`],
    peers: [
      { publicKey: wrongKey ?? keyB.publicKey, allowedIps: [`${B}/32`], keepalive: keepalive[0], ...optional(0, b) },
    ],
  });
  const wgB = await b.wireguard("wg0", {
    ...keyB,
    addresses: [`${B}/24`],
    peers: [{ publicKey: keyA.publicKey, allowedIps: [`${A}/32`], keepalive: keepalive[1], ...optional(1, a) }],
  });
  stage.end(a);
  stage.end(b);
  const works = presharedKeys[0] === presharedKeys[1] && wrongKey === undefined && (endpoints[0] || endpoints[1]);
  if (options.greet ?? works) await greet(endpoints[0] ? a : b, endpoints[0] ? B : A);
  return { a, b, wgA, wgB };
}

async function greet(from: Host, to: string): Promise<void> {
  if (!(await from.pingUntil(to))) throw new Error(`${from.name} cannot reach ${to} before the start`);
}

/** Pings until the end of the situation. */
async function chat(from: Host, to: string, everySeconds = 1, size = 200): Promise<void> {
  await from.spawn(["ping", "-n", "-q", "-i", String(everySeconds), "-s", String(size), to]);
}

/** What the switch drops between the two. */
const drop = {
  aToB: ({ a, b }: Pair) => `ip saddr ${a.address} ip daddr ${b.address} drop`,
  bToA: ({ a, b }: Pair) => `ip saddr ${b.address} ip daddr ${a.address} drop`,
};

function healthy(
  name: string,
  keepalive: [number, number],
  description: string,
  traffic?: (pair: Pair, stage: Stage) => Promise<void>,
): Situation {
  return {
    name,
    description,
    async play(stage) {
      const both = await pair(stage, { keepalive });
      await traffic?.(both, stage);
    },
  };
}

/** A healthy pair, and from FAULT_S on rules at the switch. */
function filtered(
  name: string,
  description: string,
  rules: (pair: Pair) => string[],
  options: PairOptions = {},
  traffic?: (pair: Pair) => Promise<void>,
): Situation {
  return {
    name,
    description,
    async play(stage) {
      const both = await pair(stage, options);
      await traffic?.(both);
      stage.at(FAULT_S, description, () => Promise.all(rules(both).map((rule) => stage.lab.filter(rule))));
    },
  };
}

/** A pair that a rule at the switch cuts from before the first packet. */
function cutFromStart(
  name: string,
  description: string,
  rules: (pair: { a: string; b: string }) => string[],
): Situation {
  return {
    name,
    description,
    async play(stage) {
      for (const rule of rules({ a: "192.168.50.1", b: "192.168.50.2" })) await stage.lab.filter(rule);
      await pair(stage, { greet: false });
    },
  };
}

/** A healthy pair to which something is done at FAULT_S. */
function changed(
  name: string,
  description: string,
  action: (pair: Pair, stage: Stage) => Promise<unknown>,
  options: PairOptions = {},
  traffic?: (pair: Pair) => Promise<void>,
): Situation {
  return {
    name,
    description,
    async play(stage) {
      const both = await pair(stage, options);
      await traffic?.(both);
      stage.at(FAULT_S, description, () => action(both, stage));
    },
  };
}

/** Home behind a masquerading router (b), hub with a public address (a). The hub knows no endpoint of home. */
async function natted(stage: Stage, keepaliveAtHome: number): Promise<Pair & { router: Host; lanAddress: string }> {
  const lan = await stage.lab.segment("lan", { prefix: "192.168.1" });
  const [a, router, b] = await Promise.all([
    stage.lab.host("a"),
    stage.lab.host("router", { segments: [stage.lab.underlay, lan] }),
    stage.lab.host("b", { segments: [lan] }),
  ]);
  await router.masquerade(router.nics[0]!);
  await b.ip(`route add default via ${router.nics[1]!.address}`);
  const wgA = await a.wireguard("wg0", { addresses: [`${A}/24`] });
  const wgB = await b.wireguard("wg0", {
    addresses: [`${B}/24`],
    peers: [
      { publicKey: wgA.publicKey, endpoint: wgA.endpoint(), allowedIps: [`${A}/32`], keepalive: keepaliveAtHome },
    ],
  });
  await wgA.setPeers({ publicKey: wgB.publicKey, allowedIps: [`${B}/32`] });
  stage.key("a", wgA.publicKey);
  stage.key("b", wgB.publicKey);
  stage.end(a);
  stage.end(b);
  await greet(b, A);
  return { a, b, wgA, wgB, router, lanAddress: b.address };
}

async function moveAddress(stage: Stage, host: Host, to: string): Promise<void> {
  await host.ip(`addr del ${host.address}/24 dev eth0`, `addr add ${to}/24 dev eth0`);
  stage.readdressed(host, to);
}

/** Ends wg0 and makes it again with the same key and peers. */
async function remake(
  wg: WireguardInterface,
  addresses: string[],
  peer: Parameters<WireguardInterface["setPeers"]>[0],
): Promise<void> {
  const { host, privateKey, publicKey } = wg;
  await wg.remove();
  await host.wireguard("wg0", { privateKey, publicKey, addresses, peers: [peer] });
}

export const SITUATIONS: Situation[] = [
  // Healthy, with every keepalive arrangement.
  healthy("keepalive-25-25", [25, 25], "keepalive 25 s at both ends, no traffic"),
  healthy("keepalive-25-0", [25, 0], "keepalive 25 s at the initiator alone, no traffic"),
  {
    name: "keepalive-0-25",
    description: "keepalive 25 s at the responder alone, which knows no endpoint at first; no traffic",
    play: async (stage) => void (await pair(stage, { keepalive: [0, 25], endpoints: [true, false] })),
  },
  healthy("keepalive-250-250", [250, 250], "keepalive 250 s at both ends, no traffic"),
  healthy("keepalive-off-idle", [0, 0], "no keepalive, one ping before the start, then nothing"),
  healthy("keepalive-off-occasional", [0, 0], "no keepalive, a ping every 70 s", ({ a }) => chat(a, B, 70)),
  healthy(
    "keepalive-off-busy",
    [0, 0],
    "no keepalive, four pings of 1,000 bytes a second both ways",
    async ({ a, b }) => {
      await chat(a, B, 0.25, 1000);
      await chat(b, A, 0.25, 1000);
    },
  ),
  healthy("busy-25-25", [25, 25], "keepalive 25 s at both ends, a ping of 1,000 bytes a second", ({ a }) =>
    chat(a, B, 1, 1000),
  ),
  healthy("one-way-traffic", [0, 0], "no keepalive, a sends data every 2 s that b never answers", async ({ a, b }) => {
    await b.nft(
      "table ip t { chain input { type filter hook input priority 0; iifname wg0 icmp type echo-request drop; }; }",
    );
    await chat(a, B, 2);
  }),
  {
    name: "ipv6-underlay",
    description: "keepalive 25 s at both ends over IPv6 endpoints",
    play: async (stage) => void (await pair(stage, { ipv6: true })),
  },
  {
    name: "unused",
    description: "configured at both ends without keepalive, never a packet",
    play: async (stage) => void (await pair(stage, { keepalive: [0, 0], greet: false })),
  },
  {
    name: "no-endpoint-either",
    description: "keepalive 25 s at both ends, but neither has an endpoint",
    play: async (stage) => void (await pair(stage, { endpoints: [false, false], greet: false })),
  },
  {
    name: "keepalive-without-endpoint",
    description: "b has keepalive 25 s but no endpoint, a the endpoint but no keepalive: neither starts",
    play: async (stage) => void (await pair(stage, { keepalive: [0, 25], endpoints: [true, false], greet: false })),
  },
  healthy(
    "idle-then-wakes",
    [0, 0],
    "no keepalive, idle from the start to 300 s, then a pings every second",
    async ({ a }, stage) => {
      stage.at(300, "a pings b every second", () => chat(a, B));
    },
  ),
  {
    name: "slow-line",
    description: "keepalive 25 s at both ends, a line of 200 kbit/s filled by large pings",
    async play(stage) {
      const both = await pair(stage);
      await both.a.limit("eth0", 200);
      await both.b.limit("eth0", 200);
      await chat(both.a, B, 0.05, 1200);
    },
  },

  // Keys that do not fit.
  {
    name: "preshared-mismatch",
    description: "different preshared keys from the start, keepalive 25 s at both ends",
    play: async (stage) =>
      void (await pair(stage, { presharedKeys: [generatePresharedKey(), generatePresharedKey()] })),
  },
  {
    name: "preshared-at-one-end",
    description: "a preshared key at a alone from the start, keepalive 25 s at a alone",
    play: async (stage) =>
      void (await pair(stage, { presharedKeys: [generatePresharedKey(), undefined], keepalive: [25, 0] })),
  },
  {
    name: "preshared-mismatch-traffic",
    description: "different preshared keys from the start, no keepalive, a pings b every second",
    async play(stage) {
      const { a } = await pair(stage, {
        presharedKeys: [generatePresharedKey(), generatePresharedKey()],
        keepalive: [0, 0],
      });
      await chat(a, B);
    },
  },
  changed("preshared-changed", "b's preshared key is changed, keepalive 25 s at both ends", ({ wgA, wgB }) =>
    wgB.setPeers({ publicKey: wgA.publicKey, presharedKey: generatePresharedKey() }),
  ),
  changed(
    "preshared-changed-traffic",
    "a's preshared key is changed, no keepalive, a pings b every second",
    ({ wgA, wgB }) => wgA.setPeers({ publicKey: wgB.publicKey, presharedKey: generatePresharedKey() }),
    { keepalive: [0, 0] },
    ({ a }) => chat(a, B),
  ),
  {
    name: "wrong-key",
    description: "a lists a key that nobody has at b's address, b lists a; keepalive 25 s at both ends",
    async play(stage) {
      const { publicKey } = generateKeyPair();
      stage.key("stranger", publicKey);
      await pair(stage, { wrongKey: publicKey });
    },
  },
  changed(
    "rekeyed",
    "b takes a new key, and a is told 5 s later; keepalive 25 s at both ends",
    async ({ a, wgA, wgB }, stage) => {
      const now = await wgB.rekey();
      stage.key("b-new", now.publicKey);
      await Bun.sleep(5_000);
      await wgA.removePeer(wgB.publicKey);
      await wgA.setPeers({
        publicKey: now.publicKey,
        allowedIps: [`${B}/32`],
        endpoint: now.endpoint(),
        keepalive: 25,
      });
      await greet(a, B);
    },
  ),
  {
    name: "key-on-two-hosts",
    description: "b and c have the same key and both dial a, keepalive 25 s at both",
    async play(stage) {
      const { a, wgA, wgB } = await pair(stage, { endpoints: [false, true] });
      const c = await stage.lab.host("c");
      await c.wireguard("wg0", {
        privateKey: wgB.privateKey,
        publicKey: wgB.publicKey,
        addresses: ["10.9.0.3/24"],
        peers: [{ publicKey: wgA.publicKey, endpoint: `${a.address}:51820`, allowedIps: [`${A}/32`], keepalive: 25 }],
      });
      stage.end(c);
    },
  },

  // Packets that do not arrive.
  filtered("drop-a-to-b", "what a sends is dropped at the switch; keepalive 25 s at both ends", (both) => [
    drop.aToB(both),
  ]),
  filtered("drop-b-to-a", "what b sends is dropped at the switch; keepalive 25 s at both ends", (both) => [
    drop.bToA(both),
  ]),
  filtered("drop-both", "everything is dropped at the switch; keepalive 25 s at both ends", (both) => [
    drop.aToB(both),
    drop.bToA(both),
  ]),
  filtered(
    "drop-a-to-b-keepalive-a",
    "what a sends is dropped; keepalive 25 s at a alone",
    (both) => [drop.aToB(both)],
    {
      keepalive: [25, 0],
    },
  ),
  filtered(
    "drop-a-to-b-keepalive-b",
    "what a sends is dropped; keepalive 25 s at b alone",
    (both) => [drop.aToB(both)],
    {
      keepalive: [0, 25],
    },
  ),
  filtered(
    "drop-b-to-a-keepalive-a",
    "what b sends is dropped; keepalive 25 s at a alone",
    (both) => [drop.bToA(both)],
    {
      keepalive: [25, 0],
    },
  ),
  filtered(
    "drop-a-to-b-traffic",
    "what a sends is dropped; no keepalive, a pings b every second",
    (both) => [drop.aToB(both)],
    { keepalive: [0, 0] },
    ({ a }) => chat(a, B),
  ),
  filtered(
    "drop-b-to-a-traffic",
    "what b sends is dropped; no keepalive, a pings b every second",
    (both) => [drop.bToA(both)],
    { keepalive: [0, 0] },
    ({ a }) => chat(a, B),
  ),
  filtered(
    "drop-both-traffic",
    "everything is dropped; no keepalive, a pings b every second",
    (both) => [drop.aToB(both), drop.bToA(both)],
    { keepalive: [0, 0] },
    ({ a }) => chat(a, B),
  ),
  filtered(
    "drop-both-idle",
    "everything is dropped; no keepalive and no traffic, so nobody can know",
    (both) => [drop.aToB(both), drop.bToA(both)],
    { keepalive: [0, 0] },
  ),
  filtered(
    "drop-both-250",
    "everything is dropped; keepalive 250 s at both ends",
    (both) => [drop.aToB(both), drop.bToA(both)],
    { keepalive: [250, 250] },
  ),
  cutFromStart(
    "drop-a-to-b-from-start",
    "what a sends is dropped from the start; keepalive 25 s at both ends",
    ({ a, b }) => [`ip saddr ${a} ip daddr ${b} drop`],
  ),
  cutFromStart(
    "drop-both-from-start",
    "everything is dropped from the start; keepalive 25 s at both ends",
    ({ a, b }) => [`ip saddr ${a} ip daddr ${b} drop`, `ip saddr ${b} ip daddr ${a} drop`],
  ),
  changed("dropped-by-b", "b's own firewall drops what arrives for WireGuard; keepalive 25 s at both ends", ({ b }) =>
    b.nft("table ip t { chain input { type filter hook input priority 0; udp dport 51820 drop; }; }"),
  ),
  changed(
    "rejected-by-b",
    "b's own firewall rejects what arrives for WireGuard; keepalive 25 s at both ends",
    ({ b }) => b.nft("table ip t { chain input { type filter hook input priority 0; udp dport 51820 reject; }; }"),
  ),
  changed(
    "sender-firewall",
    "a's own firewall drops what WireGuard sends (EPERM); keepalive 25 s at both ends",
    ({ a }) => a.nft("table ip t { chain output { type filter hook output priority 0; udp sport 51820 drop; }; }"),
  ),
  changed("cannot-send", "a's network card is set down; keepalive 25 s at both ends", ({ a }) =>
    a.link("eth0", "down"),
  ),
  filtered(
    "loss-20-busy",
    "a fifth of all packets is lost; keepalive 25 s at both ends, two pings a second",
    () => ["ip protocol udp numgen random mod 100 < 20 drop"],
    {},
    ({ a }) => chat(a, B, 0.5, 500),
  ),
  filtered("loss-20-idle", "a fifth of all packets is lost; keepalive 25 s at both ends, no traffic", () => [
    "ip protocol udp numgen random mod 100 < 20 drop",
  ]),
  filtered(
    "mtu-black-hole",
    "packets over 700 bytes are lost; keepalive 25 s at both ends, a ping of 1,200 bytes a second",
    () => ["ip protocol udp meta length > 700 drop"],
    {},
    ({ a }) => chat(a, B, 1, 1200),
  ),
  filtered(
    "mtu-black-hole-a-to-b",
    "packets over 700 bytes from a to b are lost; no keepalive, both send pings of 1,200 bytes",
    (both) => [drop.aToB(both).replace("drop", "meta length > 700 drop")],
    { keepalive: [0, 0] },
    async ({ a, b }) => {
      await chat(a, B, 1, 1200);
      await chat(b, A, 1, 1200);
    },
  ),

  // An end that is gone or changed.
  changed("host-gone", "b loses power; keepalive 25 s at both ends", ({ b }) => b.kill()),
  changed("host-gone-idle", "b loses power; no keepalive, no traffic, so nobody can know", ({ b }) => b.kill(), {
    keepalive: [0, 0],
  }),
  changed(
    "host-gone-traffic",
    "b loses power; no keepalive, a pings b every second",
    ({ b }) => b.kill(),
    { keepalive: [0, 0] },
    ({ a }) => chat(a, B),
  ),
  changed("peer-removed-at-b", "b forgets a; keepalive 25 s at both ends", ({ wgA, wgB }) =>
    wgB.removePeer(wgA.publicKey),
  ),
  changed("peer-removed-at-both", "both forget each other; keepalive 25 s at both ends", ({ wgA, wgB }) =>
    Promise.all([wgB.removePeer(wgA.publicKey), wgA.removePeer(wgB.publicKey)]),
  ),
  changed("interface-down-at-b", "b's wg0 is set down; keepalive 25 s at both ends", ({ b }) => b.link("wg0", "down")),
  changed("interface-gone-at-b", "b's wg0 is removed; keepalive 25 s at both ends", ({ wgB }) => wgB.remove()),
  changed(
    "interface-remade",
    "b's wg0 is removed and made again with the same key; keepalive 25 s at both ends",
    ({ wgA, wgB }) =>
      remake(wgB, [`${B}/24`], {
        publicKey: wgA.publicKey,
        endpoint: wgA.endpoint(),
        allowedIps: [`${A}/32`],
        keepalive: 25,
      }),
  ),
  changed(
    "hub-remade",
    "hub b is made again and knows no endpoint of a any more; no keepalive, b pings a every 5 s",
    async ({ b, wgA, wgB }) => {
      await remake(wgB, [`${B}/24`], { publicKey: wgA.publicKey, allowedIps: [`${A}/32`] });
      await chat(b, A, 5);
    },
    { keepalive: [0, 0], endpoints: [true, false] },
  ),
  changed(
    "hub-remade-keepalive-at-hub",
    "hub b is made again and knows no endpoint of a any more; keepalive 25 s at b alone",
    ({ wgA, wgB }) => remake(wgB, [`${B}/24`], { publicKey: wgA.publicKey, allowedIps: [`${A}/32`], keepalive: 25 }),
    { keepalive: [0, 25], endpoints: [true, false] },
  ),
  changed(
    "hub-remade-keepalive-at-spoke",
    "hub b is made again and knows no endpoint of a any more; keepalive 25 s at a, which heals it",
    ({ wgA, wgB }) => remake(wgB, [`${B}/24`], { publicKey: wgA.publicKey, allowedIps: [`${A}/32`] }),
    { keepalive: [25, 0], endpoints: [true, false] },
  ),
  {
    name: "host-reboots",
    description: "b loses power at 40 s and is back at 100 s; keepalive 25 s at both ends",
    async play(stage) {
      const { b, wgA, wgB } = await pair(stage);
      const { privateKey, publicKey } = wgB;
      const peer = { publicKey: wgA.publicKey, endpoint: wgA.endpoint(), allowedIps: [`${A}/32`], keepalive: 25 };
      stage.at(FAULT_S, "b loses power", () => b.kill());
      stage.at(100, "b is back", async () => {
        const again = await stage.lab.host("b", { segments: [] });
        await again.attach(stage.lab.underlay, { index: 2 });
        await again.wireguard("wg0", { privateKey, publicKey, addresses: [`${B}/24`], peers: [peer] });
        stage.end(again);
      });
    },
  },
  {
    name: "cable-out-and-in",
    description: "b's cable is out from 40 s to 250 s; keepalive 25 s at both ends",
    async play(stage) {
      const { b } = await pair(stage);
      stage.at(FAULT_S, "b's cable is pulled", () => b.cable(b.nics[0]!, "out"));
      stage.at(250, "b's cable is back", () => b.cable(b.nics[0]!, "in"));
    },
  },
  {
    name: "idle-then-wakes-to-a-dead-peer",
    description: "no keepalive, idle; b loses power at 40 s; a pings every second from 240 s on",
    async play(stage) {
      const { a, b } = await pair(stage, { keepalive: [0, 0] });
      stage.at(FAULT_S, "b loses power", () => b.kill());
      stage.at(240, "a pings b every second", () => chat(a, B));
    },
  },

  // Endpoints that move or are wrong.
  {
    name: "roaming",
    description: "b's address is replaced at 150 s and its socket bound anew; keepalive 25 s at both ends",
    async play(stage) {
      const { b } = await pair(stage);
      stage.at(150, "b's address becomes 192.168.50.77, and wg0 binds anew", async () => {
        await moveAddress(stage, b, "192.168.50.77");
        // makes wireguard-go forget the source address that it remembers for a
        await b.run(["wg", "set", "wg0", "fwmark", "1"]);
      });
    },
  },
  {
    name: "address-replaced",
    description:
      "b's address is replaced at 150 s; its wireguard-go goes on with the old source until the next handshake; " +
      "keepalive 25 s at both ends",
    async play(stage) {
      const { b } = await pair(stage);
      stage.at(150, "b's address becomes 192.168.50.77", () => moveAddress(stage, b, "192.168.50.77"));
    },
  },
  {
    name: "endpoint-outdated",
    description: "b has moved; a, which alone has keepalive, still dials the old address; b is quiet",
    async play(stage) {
      const { b } = await pair(stage, { keepalive: [25, 0] });
      stage.at(FAULT_S, "b's address becomes 192.168.50.77", () => moveAddress(stage, b, "192.168.50.77"));
    },
  },
  {
    name: "endpoint-wrong-port",
    description: "a dials b at port 51821 where nobody listens; b knows no endpoint; keepalive 25 s at both ends",
    async play(stage) {
      const { b, wgA, wgB } = await pair(stage, { endpoints: [false, false], greet: false });
      await wgA.setPeers({ publicKey: wgB.publicKey, endpoint: `${b.address}:51821` });
    },
  },
  {
    name: "nat",
    description: "b behind a masquerading router, keepalive 25 s at b",
    play: async (stage) => void (await natted(stage, 25)),
  },
  {
    name: "nat-rebinding",
    description: "b behind a router whose outer address changes at 150 s, keepalive 25 s at b",
    async play(stage) {
      const { router } = await natted(stage, 25);
      stage.at(150, "the router's outer address becomes 192.168.50.99", () =>
        router.ip("addr del 192.168.50.2/24 dev eth0", "addr add 192.168.50.99/24 dev eth0"),
      );
    },
  },
  {
    name: "nat-mapping-lost",
    description: "b behind a router without keepalive; the mapping is lost at 40 s, and a pings b every second",
    async play(stage) {
      const { a, router } = await natted(stage, 0);
      stage.at(FAULT_S, "the router's outer address becomes 192.168.50.99; a pings b", async () => {
        await router.ip("addr del 192.168.50.2/24 dev eth0", "addr add 192.168.50.99/24 dev eth0");
        await chat(a, B);
      });
    },
  },
  {
    name: "tunnel-loop",
    description: "a's AllowedIPs lead b's endpoint into the tunnel itself; wg0 limited to 500 kbit/s at both ends",
    async play(stage) {
      const { a, b, wgA, wgB } = await pair(stage);
      // without a limit the loop fills memory and cores
      await Promise.all([a.limit("wg0", 500), b.limit("wg0", 500)]);
      stage.at(FAULT_S, "b's address becomes an AllowedIP of b", () =>
        wgA.setPeers({ publicKey: wgB.publicKey, allowedIps: [`${B}/32`, `${b.address}/32`] }),
      );
    },
  },
];
