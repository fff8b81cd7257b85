// Peers and relays that answer with endless bodies, bombs, redirects, drips, HTML or lies: the agent that asks them spends
// bounded time and bytes, goes nowhere else, believes nothing, and keeps what it has to say.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { candidates } from "../../agent/candidates.ts";
import { discoverCommand } from "../../agent/commands.ts";
import { relayEnvelope } from "../../agent/deliver.ts";
import { Discovery, readPeer } from "../../agent/discover.ts";
import { agentSettings } from "../../agent/settings.ts";
import { exchange } from "../../agent/wire.ts";
import { newNonce, seal, type SigningKey, signingKey } from "../../shared/envelope.ts";
import { createLog } from "../../shared/log.ts";
import type { Envelope, Report } from "../../shared/report.ts";
import { type Ground, ground, registered } from "../manager/support.ts";
import { type OwnAgent, ownAgent, ownDirectory, toldHost, tunnel } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const MiB = 1024 * 1024;
const KEY = `${"A".repeat(43)}=`;

/** What the peer at each address does; all of them are one server on loopback, and fetch is led there. */
type Behaviour = (request: Request) => Response | Promise<Response>;
const behaviours = new Map<string, Behaviour>();
/** Addresses that were asked, and bodies that were sent there. */
let asked: string[];
let sentBytes = 0;
/** Addresses that a message was sent to, to be relayed. */
let toRelay: string[];
let peers: ReturnType<typeof Bun.serve>;
let trap: ReturnType<typeof Bun.serve>;
let trapped = 0;
let fetches: { mockRestore(): void };

beforeAll(() => {
  peers = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    fetch: (request) => behaviours.get(request.headers.get("host")!)!(request),
  });
  trap = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => {
      trapped++;
      return Response.json(peer());
    },
  });
  const original = globalThis.fetch;
  fetches = spyOn(globalThis, "fetch").mockImplementation(((input: string | URL | Request, init?: RequestInit) => {
    const url = new URL(input instanceof Request ? input.url : input);
    asked.push(url.hostname);
    if (url.pathname === "/status/relay") toRelay.push(url.hostname);
    if (!behaviours.has(url.hostname)) return original(input, init);
    const headers = { ...(init?.headers as Record<string, string>), Host: url.hostname };
    return original(`http://127.0.0.1:${peers.port}${url.pathname}`, { ...init, headers });
  }) as typeof fetch);
});
afterAll(async () => {
  fetches.mockRestore();
  await Promise.all([peers.stop(true), trap.stop(true)]);
});
beforeEach(() => {
  behaviours.clear();
  asked = [];
  toRelay = [];
  sentBytes = 0;
  trapped = 0;
});

const peer = (over: Record<string, unknown> = {}) => ({
  agent_id: crypto.randomUUID(),
  hostname: "x",
  version: "0.1.0",
  interfaces: [],
  routes: [],
  peers: [] as unknown[],
  manager: { reachable: true, hops: 0 },
  ...over,
});

/** As fast as they are taken, without end. */
const endless: Behaviour = () =>
  new Response(
    new ReadableStream({
      pull(controller) {
        sentBytes += 65_536;
        controller.enqueue(new Uint8Array(65_536).fill(32));
      },
    }) as BodyInit,
  );
const bomb = gzipSync(new Uint8Array(64 * MiB));
const HOSTILE: Record<string, Behaviour> = {
  endless,
  "a gzip bomb": () =>
    new Response(bomb, { headers: { "Content-Encoding": "gzip", "Content-Type": "application/json" } }),
  "a redirect to the cloud's metadata": () => Response.redirect("http://169.254.169.254/status/peer", 307),
  "a permanent redirect to another port": () => Response.redirect(`http://127.0.0.1:${trap.port}/status/peer`, 308),
  "a found redirect to another port": () => Response.redirect(`http://127.0.0.1:${trap.port}/status/peer`, 302),
  "a slow drip": () =>
    new Response(
      new ReadableStream({
        async pull(controller) {
          await Bun.sleep(100);
          controller.enqueue(new Uint8Array([32]));
        },
      }) as BodyInit,
    ),
  "no answer": () => new Promise<Response>(() => {}),
  "200 with HTML": () => new Response("<html>welcome</html>", { headers: { "Content-Type": "text/html" } }),
  "200 with nothing": () => new Response(null),
  "500": () => new Response("{}", { status: 500 }),
};

/** WireGuard with peers of these addresses. */
const kernelOf = (addresses: readonly string[]) => ({
  interfaces: [],
  wireguard: [tunnel(addresses.map((address) => ({ allowed_ips: [`${address}/32`] })))],
});

/** The same, as `wg` prints it. */
const dumpOf = (addresses: readonly string[]) =>
  [
    `${KEY}\t${KEY}\t51820\toff\n`,
    ...addresses.map((address) => `${KEY}\t(none)\t(none)\t${address}/32\t0\t0\t0\toff\n`),
  ].join("");

describe("discovery", () => {
  test("a round over peers of every kind: bounded time and bytes, none of them found, the honest one is", async () => {
    const kinds = Object.values(HOSTILE);
    const addresses = kinds.map((_, i) => `10.66.0.${i + 1}`);
    for (const [i, address] of addresses.entries()) behaviours.set(address, kinds[i]!);
    const honest = peer();
    behaviours.set("10.66.0.99", () => Response.json(honest));
    const discovery = new Discovery({ port: 5087, ownId: () => "" });
    const watch = stopwatch();
    await discovery.round(kernelOf([...addresses, "10.66.0.99"]));
    const seconds = watch.ms() / 1000;
    expect(discovery.all().map(({ address, agentId }) => [address, agentId])).toEqual([
      ["10.66.0.99", honest.agent_id],
    ]);
    // Two of them last for the 2 s that a probe has; four are asked at a time.
    expect(seconds).toBeLessThan(4.5);
    // 64 KiB are read; what lies in the sockets' buffers is on its way.
    expect(sentBytes).toBeLessThan(8 * MiB);
    expect([...asked].sort()).toEqual([...addresses, "10.66.0.99"].sort());
    expect(trapped).toBe(0);
  });

  test("before a relay is used it is asked whether it is there: those that fell silent hold nothing up", async () => {
    const addresses = ["10.66.0.1", "10.66.0.2", "10.66.0.3", "10.66.0.4"];
    for (const address of addresses) behaviours.set(address, () => Response.json(peer()));
    let now = Date.now();
    const discovery = new Discovery({ port: 5087, ownId: () => "", now: () => now });
    const kernel = kernelOf(addresses);
    await discovery.round(kernel);
    const relays = () => discovery.relays(kernel, null);
    const there = async () => (await discovery.there(relays())).map(({ address }) => address);
    for (const address of ["10.66.0.1", "10.66.0.2"]) behaviours.set(address, HOSTILE["no answer"]!);
    behaviours.set("10.66.0.3", () => Response.json(peer({ manager: { reachable: false, hops: null } })));
    // Just heard of: taken at their word, nobody is asked.
    const before = asked.length;
    expect((await there()).sort()).toEqual(addresses);
    expect(asked.length).toBe(before);
    now += 15_000;
    const watch = stopwatch();
    expect(await there()).toEqual(["10.66.0.4"]);
    // The two silent ones at the same time: 2 s in all.
    expect(watch.ms()).toBeLessThan(3500);
    expect(relays().map(({ address }) => address)).toEqual(["10.66.0.4"]);
  });

  test("addresses that a peer names are asked only inside AllowedIPs, and no more than a round's", async () => {
    const names = [
      "169.254.169.254",
      "127.0.0.1",
      "::1",
      "198.51.100.7",
      "10.66.0.1:22",
      "http://10.66.0.1/",
      "localhost",
      "0.0.0.0",
      5,
      null,
      {},
      ...Array.from({ length: 10_000 }, (_, i) => `10.77.${i >> 8}.${i & 255}`),
    ];
    // 64 KiB hold 5,000 of them: it takes what fits.
    behaviours.set("10.66.0.1", () => Response.json(peer({ peers: names.slice(0, 3000) })));
    for (let i = 0; i < 3000; i++)
      behaviours.set(`10.77.${i >> 8}.${i & 255}`, () => new Response(null, { status: 404 }));
    const kernel = kernelOf(["10.66.0.1"]);
    kernel.wireguard[0]!.peers![0]!.allowed_ips.push("10.77.0.0/16", "0.0.0.0/0");
    const discovery = new Discovery({ port: 5087, ownId: () => "" });
    await discovery.round(kernel);
    expect(asked).toHaveLength(32);
    expect(asked.filter((address) => !/^10\.(66|77)\./.test(address))).toEqual([]);
    expect(candidates(kernel, discovery.all()[0]!.peers).length).toBeLessThanOrEqual(257);
  });

  test("-discover prints a hostile peer's words on one line, without what moves a cursor", async () => {
    const evil = "x\u001b[2J\r\nroot\u0007\u009b1A\u202e";
    behaviours.set("10.66.0.1", () => Response.json(peer({ agent_id: evil, hostname: evil, version: evil })));
    using own = ownDirectory();
    writeFileSync(join(own.path, "dump"), dumpOf(["10.66.0.1"]));
    const script = `#!/bin/sh\nif [ "$2" = interfaces ]; then echo wg0; else exec /bin/cat ${own.path}/dump; fi\n`;
    writeFileSync(join(own.path, "wg"), script, { mode: 0o755 });
    const path = process.env["PATH"];
    process.env["PATH"] = `${own.path}:${path}`;
    const said: string[] = [];
    const discover = (json: boolean) =>
      discoverCommand(agentSettings({}, own.path), json, createLog("error"), (text) => void said.push(text));
    try {
      expect([await discover(false), await discover(true)]).toEqual([0, 0]);
    } finally {
      process.env["PATH"] = path;
    }
    const lines = said[0]!.split("\n");
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(/^10\.66\.0\.1  x\?\[2J\?\?root\?\?1A\?  [0-9]+ ms +direct   x\?\[2J/);
    expect(said[0]).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    // As JSON they stand as they are, escaped.
    expect(JSON.parse(said[1]!)).toMatchObject([{ agent_id: evil, hostname: evil, version: evil }]);
    expect(said[1]).not.toContain("\u001b");
  });

  test("an agent that answers as oneself is not found", async () => {
    const id = crypto.randomUUID();
    behaviours.set("10.66.0.1", () => Response.json(peer({ agent_id: id })));
    const discovery = new Discovery({ port: 5087, ownId: () => id });
    await discovery.round(kernelOf(["10.66.0.1"]));
    expect(discovery.all()).toEqual([]);
  });
});

describe("what a peer says", () => {
  const read = (value: unknown) =>
    readPeer(new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value)));
  test.each([
    ["nothing", ""],
    ["HTML", "<html>"],
    ["cut off", '{"agent_id":"x"'],
    ["null", "null"],
    ["an array", "[]"],
    ["no id", "{}"],
    ["an id that is a number", '{"agent_id":5}'],
  ])("%s: nobody", (_name, text) => {
    expect(read(text)).toBeNull();
  });
  test("bytes that are no text: nobody", () => {
    expect(readPeer(new Uint8Array([0x7b, 0xff, 0x7d]))).toBeNull();
  });
  test.each([
    ["not reachable", { reachable: false, hops: 0 }, null],
    ["reachable as text", { reachable: "yes", hops: 0 }, null],
    ["hops below zero", { reachable: true, hops: -1 }, null],
    ["half a hop", { reachable: true, hops: 0.5 }, null],
    ["no hops", { reachable: true }, null],
    ["no manager", null, null],
    ["a manager that is text", "x", null],
    ["two hops", { reachable: true, hops: 2 }, 2],
  ])("a manager that is %s", (_name, manager, hops) => {
    expect(read(peer({ manager }))!.hops).toBe(hops);
  });
  test("long strings are cut, and lists bounded", () => {
    const found = read(
      peer({ agent_id: "a".repeat(1000), hostname: "h".repeat(1000), version: 5, peers: Array(1000).fill("10.0.0.1") }),
    )!;
    expect([found.agentId.length, found.hostname.length, found.version, found.peers.length]).toEqual([
      64,
      255,
      "",
      256,
    ]);
  });
});

describe("one request", () => {
  test.each(Object.keys(HOSTILE))("%s: within its time and size", async (kind) => {
    behaviours.set("10.66.0.1", HOSTILE[kind]!);
    const watch = stopwatch();
    const answer = await exchange("http://10.66.0.1:5087/status/updates", { body: "{}", timeoutMs: 500 });
    expect(watch.ms()).toBeLessThan(1500);
    if (answer.ok) expect(answer.body.length).toBeLessThanOrEqual(64 * 1024);
    expect(sentBytes).toBeLessThan(8 * MiB);
    expect([trapped, asked]).toEqual([0, ["10.66.0.1"]]);
  });

  test("a gzip bomb is left as it is", async () => {
    const small = gzipSync(new Uint8Array(8 * MiB));
    behaviours.set("10.66.0.1", () => new Response(small, { headers: { "Content-Encoding": "gzip" } }));
    const answer = await exchange("http://10.66.0.1:5087/", { method: "GET", timeoutMs: 1000 });
    expect(answer).toMatchObject({ ok: true, status: 200 });
    expect(answer.ok && answer.body.length).toBe(small.length);
  });

  test.each([
    ["7", 7],
    ["-1", null],
    ["1e9", null],
    ["99999999999", null],
    ["Wed, 21 Oct 2026 07:28:00 GMT", null],
  ])("Retry-After: %s", async (value, seconds) => {
    behaviours.set("10.66.0.1", () => new Response(null, { status: 503, headers: { "Retry-After": value } }));
    const answer = await exchange("http://10.66.0.1:5087/", { timeoutMs: 1000 });
    expect(answer).toMatchObject({ ok: true, retryAfterSeconds: seconds });
  });
});

describe("a relay, where the manager is out of reach", () => {
  let manager: Ground;
  let own: OwnAgent;
  let away: ReturnType<typeof Bun.serve>;
  const ADDRESSES = ["10.66.0.1", "10.66.0.2"] as const;
  const host = toldHost({
    programs: { "wg show interfaces": "wg0\n", "wg show wg0 dump": dumpOf(ADDRESSES), "ip -j -d -s addr": "[]" },
  });

  beforeAll(async () => {
    manager = await ground();
    away = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(null, { status: 502 }) });
  });
  afterAll(async () => {
    await away.stop(true);
    await manager.remove();
  });
  /** An agent that the manager knows, whose direct way is shut since. */
  async function cutOff(): Promise<void> {
    own = await ownAgent({ PSK: manager.psk, MANAGER_URL: manager.url, REPORT_INTERVAL: "1" }, host);
    expect(await own.agent.delivery.flush(await own.agent.collect())).toBe(true);
    const { directory } = own;
    const { identity } = own.agent;
    // A start of its own, so that it knows of no way yet.
    const again = await ownAgent(
      { PSK: manager.psk, STATE_DIR: directory, MANAGER_URL: `http://127.0.0.1:${away.port}`, REPORT_INTERVAL: "1" },
      host,
    );
    expect(again.agent.identity.agentId).toBe(identity.agentId);
    const first = own;
    own = { ...again, [Symbol.dispose]: () => (first[Symbol.dispose](), again[Symbol.dispose]()) };
  }
  beforeEach(cutOff);
  afterEach(() => own[Symbol.dispose]());

  /** A relay: what it says of itself, and what it does with a message. */
  const relay =
    (
      hops: number,
      take: (outer: { envelope: Envelope }, request: Request) => Response | Promise<Response>,
    ): Behaviour =>
    async (request) => {
      if (new URL(request.url).pathname === "/status/peer")
        return Response.json(peer({ manager: { reachable: true, hops } }));
      const { data } = (await request.json()) as Envelope;
      return take(JSON.parse(data) as { envelope: Envelope }, request);
    };
  /** An honest one, in as many words. */
  const honest = (hops: number) =>
    relay(hops, async ({ envelope }) => {
      const id = crypto.randomUUID();
      const data = {
        v: 1,
        type: "relay",
        agent_id: id,
        nonce: newNonce(),
        sent_at: Date.now(),
        relay_path: [id],
        envelope,
      };
      return fetch(`${manager.url}/status/updates`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(await seal(JSON.stringify(data), manager.psk, null)),
      });
    });
  const send = async () => own.agent.delivery.flush(await own.agent.collect());

  let forger: SigningKey;
  beforeAll(async () => {
    forger = await signingKey();
  });
  /** In the manager's place: it has the fleet's key, and not the manager's. */
  const forged = (status: number, code: string, over: Record<string, unknown> = {}) =>
    relay(0, async ({ envelope }) => {
      const inner = JSON.parse(envelope.data) as Report;
      const ack = {
        v: 1,
        type: "ack",
        code,
        message: "",
        nonce: inner.nonce,
        agent_id: inner.agent_id,
        tick: inner.tick,
        server_time_at: Date.now(),
        manager_key: forger.publicKey,
        ...over,
      };
      return Response.json(await seal(JSON.stringify(ack), manager.psk, forger), { status });
    });

  const LIES: Record<string, () => Behaviour> = {
    "a forged ack": () => forged(200, "accepted"),
    "a forged duplicate": () => forged(409, "replay", { duplicate: true }),
    "a forged reset": () => forged(410, "reset"),
    "a forged conflict": () => forged(409, "id_conflict", { agent_id: crypto.randomUUID() }),
    "a forged clock": () => forged(401, "clock_skew", { server_time_at: Date.now() + 3_600_000 }),
    "a forged tick": () => forged(409, "stale_tick", { highest_tick: 2 ** 52 }),
    "a forged schema refusal": () => forged(422, "schema"),
    "a forged registration": () => forged(201, "registered"),
    "an unsigned 200": () => relay(0, () => Response.json({ code: "accepted" })),
    "the message sent back": () => relay(0, ({ envelope }) => Response.json(envelope)),
    "200 with HTML": () => relay(0, () => new Response("<html>")),
    "a redirect": () => relay(0, () => Response.redirect(`http://127.0.0.1:${trap.port}/`, 307)),
    "a body without end": () => relay(0, (_outer, request) => endless(request)),
    "a gzip bomb": () => relay(0, () => new Response(bomb, { headers: { "Content-Encoding": "gzip" } })),
    "401": () => relay(0, () => Response.json({ error: "unauthenticated", message: "" }, { status: 401 })),
    "502": () => relay(0, () => new Response(null, { status: 502 })),
  };

  test.each(Object.keys(LIES))("%s: believed in nothing, and the report stays", async (kind) => {
    behaviours.set(ADDRESSES[0], LIES[kind]!());
    behaviours.set(ADDRESSES[1], () => new Response(null, { status: 404 }));
    const { identity, outbox } = own.agent;
    const before = [identity.agentId, identity.key.publicKey, identity.managerKey];
    const rows = manager.stored();
    const watch = stopwatch();
    expect(await send()).toBe(false);
    expect(watch.ms()).toBeLessThan(3000);
    expect(asked).toContain(ADDRESSES[0]);
    expect([identity.agentId, identity.key.publicKey, identity.managerKey]).toEqual(before);
    expect([outbox.length, outbox.dropped, outbox.peek()!.report.tick]).toEqual([1, 0, 2]);
    expect([manager.stored(), trapped]).toEqual([rows, 0]);
    expect(sentBytes).toBeLessThan(8 * MiB);
  });

  test.each(Object.keys(LIES))("%s, and another relay that is honest: delivered by that one", async (kind) => {
    behaviours.set(ADDRESSES[0], LIES[kind]!());
    behaviours.set(ADDRESSES[1], honest(1));
    const rows = manager.stored()["reports"]!;
    expect(await send()).toBe(true);
    // The registration by both, then the report.
    expect(toRelay).toEqual([ADDRESSES[0], ADDRESSES[1], ADDRESSES[1]]);
    expect(manager.stored()["reports"]).toBe(rows + 1);
    expect(own.agent.delivery.reached).toMatchObject({ via: "relay", address: ADDRESSES[1] });
  });

  describe("relays others' messages itself", () => {
    /** The agent at the address of the working relay. */
    const workingId = crypto.randomUUID();
    const otherId = crypto.randomUUID();
    /** Addresses that a message was sent to. */
    let sentTo: string[];
    const named = (address: string, id: string, hops: number): Behaviour => {
      const take = honest(hops);
      return (request) => {
        if (new URL(request.url).pathname === "/status/peer")
          return Response.json(peer({ agent_id: id, manager: { reachable: true, hops } }));
        sentTo.push(address);
        return take(request);
      };
    };
    beforeEach(async () => {
      sentTo = [];
      behaviours.set(ADDRESSES[0], named(ADDRESSES[0], workingId, 0));
      behaviours.set(ADDRESSES[1], named(ADDRESSES[1], otherId, 1));
      expect(await send()).toBe(true);
      expect(own.agent.delivery.workingRelay).toBe(ADDRESSES[0]);
      sentTo = [];
    });
    /** A message of a registered agent, as the neighbour `from` hands it on. */
    async function handed(from: string, path: string[], originator?: string): Promise<number> {
      const inner =
        originator === undefined
          ? await (await registered(manager)).report()
          : await seal(JSON.stringify({ v: 1, type: "report", agent_id: originator }), manager.psk, null);
      const outer = await relayEnvelope(inner, path, from, manager.psk, Date.now());
      return (await own.agent.relay.take(new TextEncoder().encode(JSON.stringify(outer)))).status;
    }
    const stranger = crypto.randomUUID();

    test("by its own working relay", async () => {
      expect([await handed(stranger, [stranger]), sentTo]).toEqual([200, [ADDRESSES[0]]]);
    });
    test("never back to the working relay where that is its sender: by the other", async () => {
      expect([await handed(workingId, [workingId]), sentTo]).toEqual([200, [ADDRESSES[1]]]);
    });
    test("never back to one on its path; the third relay tries the manager alone", async () => {
      expect([await handed(stranger, [workingId, stranger]), sentTo]).toEqual([502, []]);
    });
    test("never back to its originator", async () => {
      await handed(stranger, [stranger], workingId);
      expect(sentTo).toEqual([ADDRESSES[1]]);
    });
    test("nowhere, where all that it knows are behind it: 502", async () => {
      expect([await handed(workingId, [otherId]), sentTo]).toEqual([502, []]);
    });
  });
});
