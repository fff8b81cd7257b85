// The ways that a message is tried by: which relays, in which order, how many, how long each try may take; and how many
// addresses -discover asks, and how many at once. No request leaves: fetch is answered here, and nothing is waited for.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { discoverCommand } from "../../agent/commands.ts";
import { relayEnvelope } from "../../agent/deliver.ts";
import { Discovery } from "../../agent/discover.ts";
import { agentSettings } from "../../agent/settings.ts";
import { seal, type SigningKey, signingKey } from "../../shared/envelope.ts";
import { createLog } from "../../shared/log.ts";
import type { Envelope } from "../../shared/report.ts";
import { type OwnAgent, ownAgent, ownDirectory, toldHost, tunnel } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const KEY = `${"A".repeat(43)}=`;
const MANAGER = "192.0.2.1";

/** Who answers at an address; nobody listens at any other. */
const behaviours = new Map<string, (url: URL, body: string) => Response | Promise<Response>>();
/** Each request, with the time that it was given. */
let tries: { host: string; path: string; timeoutMs: number }[];
let managerKey: SigningKey;
let spies: { mockRestore(): void }[];

beforeAll(async () => {
  managerKey = await signingKey();
  // `exchange` sets its timer right before it fetches.
  let timeoutMs = NaN;
  const timer = globalThis.setTimeout;
  const timers = spyOn(globalThis, "setTimeout").mockImplementation(((handler: () => void, ms: number) => {
    timeoutMs = ms;
    return timer(handler, ms);
  }) as typeof setTimeout);
  const fetches = spyOn(globalThis, "fetch").mockImplementation((async (input: string, init: RequestInit) => {
    const url = new URL(input);
    tries.push({ host: url.hostname, path: url.pathname, timeoutMs });
    const behaviour = behaviours.get(url.hostname);
    if (behaviour === undefined) throw new Error("refused");
    return behaviour(url, String(init.body ?? ""));
  }) as unknown as typeof fetch);
  spies = [timers, fetches];
});
afterAll(() => spies.forEach((spy) => spy.mockRestore()));
beforeEach(() => {
  behaviours.clear();
  tries = [];
});

/** WireGuard as `wg` prints it: a peer at each address, with its handshake in seconds. */
const dumpOf = (peers: readonly (readonly [address: string, handshakeAt: number])[]) =>
  [
    `${KEY}\t${KEY}\t51820\toff\n`,
    ...peers.map(([address, at]) => `${KEY}\t(none)\t(none)\t${address}/32\t${at}\t0\t0\toff\n`),
  ].join("");

const agents: OwnAgent[] = [];
afterEach(() => {
  for (const own of agents.splice(0)) own[Symbol.dispose]();
});
/** An agent without a direct way, as yet. */
async function cutOff(
  peers: readonly (readonly [string, number])[],
  environment: Record<string, string> = {},
): Promise<OwnAgent> {
  const programs = { "wg show interfaces": "wg0\n", "wg show wg0 dump": dumpOf(peers), "ip -j -d -s addr": "[]" };
  const own = await ownAgent({ MANAGER_URL: `http://${MANAGER}:5086`, ...environment }, toldHost({ programs }));
  agents.push(own);
  return own;
}
const send = async (own: OwnAgent) => own.agent.delivery.flush(await own.agent.collect());

const says = (hops: number | null, id: string = crypto.randomUUID()) =>
  Response.json({ agent_id: id, hostname: "x", version: "0.1.0", manager: { reachable: hops !== null, hops } });
/** A relay to the manager, which takes everything. */
const relay = (own: () => OwnAgent, hops: number, id?: string) => async (url: URL, body: string) => {
  if (url.pathname === "/status/peer") return says(hops, id);
  const { envelope } = JSON.parse((JSON.parse(body) as Envelope).data) as { envelope: Envelope };
  const inner = JSON.parse(envelope.data) as { type: string; nonce: string; agent_id: string };
  const ack = {
    v: 1,
    type: "ack",
    code: inner.type === "register" ? "registered" : "accepted",
    message: "",
    nonce: inner.nonce,
    agent_id: inner.agent_id,
    tick: null,
    server_time_at: Date.now(),
    manager_key: managerKey.publicKey,
  };
  return Response.json(await seal(JSON.stringify(ack), own().psk, managerKey));
};
/** An agent that says that it reaches the manager, and does not. */
const liar = (hops: number | null) => (url: URL) =>
  url.pathname === "/status/peer" ? says(hops) : new Response(null, { status: 502 });
/** The relays that a message was sent to. */
const relayed = () => tries.filter(({ path }) => path === "/status/relay").map(({ host }) => host);

describe("relays", () => {
  test("are ordered: the one that worked last, then fewest hops, then the freshest handshake", async () => {
    const told: [address: string, hops: number | null, handshakeAt: number | null][] = [
      ["10.66.0.1", 2, 9000],
      ["10.66.0.2", 0, 1000],
      ["10.66.0.3", 1, 2000],
      ["10.66.0.4", 0, 3000],
      ["10.66.0.5", null, 9999],
      ["10.66.0.6", 1, null],
      ["10.66.0.7", 0, null],
    ];
    for (const [address, hops] of told) behaviours.set(address, () => says(hops));
    const kernel = (handshaken: boolean) => {
      const peers = told.map(([address, , at]) => ({
        allowed_ips: [`${address}/32`],
        latest_handshake_at: handshaken ? at : null,
      }));
      return { interfaces: [], wireguard: [tunnel(peers)] };
    };
    const discovery = new Discovery({ port: 5087, ownId: () => "" });
    // Heard of first in the order of their addresses: by the handshakes they are asked in the right one already.
    await discovery.round(kernel(false));
    await discovery.round(kernel(true));
    const order = (last: string | null) => discovery.relays(kernel(true), last).map(({ address }) => address.slice(-1));
    expect(order(null).join("")).toBe("427361");
    expect(order("10.66.0.1").join("")).toBe("142736");
    // It reaches the manager no more, or was never heard of.
    expect(order("10.66.0.5").join("")).toBe("427361");
    expect(order("10.66.0.99").join("")).toBe("427361");
  });

  test("three at most for a message, of five that are known: the best three, in their order", async () => {
    const hops = [1, 0, 2, 0, 1];
    for (const [i, count] of hops.entries()) behaviours.set(`10.66.0.${i + 1}`, liar(count));
    const own = await cutOff([
      ["10.66.0.1", 5000],
      ["10.66.0.2", 1000],
      ["10.66.0.3", 9000],
      ["10.66.0.4", 2000],
      ["10.66.0.5", 4000],
    ]);
    expect(await send(own)).toBe(false);
    expect(tries.filter(({ path }) => path === "/status/peer")).toHaveLength(5);
    expect(relayed()).toEqual(["10.66.0.4", "10.66.0.2", "10.66.0.1"]);
    expect(own.agent.outbox.length).toBe(1);
  });

  test("the one that worked last goes first, though another has fewer hops and a fresher handshake", async () => {
    const [better, worse] = ["10.66.0.1", "10.66.0.2"] as const;
    const own = await cutOff([
      [better, 9000],
      [worse, 1000],
    ]);
    behaviours.set(better, liar(0));
    behaviours.set(
      worse,
      relay(() => own, 1),
    );
    expect(await send(own)).toBe(true);
    // The registration, then the report.
    expect(relayed()).toEqual([better, worse, worse]);
    tries = [];
    behaviours.set(
      better,
      relay(() => own, 0),
    );
    await own.agent.discovery.round(own.agent.sections()!);
    expect(own.agent.discovery.relays(own.agent.sections()!, null).map(({ address }) => address)).toEqual([
      better,
      worse,
    ]);
    expect(await send(own)).toBe(true);
    expect(relayed()).toEqual([worse]);
    expect(own.agent.delivery.reached).toMatchObject({ via: "relay", address: worse, hops: 2 });
  });
});

describe("deadlines", () => {
  const RELAY = "10.66.0.1";
  const OTHER = "10.66.0.2";
  const given = (path: string) => tries.filter((one) => one.path === path).map(({ timeoutMs }) => timeoutMs);
  /** To the second: of what is left, milliseconds have gone. */
  const seconds = (ms: number) => Math.ceil(ms / 1000);

  test.each([
    [1, 1000],
    [4, 4000],
    [5, 5000],
    [30, 5000],
    [3600, 5000],
  ])("a direct try at an interval of %i s: %i ms; the originator's by a relay: 15 s", async (interval, ms) => {
    const own = await cutOff([[RELAY, 1]], { REPORT_INTERVAL: String(interval) });
    behaviours.set(
      RELAY,
      relay(() => own, 0),
    );
    expect(await send(own)).toBe(true);
    expect(given("/status/register")).toEqual([ms]);
    expect(given("/status/relay")).toEqual([15_000, 15_000]);
    tries = [];
    behaviours.delete(RELAY);
    expect(await send(own)).toBe(false);
    expect(given("/status/updates")).toEqual([ms]);
  });

  /** A message that has gone by these relays, given to `own` to relay. */
  const hand = async (own: OwnAgent, path: string[]) => {
    const inner = await seal(
      JSON.stringify({ v: 1, type: "report", agent_id: crypto.randomUUID() }),
      own.psk,
      managerKey,
    );
    const outer = await relayEnvelope(inner, path, path.at(-1) ?? crypto.randomUUID(), own.psk, Date.now());
    return own.agent.relay.take(new TextEncoder().encode(JSON.stringify(outer)));
  };
  const before = [crypto.randomUUID(), crypto.randomUUID()];
  const chain: [name: string, path: string[], seconds: number][] = [
    ["first", [], 10],
    ["second", before.slice(0, 1), 7],
    ["third", before, 4],
  ];

  test.each(chain)("the %s relay gives its own working relay what it has", async (_name, path, whole) => {
    const own = await cutOff([[RELAY, 1]]);
    behaviours.set(
      RELAY,
      relay(() => own, 0),
    );
    expect(await send(own)).toBe(true);
    expect(own.agent.delivery.workingRelay).toBe(RELAY);
    tries = [];
    expect((await hand(own, path)).status).toBe(200);
    expect(tries.map(({ host, timeoutMs }) => [host, seconds(timeoutMs)])).toEqual([[RELAY, whole]]);
  });

  test.each(chain)("the %s relay gives what a manager that hangs has left", async (_name, path, whole) => {
    let hung = 0;
    const clock = performance.now.bind(performance);
    using _clock = spyOn(performance, "now").mockImplementation(() => clock() + hung);
    const own = await cutOff([
      [RELAY, 2],
      [OTHER, 1],
    ]);
    for (const address of [RELAY, OTHER]) behaviours.set(address, liar(0));
    behaviours.set(MANAGER, () => {
      hung += tries.at(-1)!.timeoutMs;
      throw new Error("no answer");
    });
    await own.agent.collect();
    await own.agent.discovery.round(own.agent.sections()!);
    tries = [];
    expect((await hand(own, path)).status).toBe(502);
    // One next hop, whoever else is known; a fourth relay would refuse.
    expect(tries.map(({ host, timeoutMs }) => [host, seconds(timeoutMs)])).toEqual(
      path.length < 2
        ? [
            [MANAGER, 3],
            [RELAY, whole - 3],
          ]
        : [[MANAGER, 3]],
    );
  });
});

test("-discover asks 256 at most, four at a time and 2 s each; the agent by itself 32", async () => {
  const addresses = Array.from({ length: 300 }, (_, i) => `10.66.${i >> 8}.${i & 255}`);
  let underWay = 0;
  let atOnce = 0;
  for (const address of addresses)
    behaviours.set(address, async () => {
      atOnce = Math.max(atOnce, ++underWay);
      await Bun.sleep(1);
      underWay--;
      // It names others, which the same round may ask.
      return Response.json({ ...(await says(0).json()), peers: addresses });
    });
  using own = ownDirectory();
  writeFileSync(join(own.path, "dump"), dumpOf(addresses.map((address) => [address, 1] as const)));
  const script = `#!/bin/sh\nif [ "$2" = interfaces ]; then echo wg0; else exec /bin/cat ${own.path}/dump; fi\n`;
  writeFileSync(join(own.path, "wg"), script, { mode: 0o755 });
  const path = process.env["PATH"];
  process.env["PATH"] = `${own.path}:${path}`;
  let said = "";
  try {
    const settings = agentSettings({}, own.path);
    expect(await discoverCommand(settings, true, createLog("error"), (text) => void (said += text))).toBe(0);
  } finally {
    process.env["PATH"] = path;
  }
  expect((JSON.parse(said) as unknown[]).length).toBe(256);
  expect([tries.length, new Set(tries.map(({ host }) => host)).size, atOnce]).toEqual([256, 256, 4]);
  expect(new Set(tries.map(({ timeoutMs }) => timeoutMs))).toEqual(new Set([2000]));
  tries = [];
  atOnce = 0;
  const peers = addresses.map((address) => ({ allowed_ips: [`${address}/32`] }));
  await new Discovery({ port: 5087, ownId: () => "" }).round({ interfaces: [], wireguard: [tunnel(peers)] });
  expect([tries.length, atOnce]).toEqual([32, 4]);
});
