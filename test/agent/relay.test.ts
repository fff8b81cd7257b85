// The relay endpoint: what it forwards, untouched, with the manager's answer as it came; and each message that it refuses,
// by status, with nothing sent on.
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createAgentApp } from "../../agent/server.ts";
import { readAnswer } from "../../agent/wire.ts";
import { newNonce, seal, signingKey } from "../../shared/envelope.ts";
import type { Envelope } from "../../shared/report.ts";
import { type Agent, type Ground, ground, registered } from "../manager/support.ts";
import { type Gate, gateTo, type OwnAgent, ownAgent } from "./support.ts";
import { stopwatch } from "../support/stopwatch.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const OLD_PSK = "relay-test-other-fleet-0123456789abcdef";
const ids = Array.from({ length: 4 }, () => crypto.randomUUID());

let manager: Ground;
let sender: Agent;
/** Between relay and manager. */
let gate: Gate;
let own: OwnAgent;
let answer: (request: Request, remote: string) => Promise<Response>;

beforeAll(async () => {
  manager = await ground();
  sender = await registered(manager);
  gate = gateTo(manager);
  own = await ownAgent({ PSK: manager.psk, MANAGER_URL: gate.url });
  answer = createAgentApp(own.server);
});
afterAll(async () => {
  await gate[Symbol.asyncDispose]();
  own[Symbol.dispose]();
  await manager.remove();
});
beforeEach(() => {
  gate.bodies = [];
  gate.instead = null;
});

const hop = (envelope: unknown, over: Record<string, unknown> = {}) => ({
  v: 1,
  type: "relay",
  agent_id: sender.id,
  nonce: newNonce(),
  sent_at: Date.now(),
  relay_path: [] as string[],
  envelope,
  ...over,
});
async function take(body: unknown) {
  const response = await answer(
    new Request("http://agent/status/relay", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    }),
    "127.0.0.1",
  );
  const text = await response.text();
  let code = "";
  try {
    const value = JSON.parse(text) as { error?: string; data?: string };
    code = value.error ?? (JSON.parse(value.data!) as { code: string }).code;
  } catch {
    // the other side's own
  }
  return { status: response.status, code, text, retryAfter: response.headers.get("retry-after") };
}
const sealed = (data: unknown, psk = manager.psk) => seal(JSON.stringify(data), psk, null);

describe("forwards", () => {
  test("a report, untouched, with itself at the end of the path; the manager's ack comes back as it came", async () => {
    const inner = await sender.report();
    const got = await take(await sealed(hop(inner)));
    expect([got.status, got.code]).toEqual([200, "accepted"]);
    const outer = JSON.parse((JSON.parse(gate.bodies[0]!) as Envelope).data) as Record<string, unknown>;
    expect(outer).toMatchObject({
      type: "relay",
      agent_id: own.agent.identity.agentId,
      relay_path: [own.agent.identity.agentId],
      envelope: inner,
    });
    // The ack is for the inner message's nonce, not the hop's.
    const { nonce } = JSON.parse(inner.data) as { nonce: string };
    const { agents } = (await (await fetch(`${manager.url}/status/agents`)).json()) as {
      agents: { relay_path: string[] }[];
    };
    expect(agents.map((agent) => agent.relay_path)).toEqual([[own.agent.identity.agentId]]);
    expect((await readAnswer(new TextEncoder().encode(got.text), nonce, [manager.psk], null)).ack).toMatchObject({
      code: "accepted",
      nonce,
    });
  });

  test("behind two others, as the third and last", async () => {
    const got = await take(await sealed(hop(await sender.report(), { relay_path: ids.slice(0, 2) })));
    expect([got.status, got.code]).toEqual([200, "accepted"]);
  });

  test("a registration", async () => {
    const key = await signingKey();
    const id = crypto.randomUUID();
    const inner = await seal(
      JSON.stringify({
        v: 1,
        type: "register",
        agent_id: id,
        nonce: newNonce(),
        sent_at: Date.now(),
        hostname: "x",
        agent_version: "0.1.0",
        public_key: key.publicKey,
      }),
      manager.psk,
      key,
    );
    expect(await take(await sealed(hop(inner, { agent_id: id })))).toMatchObject({ status: 201, code: "registered" });
  });

  test("the manager's refusals, as they came", async () => {
    const bad = await sender.report({ agent_id: ids[3]! });
    expect(await take(await sealed(hop(bad)))).toMatchObject({ status: 404, code: "unknown_agent" });
    const sent = await sender.report();
    await take(await sealed(hop(sent)));
    expect(await take(await sealed(hop(sent)))).toMatchObject({ status: 409, code: "replay" });
    gate.instead = () => new Response("{}", { status: 503, headers: { "Retry-After": "7" } });
    expect(await take(await sealed(hop(await sender.report())))).toMatchObject({ status: 503, retryAfter: "7" });
  });

  test("599 s off is in time", async () => {
    for (const off of [-599_000, 599_000]) {
      const got = await take(await sealed(hop(await sender.report(), { sent_at: Date.now() + off })));
      expect(got.status).toBe(200);
    }
  });
});

describe("where the manager's clock is an hour off", () => {
  let far: OwnAgent;
  beforeAll(async () => {
    manager.clock.at = Date.now() + 3_600_000;
    far = await ownAgent({ PSK: manager.psk, MANAGER_URL: gate.url });
    // Its own report tells it so.
    expect(await far.agent.delivery.flush(await far.agent.collect())).toBe(true);
  });
  afterAll(() => {
    manager.clock.at = null;
    far[Symbol.dispose]();
  });
  const relay = async (hopSentAt: number, innerSentAt: number) => {
    const inner = await sender.report({ sent_at: innerSentAt });
    const got = await far.agent.relay.take(
      new TextEncoder().encode(JSON.stringify(await sealed(hop(inner, { sent_at: hopSentAt })))),
    );
    const { nonce } = JSON.parse(inner.data) as { nonce: string };
    const body = typeof got.body === "string" ? new TextEncoder().encode(got.body) : got.body;
    const { trust, code } = await readAnswer(body, nonce, [manager.psk], far.agent.identity.managerKey);
    return [got.status, trust, code];
  };

  test("who knows it as well gets through", async () => {
    expect(await relay(manager.now(), manager.now())).toEqual([200, "manager", "accepted"]);
  });

  test("who does not is told by the manager", async () => {
    expect(await relay(Date.now(), Date.now())).toEqual([401, "manager", "clock_skew"]);
    expect(await relay(Date.now(), manager.now())).toEqual([200, "manager", "accepted"]);
  });

  test("601 s off both clocks is refused by the relay", async () => {
    for (const at of [Date.now() - 601_000, Date.now() + 1_800_000, manager.now() + 661_000])
      expect((await relay(at, manager.now()))[0]).toBe(401);
    expect(gate.bodies).toEqual([]);
  });
});

describe("refuses, and sends nothing on", () => {
  const refused = async (body: unknown, status: number, code: string) => {
    const got = await take(body);
    expect([got.status, got.code]).toEqual([status, code]);
    expect(gate.bodies).toEqual([]);
    return got;
  };

  test("a loop: itself on the path, or a message of its own; counted for the next report", async () => {
    const before = own.agent.relay.refused.loop;
    const self = own.agent.identity.agentId;
    await refused(await sealed(hop(await sender.report(), { relay_path: [self] })), 508, "relay_loop");
    await refused(await sealed(hop(await sender.report(), { relay_path: [ids[0], self] })), 508, "relay_loop");
    await refused(await sealed(hop(await sender.report({ agent_id: self }))), 508, "relay_loop");
    expect(own.agent.relay.refused.loop).toBe(before + 3);
    const { report } = await own.agent.collect();
    expect(report.delivery?.relay_refused.loop).toBe(before + 3);
  });

  test("a fourth relay: 422, counted", async () => {
    const before = own.agent.relay.refused.hop_limit;
    await refused(await sealed(hop(await sender.report(), { relay_path: ids.slice(0, 3) })), 422, "hop_limit");
    await refused(await sealed(hop(await sender.report(), { relay_path: ids })), 422, "hop_limit");
    expect(own.agent.relay.refused.hop_limit).toBe(before + 2);
  });

  test("an id twice: 400", async () => {
    await refused(await sealed(hop(await sender.report(), { relay_path: [ids[0], ids[0]] })), 400, "malformed");
  });

  test.each([
    ["601 s old", { sent_at: Date.now() - 601_000 }, 401, "clock_skew"],
    ["700 s ahead", { sent_at: Date.now() + 700_000 }, 401, "clock_skew"],
    ["a newer version", { v: 2 }, 422, "version"],
    ["no id", { agent_id: "../../x" }, 422, "schema"],
    ["a path that is none", { relay_path: "x" }, 422, "schema"],
    ["a path of ids that are none", { relay_path: ["../../x"] }, 422, "schema"],
    ["a path of 17", { relay_path: Array.from({ length: 17 }, () => crypto.randomUUID()) }, 422, "hop_limit"],
    ["a nonce that is none", { nonce: "x" }, 422, "schema"],
    ["no envelope", { envelope: undefined }, 422, "schema"],
    ["an envelope that is text", { envelope: "x" }, 422, "schema"],
    ["sent_at as text", { sent_at: "5" }, 422, "schema"],
    ["a report in its place", { type: "report" }, 403, "wrong_type"],
    ["a reset in its place", { type: "reset" }, 403, "wrong_type"],
  ])("%s", async (_name, over, status, code) => {
    await refused(await sealed(hop(await sender.report(), over)), status, code);
  });

  test("a report's own bytes, not wrapped: 403", async () => {
    await refused(await sender.report(), 403, "wrong_type");
  });

  test("anything but a report or a registration inside: 403", async () => {
    for (const type of ["reset", "relay", "ack", "admin", undefined])
      await refused(await sealed(hop(await sealed({ v: 1, type, agent_id: sender.id }))), 403, "wrong_type");
    await refused(await sealed(hop(await seal("[]", manager.psk, null))), 403, "wrong_type");
  });

  test("a MAC that does not hold, the hop's or the inner one: 401, unsigned", async () => {
    const inner = await sender.report();
    const good = await sealed(hop(inner));
    const wrong = [
      await sealed(hop(inner), OLD_PSK),
      { ...good, data: `${good.data} ` },
      { ...good, hmac: "0".repeat(64) },
      await sealed(hop({ ...inner, data: inner.data.replace('"tick"', '"tock"') })),
      await sealed(hop({ ...inner, hmac: "0".repeat(64) })),
      await sealed(hop(await seal(inner.data, OLD_PSK, sender.key))),
    ];
    for (const body of wrong) {
      const got = await refused(body, 401, "unauthenticated");
      expect(got.text).not.toContain("hmac");
    }
  });

  test("what is no envelope: 400", async () => {
    for (const body of ["", "{", "null", "[]", "5", "\ufeff{}", `{"a":${"[".repeat(40)}${"]".repeat(40)}}`])
      await refused(body, 400, "malformed");
    await refused(await seal("x", manager.psk, null), 400, "malformed");
    const inner = await sender.report();
    await refused(await sealed(hop({ ...inner, hmac: inner.hmac.slice(1) })), 422, "schema");
    await refused(await sealed(hop({ ...inner, v: 2 })), 422, "schema");
  });

  test("without any PSK yet: 503, and when to ask again", async () => {
    using without = await ownAgent({ PSK: "", MANAGER_URL: manager.url });
    const got = await createAgentApp(without.server)(
      new Request("http://agent/status/relay", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(await sealed(hop(await sender.report()))),
      }),
      "127.0.0.1",
    );
    expect([got.status, got.headers.get("retry-after")]).toEqual([503, "10"]);
  });
});

test("what it says itself is signed by its own key: nobody takes it for the manager's", async () => {
  const inner = await sender.report();
  const data = hop(inner, { relay_path: ids.slice(0, 3) });
  const got = await take(await sealed(data));
  const bytes = new TextEncoder().encode(got.text);
  const managerKey = (await signingKey()).publicKey;
  expect((await readAnswer(bytes, data.nonce, [manager.psk], managerKey)).trust).toBe("fleet");
  expect((await readAnswer(bytes, data.nonce, [manager.psk], own.agent.identity.key.publicKey)).trust).toBe("manager");
  // The originator waits for its own message's nonce.
  const { nonce } = JSON.parse(inner.data) as { nonce: string };
  expect((await readAnswer(bytes, nonce, [manager.psk], managerKey)).trust).toBe("nobody");
});

describe("a manager that is none", () => {
  const endless = () =>
    new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536).fill(32)) }) as BodyInit,
    );
  test.each<[string, () => Response, number, string]>([
    ["500", () => new Response("x", { status: 500 }), 502, "no_route"],
    ["502", () => new Response("x", { status: 502 }), 502, "no_route"],
    ["a body without end", endless, 502, "no_route"],
    // The relay is no judge of these: the originator believes none of them.
    ["200 with HTML", () => new Response("<html>", { headers: { "Content-Type": "text/html" } }), 200, ""],
    ["a redirect", () => Response.redirect("http://169.254.169.254/", 307), 307, ""],
  ])("%s", async (_name, response, status, code) => {
    gate.instead = response;
    const watch = stopwatch();
    expect(await take(await sealed(hop(await sender.report())))).toMatchObject({ status, code });
    expect(gate.bodies).toHaveLength(1);
    expect(watch.ms()).toBeLessThan(2000);
  });

  test("hanging: 502 after 3 s; meanwhile no more than 16 wait, and the others are told to come again", async () => {
    gate.instead = () => new Promise<Response>(() => {});
    const watch = stopwatch();
    const many = await Promise.all(
      Array.from({ length: 20 }, async () => take(await sealed(hop(await sender.report())))),
    );
    const count = (status: number) => many.filter((got) => got.status === status).length;
    expect([count(502), count(503), gate.bodies.length]).toEqual([16, 4, 16]);
    expect(many.find((got) => got.status === 503)).toMatchObject({ code: "busy", retryAfter: "2" });
    expect(watch.ms() + watch.stalledMs()).toBeGreaterThan(2900);
    expect(watch.ms()).toBeLessThan(6000);
    gate.instead = null;
    expect((await take(await sealed(hop(await sender.report())))).status).toBe(200);
  });
});
