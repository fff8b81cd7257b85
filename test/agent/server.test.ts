// The agent's own endpoints: who may ask what, what is told, what resets it, and broken HTTP, over a real port where the
// framing matters.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createAgentApp, mayAsk, serveAgent, type AgentServer } from "../../agent/server.ts";
import { newNonce, seal, type SigningKey, signingKey } from "../../shared/envelope.ts";
import { formatPrefix, parsePrefix } from "../../shared/net.ts";
import type { Ack, Envelope, Report } from "../../shared/report.ts";
import { VERSION } from "../../shared/version.ts";
import { say } from "../manager/support.ts";
import { capturedHost, type OwnAgent, ownAgent, tunnel } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

type Sections = Pick<Report, "wireguard" | "interfaces">;

/** One peer with these AllowedIPs. */
const allowed = (...prefixes: string[]): Sections => ({
  interfaces: [],
  wireguard: [tunnel([{ allowed_ips: prefixes }])],
});

describe("who may ask", () => {
  const sections = allowed("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "0.0.0.0/0", "::/0", "172.0.0.0/7");
  test.each([
    ["loopback", "127.0.0.1", true],
    ["all of loopback", "127.255.0.9", true],
    ["IPv6 loopback", "::1", true],
    ["loopback, mapped", "::ffff:127.0.0.1", true],
    ["inside a /8 of AllowedIPs", "10.255.255.255", true],
    ["inside a /32 of AllowedIPs", "192.0.2.7", true],
    ["the same, mapped", "::ffff:192.0.2.7", true],
    ["inside an IPv6 /32 of AllowedIPs", "2001:db8:ffff::1", true],
    ["beside the /32", "192.0.2.8", false],
    ["a default route's AllowedIPs let nobody in", "198.51.100.1", false],
    ["nor IPv6's", "2001:db9::1", false],
    ["a /7 is too wide", "172.16.0.1", false],
    ["the local network", "192.168.1.2", false],
    ["no address", "", false],
    ["a name", "localhost", false],
  ])("%s", (_name, remote, wanted) => {
    expect(mayAsk(remote, [], sections)).toBe(wanted);
  });

  test("wg unreadable, or nothing collected yet: loopback and AGENT_ALLOW alone", () => {
    const allow = [parsePrefix("192.168.1.0/24")!, parsePrefix("fd00::/8")!];
    for (const sections of [null, { wireguard: null, interfaces: null }]) {
      expect(["127.0.0.1", "192.168.1.9", "fd00::9"].map((remote) => mayAsk(remote, allow, sections))).toEqual([
        true,
        true,
        true,
      ]);
      expect(["10.0.0.1", "192.168.2.9"].map((remote) => mayAsk(remote, allow, sections))).toEqual([false, false]);
    }
  });
});

describe("the endpoints", () => {
  let own: OwnAgent;
  let ask: (
    method: string,
    path: string,
    remote: string,
    headers?: Record<string, string>,
    host?: string,
  ) => Promise<Response>;
  beforeAll(async () => {
    own = await ownAgent({ AGENT_ALLOW: "192.168.77.0/24" }, capturedHost());
    await own.agent.collect();
    const answer = createAgentApp(own.server);
    ask = (method, path, remote, headers = {}, host = "10.9.0.1:5087") =>
      answer(
        new Request(`http://${host}${path}`, { method, headers, ...(method === "POST" ? { body: "{}" } : {}) }),
        remote,
      );
  });
  afterAll(() => own[Symbol.dispose]());

  test("the captured AllowedIPs and AGENT_ALLOW", () => {
    expect(own.server.allow.map(formatPrefix)).toEqual(["192.168.77.0/24"]);
    const remotes = ["127.0.0.1", "10.9.0.2", "fd09::3", "192.168.77.1", "10.9.0.4", "192.168.50.2"];
    expect(remotes.map((remote) => mayAsk(remote, own.server.allow, own.server.sections()))).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  test.each([
    ["GET", "/status/peer"],
    ["POST", "/status/relay"],
    ["POST", "/status/reset"],
  ])(
    "%s %s answers strangers 403 and tells them nothing; also with headers that claim otherwise",
    async (method, path) => {
      const claims: Record<string, string>[] = [
        {},
        { "X-Forwarded-For": "127.0.0.1" },
        { Forwarded: "for=127.0.0.1", "X-Real-IP": "127.0.0.1", Host: "localhost" },
      ];
      for (const headers of claims) {
        const answer = await ask(method, path, "198.51.100.1", headers);
        expect(answer.status).toBe(403);
        expect(await answer.json()).toEqual({
          error: "forbidden",
          message: "only loopback, AGENT_ALLOW and addresses inside a WireGuard peer's AllowedIPs may ask this",
        });
      }
      // Everybody else gets past this, to what it makes of the message.
      expect((await ask(method, path, "10.9.0.2")).status).not.toBe(403);
    },
  );

  test("health tells a stranger only that it is well", async () => {
    const answer = await ask("GET", "/status/healthcheck", "198.51.100.1");
    expect([answer.status, await answer.text()]).toEqual([200, '{"status":"ok"}']);
  });

  test("health tells the others all", async () => {
    expect(await (await ask("GET", "/status/healthcheck", "10.9.0.2")).json()).toEqual({
      status: "ok",
      agent_id: own.agent.identity.agentId,
      version: VERSION,
      uptime_s: expect.any(Number),
      tick: 1,
      manager: { reachable: false, via: null, relay: null, last_delivery_at: null },
      outbox: { reports: 0, bytes: 0, limit_bytes: 16 * 1024 * 1024, dropped: 0, oldest_at: null },
      psk_error: null,
    });
  });

  test("a peer is told what it needs to find relays, and no key", async () => {
    const answer = await ask("GET", "/status/peer", "10.9.0.2");
    const text = await answer.text();
    expect(JSON.parse(text)).toMatchObject({
      agent_id: own.agent.identity.agentId,
      version: VERSION,
      peers: ["10.9.0.3", "fd09::3", "10.9.0.2", "fd09::2"],
      manager: { reachable: false, hops: 0 },
    });
    expect(text).not.toMatch(/[A-Za-z0-9+/]{43}=/);
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });

  test.each<[host: string, peer: number]>([
    ["10.9.0.1:5087", 200],
    ["127.0.0.1:5087", 200],
    ["[fd09::1]:5087", 200],
    ["localhost:5087", 200],
    ["rebound.example:5087", 421],
    ["localhost.example:5087", 421],
    ["127.0.0.1.example:5087", 421],
  ])("Host %s: a name that a stranger's page may have rebound learns nothing", async (host, status) => {
    for (const remote of ["127.0.0.1", "10.9.0.2"]) {
      const answer = await ask("GET", "/status/peer", remote, {}, host);
      expect([answer.status, (await answer.text()).includes("10.9.0.3")]).toEqual([status, status === 200]);
      const health = await (await ask("GET", "/status/healthcheck", remote, {}, host)).text();
      expect(health.includes(own.agent.identity.agentId)).toBe(status === 200);
    }
  });

  test.each([
    ["POST", "/status/healthcheck", "GET, HEAD"],
    ["DELETE", "/status/peer", "GET, HEAD"],
    ["GET", "/status/relay", "POST"],
    ["PUT", "/status/reset", "POST"],
    ["OPTIONS", "/status/reset", "POST"],
  ])("%s %s: 405 with Allow", async (method, path, allow) => {
    const answer = await ask(method, path, "198.51.100.1");
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, allow]);
  });

  test.each(["/", "/metrics", "/status/peer/", "//status/peer", "/status/%70eer", "/STATUS/PEER", "/status/agents"])(
    "%s is not there",
    async (path) => {
      expect((await ask("GET", path, "127.0.0.1")).status).toBe(404);
    },
  );

  test("a way round by dots is the plain path, with its protection", async () => {
    expect((await ask("GET", "/x/../status/peer", "198.51.100.1")).status).toBe(403);
  });
});

describe("broken HTTP over a socket", () => {
  let own: OwnAgent;
  let server: AgentServer;
  beforeAll(async () => {
    own = await ownAgent();
    server = serveAgent(own.server);
  });
  afterAll(async () => {
    await server.stop(true);
    own[Symbol.dispose]();
  });
  const post = (headers: string[], body = "{}") =>
    ["POST /status/relay HTTP/1.1", "Host: a", "Content-Type: application/json", ...headers, "", body].join("\r\n");

  test.each<[string, string, number]>([
    ["length and chunks", post(["Content-Length: 2", "Transfer-Encoding: chunked"], "2\r\n{}\r\n0\r\n\r\n"), 400],
    ["two lengths", post(["Content-Length: 2", "Content-Length: 3"]), 400],
    ["two equal lengths", post(["Content-Length: 2", "Content-Length: 2"]), 400],
    [
      "two equal lengths of a GET",
      "GET /status/healthcheck HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
      400,
    ],
    ["two hosts", "GET /status/peer HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: a\r\n\r\n", 400],
    ["a word as length", post(["Content-Length: two"]), 400],
    ["a negative length", post(["Content-Length: -2"]), 400],
    ["an empty body", post(["Content-Length: 0"], ""), 400],
    ["nothing", post([], ""), 400],
    ["nothing, of no type", post([], "").replace("Content-Type: application/json\r\n", ""), 400],
    ["a body beyond the limit", post(["Content-Length: 4194305"]), 413],
    ["gzip", post(["Content-Length: 2", "Content-Encoding: gzip"]), 415],
    ["text", post(["Content-Length: 2"]).replace("application/json", "text/plain"), 415],
    ["no type", post(["Content-Length: 2"]).replace("Content-Type: application/json\r\n", ""), 415],
    ["20 kB of headers", `GET /status/peer HTTP/1.1\r\nHost: a\r\nX: ${"y".repeat(20_000)}\r\n\r\n`, 431],
    ["no host", "GET /status/peer HTTP/1.1\r\n\r\n", 400],
    ["a host that is none", "GET /status/peer HTTP/1.1\r\nHost: a b[\r\n\r\n", 400],
    ["no HTTP", "\x16\x03\x01\x02\x00\r\n\r\n", 400],
  ])("%s", async (_name, text, status) => {
    expect((await say(server.port, [text])).status).toBe(status);
    expect((await fetch(`http://127.0.0.1:${server.port}/status/healthcheck`)).status).toBe(200);
    expect(own.lines.filter((line) => line.includes("request_failed"))).toEqual([]);
  });

  test.each<[string, string]>([
    ["a POST", post(["Content-Length: 2", "Content-Length: 2"])],
    ["a GET", "GET /status/peer HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"],
  ])("after ambiguous framing of %s the connection is closed: what follows is no request", async (_name, text) => {
    const said = await say(server.port, [`${text}GET /status/healthcheck HTTP/1.1\r\nHost: a\r\n\r\n`], {
      untilClosed: true,
    });
    expect(said.text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(said).toMatchObject({ status: 400, closed: true });
  });

  test("chunks beyond the limit: 413, without reading them all", async () => {
    const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
    function* body() {
      yield post(["Transfer-Encoding: chunked"], "");
      for (let i = 0; i < 2000; i++) yield chunk;
    }
    let said = await say(server.port, body());
    // A connection that is closed while the other side still sends is reset, and the reset may overtake the answer.
    for (let i = 0; i < 5 && said.closed && said.status === null; i++) said = await say(server.port, body());
    expect(said.status).toBe(413);
    expect(said.sentBytes).toBeLessThan(2000 * 0x10000);
  });

  test("a body beyond the limit from who does not look before all is sent: 413, and no reset", async () => {
    const head = post([`Content-Length: ${16 * 1024 * 1024}`], "");
    const said = await say(server.port, [head, ...new Array<string>(256).fill("x".repeat(0x10000))]);
    expect([said.status, said.sentBytes]).toEqual([413, head.length + 16 * 1024 * 1024]);
  });

  test.each(["/status/relay", "/status/reset", "/status/peer", "/nowhere"])(
    "a length over the limit, at %s: 413 before any of the body, said as every error is, and the connection is closed",
    async (path) => {
      for (const length of [4_194_305, 1_000_000_000_000]) {
        const head = post([`Content-Length: ${length}`], "").replace("/status/relay", path);
        const said = await say(server.port, [head], { untilClosed: true });
        expect([said.status, said.closed]).toEqual([413, true]);
        expect(JSON.parse(said.text.split("\r\n\r\n")[1]!)).toMatchObject({ error: "too_large" });
      }
    },
  );
  test("large bodies that never end: two have space, who comes then waits; small ones pass; afterwards there is space again", async () => {
    const length = 4 * 1024 * 1024;
    const unfinished = [post([`Content-Length: ${length}`], ""), " ".repeat(length - 1)];
    // Of three, two find space.
    const stalled = [1, 2, 3].map(() => say(server.port, unfinished, { patienceMs: 10_000 }));
    const ended = await Promise.race(stalled);
    expect([503, null]).toContain(ended.status); // where the reset overtakes the answer there is none
    await Bun.sleep(1000); // until the two have all that they send
    // No more than is read, and so no reset.
    const said = await say(server.port, [post([`Content-Length: ${length}`], ""), " ".repeat(70_000)]);
    expect([said.status, /\r\nRetry-After: ([0-9]+)/i.exec(said.text)?.[1]]).toEqual([503, "10"]);
    expect((await say(server.port, [post(["Content-Length: 2"])])).status).toBe(400);
    expect((await Promise.all(stalled)).filter(({ status, closed }) => status === null && !closed)).toHaveLength(2);
    const whole = [post([`Content-Length: ${length}`], ""), " ".repeat(length)];
    let after = await say(server.port, whole);
    for (let i = 0; i < 20 && after.status !== 400; i++) after = await say(server.port, whole);
    expect(after.status).toBe(400);
  });

  test("who is slow is cut off within 20 s, silent or dripping; meanwhile others are answered", async () => {
    const dripping = (head: string, drop: string) => [head, ...new Array<string>(40).fill(drop)];
    const cases: [string, string[]][] = [
      ["says nothing", []],
      ["half a header", ["POST /status/relay HTTP/1.1\r\nHost: local"]],
      ["a header that drips", dripping("POST /status/relay HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "a")],
      ["a body that never comes", [post(["Content-Length: 100"], "")]],
      ["a body that drips", dripping(post(["Content-Length: 100"], "{"), " ")],
      ["chunks that drip", dripping(post(["Transfer-Encoding: chunked"], ""), "1\r\n \r\n")],
    ];
    // Forty of each: more than one is what an attacker has.
    const slow = Array.from({ length: 40 }, () =>
      cases.map(async ([name, chunks]) => {
        const { closed, afterMs } = await say(server.port, chunks, {
          gapMs: 1000,
          patienceMs: 40_000,
          untilClosed: true,
        });
        return { name, closed, inTime: afterMs < 20_000 };
      }),
    ).flat();
    let open = true;
    const waits: number[] = [];
    const others = (async () => {
      while (open) {
        const watch = stopwatch();
        expect((await fetch(`http://127.0.0.1:${server.port}/status/healthcheck`)).status).toBe(200);
        waits.push(watch.ms());
        await Bun.sleep(250);
      }
    })();
    const outcomes = await Promise.all(slow);
    open = false;
    await others;
    for (const outcome of outcomes) expect(outcome).toEqual({ name: outcome.name, closed: true, inTime: true });
    expect(Math.max(...waits)).toBeLessThan(1000);
  }, 60_000);
});

describe("reset", () => {
  let own: OwnAgent;
  let manager: SigningKey;
  let before: string;
  let send: (body: unknown, remote?: string) => Promise<{ status: number; code: string }>;
  beforeEach(async () => {
    own = await ownAgent();
    manager = await signingKey();
    own.agent.identity.pinManager(manager.publicKey);
    before = own.agent.identity.agentId;
    own.agent.outbox.push(await own.agent.collect());
    const answer = createAgentApp({ ...own.server, sections: () => ({ ...allowed("10.0.0.0/8"), routes: [] }) });
    send = async (body, remote = "10.0.0.9") => {
      const got = await answer(
        new Request("http://agent/status/reset", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: typeof body === "string" ? body : JSON.stringify(body),
        }),
        remote,
      );
      const value = (await got.json()) as { error?: string; data?: string };
      const code = value.error ?? (JSON.parse(value.data!) as { code: string }).code;
      return { status: got.status, code };
    };
  });
  afterEach(() => own[Symbol.dispose]());

  const reset = (over: Record<string, unknown> = {}) =>
    JSON.stringify({
      v: 1,
      type: "reset",
      agent_id: before,
      nonce: newNonce(),
      sent_at: Date.now(),
      ...over,
    });
  const sealed = (key: SigningKey | null, over: Record<string, unknown> = {}, psk = own.psk): Promise<Envelope> =>
    seal(reset(over), psk, key);
  const unchanged = () => {
    expect(own.agent.identity.agentId).toBe(before);
    expect(own.agent.outbox.length).toBe(1);
  };

  test("with the manager's signature, from a peer: a new identity, an empty outbox, said loudly", async () => {
    expect(await send(await sealed(manager))).toEqual({ status: 200, code: "reset" });
    expect(own.agent.identity.agentId).not.toBe(before);
    expect([own.agent.outbox.length, await own.agent.identity.nextTick()]).toEqual([0, 1]);
    expect(own.lines.filter((line) => line.includes('"event":"reset"'))).toHaveLength(1);
  });

  test("sent again it is another agent's: nothing happens", async () => {
    const once = await sealed(manager);
    await send(once);
    const renewed = own.agent.identity.agentId;
    expect(await send(once)).toEqual({ status: 404, code: "unknown_agent" });
    expect(own.agent.identity.agentId).toBe(renewed);
  });

  test("from loopback the fleet's key is enough", async () => {
    expect(await send(await sealed(null), "127.0.0.1")).toEqual({ status: 200, code: "reset" });
    expect(own.agent.identity.agentId).not.toBe(before);
  });

  test("with a forged signature, another's, or none, from a peer: 401", async () => {
    const envelope = await sealed(manager);
    const flipped = envelope.sig!.startsWith("A") ? `B${envelope.sig!.slice(1)}` : `A${envelope.sig!.slice(1)}`;
    for (const wrong of [
      { ...envelope, sig: flipped },
      { ...envelope, sig: "" },
      { ...envelope, sig: "x".repeat(88) },
      await sealed(await signingKey()),
      await sealed(own.agent.identity.key),
      await sealed(null),
    ])
      expect(await send(wrong)).toEqual({ status: 401, code: "bad_signature" });
    unchanged();
  });

  test("an agent that knows no manager yet believes nobody from elsewhere", async () => {
    own.agent.identity.managerKey = null;
    expect(await send(await sealed(manager))).toEqual({ status: 401, code: "bad_signature" });
    unchanged();
  });

  test.each([
    ["a report's bytes", { type: "report" }, 403, "wrong_type"],
    ["an ack's bytes", { type: "ack" }, 403, "wrong_type"],
    ["a relay's bytes", { type: "relay" }, 403, "wrong_type"],
    ["no type", { type: undefined }, 403, "wrong_type"],
    ["for another agent", { agent_id: "0f9b5e9e-3a3c-4d0b-9b53-9b7e0e3f1a55" }, 404, "unknown_agent"],
    ["of a version that it does not know", { v: 2 }, 422, "version"],
    ["without a version", { v: undefined }, 422, "schema"],
    ["for no agent", { agent_id: "../../x" }, 422, "schema"],
    ["without a time", { sent_at: undefined }, 422, "schema"],
    ["with a nonce that is none", { nonce: "x" }, 422, "schema"],
  ])("%s, signed by the manager, also from loopback", async (_name, over, status, code) => {
    for (const remote of ["10.0.0.9", "127.0.0.1"])
      expect(await send(await sealed(manager, over), remote)).toEqual({ status, code });
    unchanged();
  });

  test("that does not fit its schema: the answer names the field", async () => {
    const answer = createAgentApp(own.server);
    const said = await answer(
      new Request("http://agent/status/reset", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(await sealed(manager, { nonce: "x" })),
      }),
      "127.0.0.1",
    );
    const ack = JSON.parse(((await said.json()) as Envelope).data) as Ack;
    expect([ack.code, ack.field, ack.message]).toEqual(["schema", "nonce", "nonce: must be 32 lowercase hex digits"]);
    unchanged();
  });

  test.each([
    ["61 s old", -61_000],
    ["65 s ahead", 65_000],
  ])("%s, signed by the manager, also from loopback", async (_name, ms) => {
    for (const remote of ["10.0.0.9", "127.0.0.1"])
      expect(await send(await sealed(manager, { sent_at: Date.now() + ms }), remote)).toEqual({
        status: 401,
        code: "clock_skew",
      });
    unchanged();
  });

  test("59 s old is good", async () => {
    expect(await send(await sealed(manager, { sent_at: Date.now() - 59_000 }))).toEqual({ status: 200, code: "reset" });
  });

  test("a MAC that does not hold, in each way: 401 or 400, unsigned", async () => {
    const envelope = await sealed(manager);
    const sha = new Bun.CryptoHasher("sha256").update(envelope.data).digest("hex");
    const answers: [unknown, number][] = [
      [await sealed(manager, {}, "another-key-0123456789abcdef"), 401],
      [{ ...envelope, data: envelope.data.replace("reset", "resat") }, 401],
      [{ ...envelope, data: `${envelope.data} ` }, 401],
      [{ ...envelope, hmac: sha }, 401],
      [{ ...envelope, hmac: "0".repeat(64) }, 401],
      [{ ...envelope, hmac: envelope.hmac.toUpperCase() }, /[a-f]/.test(envelope.hmac) ? 400 : 401],
      [{ ...envelope, hmac: envelope.hmac.slice(1) }, 400],
      [{ ...envelope, hmac: `${envelope.hmac}0` }, 400],
      [{ ...envelope, hmac: "g".repeat(64) }, 400],
      [{ ...envelope, hmac: undefined }, 400],
      [{ ...envelope, hmac: null }, 400],
      [{ ...envelope, v: 2 }, 400],
      [{ ...envelope, data: JSON.parse(envelope.data) }, 400],
      [{ ...envelope, sig: 5 }, 400],
      ["", 400],
      ["{", 400],
      ["[]", 400],
      ["null", 400],
      ["5", 400],
      ['\ufeff{"v":1}', 400],
      [`{"v":1,"x":${"[".repeat(40)}${"]".repeat(40)}}`, 400],
      ['{"__proto__":{"v":1}}', 400],
      ['{"v":1,"data":"\\ud800"}', 400],
    ];
    for (const [body, status] of answers) {
      const got = await send(body, "127.0.0.1");
      expect([body, got.status, got.code]).toEqual([body, status, status === 401 ? "unauthenticated" : "malformed"]);
    }
    unchanged();
  });

  test("data that is no object, though its MAC holds: 400", async () => {
    for (const data of ["", "5", "[]", "null", "{", "\ufeff{}"])
      expect(await send(await seal(data, own.psk, manager))).toEqual({ status: 400, code: "malformed" });
    unchanged();
  });
});
