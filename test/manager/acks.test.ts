// What the manager answers and does for agents and administrators (1-protocol.md): signed acks, registration, resets, late
// reports, the way of a relay.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentResponse, AlarmsResponse, TopologyResponse } from "../../shared/api.ts";
import { newNonce, readEnvelope, seal, signingKey, verifyMac, verifySignature } from "../../shared/envelope.ts";
import { type Ack, ackSchema, type Envelope } from "../../shared/report.ts";
import { createSender, post, relayed } from "../fleet/sender.ts";
import { type Agent, type Data, type Ground, ground, publicKeyOf, registered, reportData } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const UPDATES = "/status/updates";
const REGISTER = "/status/register";

let place: Ground;
beforeAll(async () => {
  place = await ground();
});
afterAll(() => place.remove());

const managerKey = (at: Ground = place) =>
  at.lines
    .map((line) => JSON.parse(line) as { event: string; manager_key?: string })
    .findLast(({ event }) => event === "manager_started")!.manager_key!;

/** Sends an envelope and returns its ack once MAC (by `psk` alone) and the manager's signature have held. */
async function acked(
  path: string,
  envelope: Envelope,
  options: { psk?: string; at?: Ground } = {},
): Promise<{ status: number; ack: Ack }> {
  const { at = place, psk = at.psk } = options;
  const { status, body } = await post(at.url, path, envelope);
  const read = readEnvelope(new TextEncoder().encode(body));
  if (!read.ok) throw new Error(`no envelope came back: ${body}`);
  expect(await verifyMac(read.envelope, [psk])).toBe(0);
  expect(await verifySignature(managerKey(at), read.envelope.data, read.envelope.sig)).toBe(true);
  return { status, ack: ackSchema.parse(JSON.parse(read.envelope.data)) };
}

const said = ({ status, ack }: { status: number; ack: Ack }) => [status, ack.code];

function registration(over: Data & { public_key: string }): Data {
  return {
    v: 1,
    type: "register",
    agent_id: crypto.randomUUID(),
    nonce: newNonce(),
    sent_at: place.now(),
    hostname: "hel-1",
    agent_version: "0.1.0",
    ...over,
  };
}

async function admin(path: string, body: unknown, at: Ground = place): Promise<{ status: number; body: Data }> {
  const response = await fetch(`${at.url}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${at.adminToken}` },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Data };
}

async function read<T>(path: string, at: Ground = place): Promise<{ status: number; body: T }> {
  const response = await fetch(`${at.url}${path}`);
  return { status: response.status, body: (await response.json()) as T };
}

describe("an ack", () => {
  test("is MACed, signed by the manager's key, and echoes nonce, id and tick, whatever it says", async () => {
    const agent = await registered(place);
    const data = (over: Data = {}) => reportData(agent.id, ++agent.tick, place.now(), over);
    const stranger = crypto.randomUUID();
    const loop = (report: Envelope) => relayed(report, [agent.id], place.psk, place.now());
    await agent.send();
    const used = reportData(agent.id, agent.tick, place.now());
    const CASES: [status: number, code: string, data: Data][] = [
      [200, "accepted", data()],
      [409, "replay", used],
      [422, "schema", data({ system: 5 })],
      [422, "version", data({ v: 2 })],
      [401, "clock_skew", data({ sent_at: place.now() - 700_000 })],
      [403, "wrong_type", data({ type: "ack" })],
      [404, "unknown_agent", data({ agent_id: stranger })],
    ];
    for (const [status, code, sent] of CASES) {
      const before = place.now();
      const { ack, status: got } = await acked(UPDATES, await seal(JSON.stringify(sent), place.psk, agent.key));
      expect([got, ack.code]).toEqual([status, code]);
      expect(ack).toMatchObject({
        v: 1,
        type: "ack",
        nonce: sent["nonce"],
        agent_id: sent["agent_id"],
        tick: sent["tick"],
      });
      expect(ack.message).not.toBe("");
      expect(ack.server_time_at).toBeWithin(before, place.now() + 1);
    }
    const wrongSig = await seal(JSON.stringify(data()), place.psk, await signingKey());
    expect(said(await acked(UPDATES, wrongSig))).toEqual([401, "bad_signature"]);
    expect(said(await acked(UPDATES, await loop(await agent.report())))).toEqual([508, "relay_loop"]);
    expect((await acked(UPDATES, await seal("[", place.psk, agent.key))).ack).toMatchObject({
      code: "malformed",
      nonce: null,
      agent_id: null,
      tick: null,
    });
  });

  test("does not echo what is no nonce, id or tick", async () => {
    const agent = await registered(place);
    const odd = { type: "report", nonce: "x".repeat(65), agent_id: ["a"], tick: 1.5 };
    expect((await acked(UPDATES, await seal(JSON.stringify(odd), place.psk, agent.key))).ack).toMatchObject({
      code: "schema",
      nonce: null,
      agent_id: null,
      tick: null,
    });
  });

  test("is MACed with the key that verified the request, also by relays that have another", async () => {
    const PSKS = ["older", "newer"].map((word) => `${word}-psk-of-this-test-`.repeat(2)) as [string, string];
    const own = await ground({ PSK: PSKS[0] });
    try {
      const agent = await registered(own);
      await own.stop();
      await own.start({ PSK: PSKS[1] });
      for (const psk of PSKS) {
        const data = () => JSON.stringify(reportData(agent.id, ++agent.tick, own.now()));
        const direct = await seal(data(), psk, agent.key);
        expect(said(await acked(UPDATES, direct, { psk, at: own }))).toEqual([200, "accepted"]);
        // The relay's hop is under the other key: the ack is for the one who reported.
        const hop = PSKS.find((other) => other !== psk)!;
        const inner = await seal(data(), psk, agent.key);
        const way = await relayed(inner, [crypto.randomUUID()], hop, own.now());
        expect(said(await acked(UPDATES, way, { psk, at: own }))).toEqual([200, "accepted"]);
        const refused = await relayed(inner, [agent.id], hop, own.now());
        expect(said(await acked(UPDATES, refused, { psk, at: own }))).toEqual([508, "relay_loop"]);
      }
    } finally {
      await own.remove();
    }
  });

  test("comes for nothing whose MAC does not hold", async () => {
    const agent = await registered(place);
    const { status, ack, body } = await post(place.url, UPDATES, { ...(await agent.report()), hmac: "0".repeat(64) });
    expect([status, ack]).toEqual([401, null]);
    expect(Object.keys(JSON.parse(body) as Data)).toEqual(["error", "message"]);
  });

  test("without any PSK there is none: 503 with Retry-After, until there is one", async () => {
    const own = await ground();
    try {
      const file = join(own.directory, "psk");
      const psk = "psk-that-comes-later-".repeat(2);
      await own.stop();
      // As on a first start whose source is down: no ring yet.
      writeFileSync(join(own.directory, "manager_psk_ring"), JSON.stringify({ v: 1, psks: [], changed_at: null }), {
        mode: 0o600,
      });
      await own.start({ PSK_FILE: file });
      const key = await signingKey();
      const envelope = await seal(JSON.stringify(registration({ public_key: key.publicKey })), psk, key);
      const answer = await fetch(`${own.url}${REGISTER}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(envelope),
      });
      expect([answer.status, answer.headers.get("Retry-After")]).toEqual([503, "10"]);
      expect(await answer.json()).toMatchObject({ error: "no_psk" });
      writeFileSync(file, psk, { mode: 0o600 });
      let status = 503;
      for (const until = Date.now() + 10_000; status === 503 && Date.now() < until; await Bun.sleep(100)) {
        ({ status } = await post(own.url, REGISTER, envelope));
      }
      expect(status).toBe(201);
    } finally {
      await own.remove();
    }
  });
});

describe("registration", () => {
  test("201 with the id and the manager's key; 200 when repeated, also under another id", async () => {
    const key = await signingKey();
    const first = registration({ public_key: key.publicKey });
    const register = async (data: Data) => acked(REGISTER, await seal(JSON.stringify(data), place.psk, key));
    const { status, ack } = await register(first);
    expect([status, ack.code, ack.agent_id, ack.manager_key]).toEqual([
      201,
      "registered",
      first["agent_id"] as string,
      managerKey(),
    ]);
    const again = await register({ ...first, nonce: newNonce() });
    expect([again.status, again.ack.code, again.ack.agent_id]).toEqual([
      200,
      "registered",
      first["agent_id"] as string,
    ]);
    const moved = await register(registration({ public_key: key.publicKey }));
    expect([moved.status, moved.ack.code, moved.ack.agent_id]).toEqual([
      200,
      "registered",
      first["agent_id"] as string,
    ]);
    expect(moved.ack.manager_key).toBe(managerKey());
  });

  test("a known id with another key: 409 with a fresh id, and an alarm; under that id it registers", async () => {
    const agent = await registered(place, "original");
    const key = await signingKey();
    const register = async (id: string) =>
      acked(
        REGISTER,
        await seal(
          JSON.stringify(registration({ agent_id: id, public_key: key.publicKey, hostname: "clone" })),
          place.psk,
          key,
        ),
      );
    const conflict = await register(agent.id);
    expect(said(conflict)).toEqual([409, "id_conflict"]);
    const fresh = conflict.ack.agent_id!;
    expect(fresh).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4/);
    expect(fresh).not.toBe(agent.id);
    const { body } = await read<AlarmsResponse>(`/status/alarms?agent_id=${agent.id}`);
    expect(body.alarms.map(({ code, state }) => [code, state])).toContainEqual(["id_clone", "open"]);
    const second = await register(fresh);
    expect([...said(second), second.ack.agent_id]).toEqual([201, "registered", fresh]);
    // The first keeps its id and its key.
    expect((await agent.send()).status).toBe(200);
    const forged = await seal(JSON.stringify(reportData(agent.id, 50, place.now())), place.psk, key);
    expect(said(await acked(UPDATES, forged))).toEqual([401, "bad_signature"]);
  });

  test("who never registered: 404, then it registers and sends the same report again", async () => {
    const sender = await createSender(place.url, place.psk);
    const report = await seal(JSON.stringify(reportData(sender.agentId, 1, place.now())), place.psk, sender.key);
    expect(said(await acked(UPDATES, report))).toEqual([404, "unknown_agent"]);
    expect((await sender.register("late", place.now())).status).toBe(201);
    expect(said(await acked(UPDATES, report))).toEqual([200, "accepted"]);
  });

  test("through a relay", async () => {
    const relay = await registered(place, "relay");
    const key = await signingKey();
    const data = registration({ public_key: key.publicKey });
    const envelope = await seal(JSON.stringify(data), place.psk, key);
    const { status, ack } = await acked(UPDATES, await relayed(envelope, [relay.id], place.psk, place.now()));
    expect([status, ack.code, ack.agent_id, ack.nonce]).toEqual([
      201,
      "registered",
      data["agent_id"] as string,
      data["nonce"] as string,
    ]);
  });
});

describe("POST /status/admin/reset", () => {
  const RESET = "/status/admin/reset";

  test("forgets one agent: it registers anew under its id, and what it once sent is still no new report", async () => {
    const agent = await registered(place, "to-forget");
    const old = await agent.report();
    expect((await post(place.url, UPDATES, old)).status).toBe(200);
    await agent.send();
    expect(await admin(RESET, { agent_id: agent.id })).toEqual({
      status: 200,
      body: { agent_id: agent.id, forgotten: true },
    });
    expect((await read(`/status/agents/${agent.id}`)).status).toBe(404);
    expect(said(await acked(UPDATES, await agent.report()))).toEqual([404, "unknown_agent"]);
    const data = registration({ agent_id: agent.id, public_key: agent.key.publicKey });
    expect(said(await acked(REGISTER, await seal(JSON.stringify(data), place.psk, agent.key)))).toEqual([
      201,
      "registered",
    ]);
    expect(said(await acked(UPDATES, old))).toEqual([409, "replay"]);
    expect(said(await acked(UPDATES, await agent.report()))).toEqual([200, "accepted"]);
  });

  test("regenerate: 410 at its next report, direct or relayed, and the old id is retired for good", async () => {
    for (const via of ["direct", "relay"]) {
      const agent = await registered(place, "to-renew");
      const way = async (envelope: Envelope) =>
        via === "direct" ? envelope : relayed(envelope, [crypto.randomUUID()], place.psk, place.now());
      await agent.send();
      expect((await admin(RESET, { agent_id: agent.id, regenerate: true })).status).toBe(200);
      expect(said(await acked(UPDATES, await way(await agent.report())))).toEqual([410, "reset"]);
      const register = async (id: string, key = agent.key) => {
        const data = registration({ agent_id: id, public_key: key.publicKey });
        return acked(REGISTER, await seal(JSON.stringify(data), place.psk, key));
      };
      for (const restart of [false, true]) {
        if (restart) {
          await place.stop();
          await place.start();
        }
        expect(said(await acked(UPDATES, await way(await agent.report())))).toEqual([410, "reset"]);
        expect(said(await register(agent.id))).toEqual([410, "reset"]);
        expect(said(await register(agent.id, await signingKey()))).toEqual([410, "reset"]);
        expect((await read(`/status/agents/${agent.id}`)).status).toBe(404);
      }
      expect(said(await register(crypto.randomUUID(), await signingKey()))).toEqual([201, "registered"]);
    }
  });

  test("block: refused until unblocked, over a restart", async () => {
    const agent = await registered(place, "to-block");
    await agent.send();
    expect((await admin(RESET, { agent_id: agent.id, block: true })).body).toEqual({
      agent_id: agent.id,
      blocked: true,
    });
    const register = async () => {
      const data = registration({ agent_id: agent.id, public_key: agent.key.publicKey });
      return said(await acked(REGISTER, await seal(JSON.stringify(data), place.psk, agent.key)));
    };
    for (const restart of [false, true]) {
      if (restart) {
        await place.stop();
        await place.start();
      }
      expect(said(await acked(UPDATES, await agent.report()))).toEqual([403, "blocked"]);
      expect(await register()).toEqual([403, "blocked"]);
      expect((await read<AgentResponse>(`/status/agents/${agent.id}`)).body.blocked).toBe(true);
    }
    expect((await admin(RESET, { agent_id: agent.id, block: false })).body).toEqual({
      agent_id: agent.id,
      blocked: false,
    });
    expect(said(await acked(UPDATES, await agent.report()))).toEqual([200, "accepted"]);
  });

  test("the fleet: only when confirmed, and after a backup that has everything", async () => {
    const own = await ground();
    try {
      const agents: Agent[] = [];
      for (const hostname of ["hel-1", "hel-2"]) {
        const agent = await registered(own, hostname);
        await agent.send();
        agents.push(agent);
      }
      const renewed = await registered(own, "hel-3");
      await admin(RESET, { agent_id: renewed.id, regenerate: true }, own);
      expect((await renewed.send()).status).toBe(410);
      const silence = { until_at: own.now() + 3_600_000, reason: "maintenance" };
      expect((await admin("/status/admin/silence", silence, own)).status).toBe(200);
      const before = own.stored();
      expect(before).toMatchObject({ agents: 2, retired_agents: 1, reports: 2 });
      for (const body of [
        { fleet: true },
        { fleet: true, confirm: "yes" },
        { fleet: "true", confirm: "reset fleet" },
      ]) {
        expect((await admin(RESET, body, own)).status).toBe(422);
      }
      expect(own.stored()).toEqual(before);

      const { status, body } = await admin(RESET, { fleet: true, confirm: "reset fleet" }, own);
      expect([status, body["reset"]]).toEqual([200, "fleet"]);
      expect(own.stored()).toEqual({
        agents: 0,
        retired_agents: 1,
        agent_interfaces: 0,
        reports: 0,
        topology_nodes: 0,
        topology_edges: 0,
      });
      const backup = body["backup"] as string;
      expect(readdirSync(own.directory).map((name) => join(own.directory, name))).toContain(backup);
      expect(statSync(backup).mode & 0o777).toBe(0o600);
      using database = new Database(backup, { readonly: true });
      expect(database.query("SELECT count(*) AS n FROM reports").get()).toEqual({ n: 2 });
      expect(database.query("SELECT count(*) AS n FROM agents").get()).toEqual({ n: 2 });

      for (const agent of agents) {
        expect(said(await acked(UPDATES, await agent.report(), { at: own }))).toEqual([404, "unknown_agent"]);
        const data = registration({ agent_id: agent.id, public_key: agent.key.publicKey });
        const { status: registeredAs, ack } = await acked(
          REGISTER,
          await seal(JSON.stringify(data), own.psk, agent.key),
          { at: own },
        );
        expect([registeredAs, ack.agent_id]).toEqual([201, agent.id]);
        expect(said(await acked(UPDATES, await agent.report(), { at: own }))).toEqual([200, "accepted"]);
      }
      // What was cleared stays so over a restart; a retired id stays retired.
      const stored = own.stored();
      for (const restart of [false, true]) {
        if (restart) {
          await own.stop();
          await own.start();
        }
        expect(own.stored()).toMatchObject({ agents: stored["agents"]!, reports: stored["reports"]! });
        expect((await read<{ silences: unknown[] }>("/status/silences", own)).body.silences).toEqual([]);
        const data = reportData(renewed.id, 9, own.now());
        const report = await seal(JSON.stringify(data), own.psk, renewed.key);
        expect(said(await acked(UPDATES, report, { at: own }))).toEqual([410, "reset"]); // for good
      }
    } finally {
      await own.remove();
    }
  });

  test.each([
    ["no JSON", "{", 400],
    ["an array", "[]", 400],
    ["nothing to reset", {}, 422],
    ["an id that is none", { agent_id: "../../x" }, 422],
    ["an id that nobody has", { agent_id: "0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f" }, 404],
    ["two wishes", { agent_id: "0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f", regenerate: true, block: true }, 422],
    ["a wish that is misspelt", { agent_id: "0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f", blocked: true }, 422],
    [
      "an agent and the fleet",
      { agent_id: "0b0f3f6e-56c1-4f6a-9f43-1a2b3c4d5e6f", fleet: true, confirm: "reset fleet" },
      422,
    ],
  ] as [string, unknown, number][])("%s: refused", async (_name, body, status) => {
    const before = place.stored();
    const answer = await admin(RESET, body);
    expect(answer.status).toBe(status);
    expect(Object.keys(answer.body)).toEqual(["error", "message"]);
    // It says which field, and what it may be.
    if (status === 422) expect(answer.body["message"]).toMatch(/agent_id|fleet|confirm|regenerate|blocked/);
    expect(answer.body["message"]).not.toEndWith("Invalid input");
    expect(place.stored()).toEqual(before);
  });
});

describe("a foreign peer that is expected", () => {
  const EXPECT = "/status/admin/expect";
  const expectedOf = async (own: Ground) => {
    const { nodes } = (await (await fetch(`${own.url}/status/topology`)).json()) as TopologyResponse;
    return nodes.filter(({ kind }) => kind === "foreign").map(({ expected }) => expected ?? false);
  };

  test("is marked, over a restart too; the mark is taken off; fleet reset takes all", async () => {
    const own = await ground();
    try {
      const agent = await registered(own);
      expect((await agent.send()).status).toBe(200);
      expect(await expectedOf(own)).toEqual([false]);
      const public_key = publicKeyOf(2);
      const answer = await admin(EXPECT, { public_key, expected: true }, own);
      expect(answer).toMatchObject({ status: 200, body: { public_key, node: `wg:${public_key}`, expected: true } });
      expect(await expectedOf(own)).toEqual([true]);
      await own.stop();
      await own.start();
      expect(await expectedOf(own)).toEqual([true]);
      expect((await admin(EXPECT, { public_key, expected: false }, own)).status).toBe(200);
      expect(await expectedOf(own)).toEqual([false]);
      expect((await admin(EXPECT, { public_key, expected: false }, own)).status).toBe(404);
      await admin(EXPECT, { public_key, expected: true }, own);
      await admin("/status/admin/reset", { fleet: true, confirm: "reset fleet" }, own);
      const again = await registered(own, "hel-2");
      expect((await again.send()).status).toBe(200);
      expect(await expectedOf(own)).toEqual([false]);
    } finally {
      await own.remove();
    }
  });

  test.each([
    ["a key that nobody lists", { public_key: publicKeyOf(99), expected: true }, 404, "no agent lists a foreign peer"],
    ["a key that is none", { public_key: "x", expected: true }, 422, "public_key: must be a WireGuard public key"],
    ["no key", { expected: true }, 422, "public_key"],
    ["neither yes nor no", { public_key: publicKeyOf(2) }, 422, "expected"],
    ["a field misspelt", { public_key: publicKeyOf(2), expected: true, expcted: false }, 422, "expcted"],
  ] as const)("%s is refused", async (_name, body, status, says) => {
    const answer = await admin(EXPECT, body, place);
    expect(answer.status).toBe(status);
    expect(JSON.stringify(answer.body)).toContain(says);
  });
});

describe("a maintenance window", () => {
  const SILENCE = "/status/admin/silence";
  const hour = () => place.now() + 3_600_000;

  test.each([
    ["agents misspelt, which would be all of them", () => ({ until_at: hour(), reason: "x", agent: [] }), "agent"],
    ["codes misspelt, which would be all of them", () => ({ until_at: hour(), reason: "x", code: [] }), "code"],
    ["a code that is none", () => ({ until_at: hour(), reason: "x", codes: ["agent_dwon"] }), "codes[0]: must be"],
    ["no end", () => ({ reason: "x" }), "until_at: Invalid input: expected number"],
    ["an end in the past", () => ({ until_at: place.now() - 1, reason: "x" }), "until_at: must lie in the future"],
    ["an end in microseconds", () => ({ until_at: hour() * 1000, reason: "x" }), "until_at: must lie within 366 days"],
    ["no reason", () => ({ until_at: hour() }), "reason: Invalid input: expected string"],
    ["an end and a window", () => ({ end: "x", until_at: hour() }), "until_at"],
  ] as const)("%s: 422 that names the field", async (_name, body, named) => {
    const answer = await admin(SILENCE, body());
    expect([answer.status, answer.body["message"]]).toEqual([422, expect.stringContaining(named)]);
    expect((await read<{ silences: unknown[] }>("/status/silences")).body.silences).toEqual([]);
  });

  test("is ended by its id, for good", async () => {
    const { body } = await admin(SILENCE, { until_at: hour(), reason: "a slip" });
    const there = async () => (await read<{ silences: { id: string }[] }>("/status/silences")).body.silences;
    expect((await there()).map(({ id }) => id)).toEqual([body["id"] as string]);
    expect((await admin(SILENCE, { end: "__proto__" })).status).toBe(404);
    expect((await admin(SILENCE, { end: body["id"] })).status).toBe(200);
    expect(await there()).toEqual([]);
    expect((await admin(SILENCE, { end: body["id"] })).status).toBe(404);
  });
});

describe("the time of a report", () => {
  const observedAt = (agentId: string, tick: number) => {
    using database = new Database(place.databasePath, { readonly: true });
    return database
      .query("SELECT received_at, observed_at FROM reports_hot WHERE agent_id = ?1 AND tick = ?2")
      .get(agentId, tick) as { received_at: number; observed_at: number };
  };

  test.each([
    ["its age", { age_ms: 3_600_000 }, 3_600_000],
    ["no age: sent_at − collected_at", { age_ms: undefined, collected: 90_000 }, 90_000],
    ["an age of null", { age_ms: null, collected: 90_000 }, 90_000],
    ["a negative age counts as 0", { age_ms: -5000 }, 0],
    ["an agent's clock that is wrong changes nothing", { age_ms: 1000, collected: 86_400_000 }, 1000],
  ] as [string, { age_ms?: number | null; collected?: number }, number][])(
    "by the manager's clock: %s",
    async (_name, { collected = 12, ...over }, age) => {
      const agent = await registered(place, "late");
      const sentAt = place.now();
      const { status } = await agent.send({ sent_at: sentAt, collected_at: sentAt - collected, ...over });
      expect(status).toBe(200);
      const row = observedAt(agent.id, agent.tick);
      expect(row.received_at - row.observed_at).toBe(age);
      expect(row.received_at).toBeWithin(sentAt, place.now() + 1);
    },
  );

  test("a lower tick that comes after a higher one is history: it is stored and changes nothing current", async () => {
    const agent = await registered(place, "now");
    const named = (hostname: string, tick: number, ageMs: number) => {
      const data = reportData(agent.id, tick, place.now(), { age_ms: ageMs });
      (data["system"] as Data)["hostname"] = hostname;
      (data["interfaces"] as Data[])[0]!["name"] = hostname;
      return seal(JSON.stringify(data), place.psk, agent.key);
    };
    expect(said(await acked(UPDATES, await named("now", 10, 0)))).toEqual([200, "accepted"]);
    const topology = async () =>
      (await read<TopologyResponse>("/status/topology")).body.nodes.find(({ id }) => id === agent.id);
    const before = await topology();
    expect(before?.label).toBe("now");
    expect(said(await acked(UPDATES, await named("then", 9, 300_000)))).toEqual([200, "accepted"]);
    const { body } = await read<AgentResponse>(`/status/agents/${agent.id}`);
    expect([body.hostname, body.tick, body.report?.tick, body.report?.interfaces?.[0]?.name]).toEqual([
      "now",
      10,
      10,
      "now",
    ]);
    expect(await topology()).toEqual(before!);
    expect(observedAt(agent.id, 9).observed_at).toBeLessThan(observedAt(agent.id, 10).observed_at);
  });

  test("drained oldest first after an outage: each is taken, the newest is what is shown, nothing is an alarm", async () => {
    const own = await ground(); // alone: the other tests' agents all have one key and one address
    try {
      const agent = await registered(own, "drained");
      for (let i = 60; i >= 0; i--) {
        const collectedAt = own.now() - i * 30_000;
        // A quiet tunnel with keepalive: a new handshake every two minutes.
        const { wireguard } = reportData(agent.id, 0, 0) as { wireguard: { peers: Data[] }[] };
        wireguard[0]!.peers[0]!["latest_handshake_at"] = collectedAt - (collectedAt % 120_000);
        const { status } = await agent.send({ age_ms: i * 30_000, collected_at: collectedAt, wireguard });
        expect(status).toBe(200);
      }
      await own.advance();
      const { body } = await read<AgentResponse>(`/status/agents/${agent.id}`, own);
      expect([body.tick, body.status]).toEqual([61, "online"]);
      expect((await read<AlarmsResponse>("/status/alarms?state=all", own)).body.alarms).toEqual([]);
    } finally {
      await own.remove();
    }
  });
});

describe("a relayed report", () => {
  test("is recorded with its way, which the agent, the audit log and the relay layer show; direct ends it", async () => {
    const [far, middle, near] = [
      await registered(place, "far"),
      await registered(place, "middle"),
      await registered(place, "near"),
    ];
    for (const relay of [middle, near]) await relay.send({ wireguard: [], interfaces: [] });
    const path = [middle.id, near.id];
    const way = await relayed(await far.report({ wireguard: [], interfaces: [] }), path, place.psk, place.now());
    const { status, ack } = await acked(UPDATES, way);
    expect([status, ack.agent_id, ack.tick]).toEqual([200, far.id, 1]);
    const shown = async () => {
      const { body } = await read<AgentResponse>(`/status/agents/${far.id}`);
      return [body.via, body.relay_path];
    };
    expect(await shown()).toEqual(["relay", path]);
    const edges = async () =>
      (await read<TopologyResponse>("/status/topology?layer=relay")).body.edges
        .map(({ a, b }) => [a.node, b.node].sort().join())
        .sort();
    expect(await edges()).toEqual(
      [
        [far.id, middle.id],
        [middle.id, near.id],
      ]
        .map((pair) => pair.sort().join())
        .sort(),
    );
    using database = new Database(place.databasePath, { readonly: true });
    const row = database.query("SELECT relay_path FROM reports_hot WHERE agent_id = ?1").get(far.id);
    expect(row).toEqual({ relay_path: JSON.stringify(path) });
    await place.stop();
    await place.start();
    expect(await shown()).toEqual(["relay", path]);
    expect((await far.send({ wireguard: [], interfaces: [] })).status).toBe(200);
    expect(await shown()).toEqual(["direct", []]);
    expect(await edges()).toEqual([]);
  });

  test("that comes by two relays and directly, all at once, is stored once; each other way hears that it was delivered", async () => {
    const [far, one, other] = [
      await registered(place, "far-twice"),
      await registered(place, "one"),
      await registered(place, "other"),
    ];
    for (let round = 1; round <= 5; round++) {
      const inner = await far.report({ wireguard: [], interfaces: [] });
      const ways = [
        await relayed(inner, [one.id], place.psk, place.now()),
        await relayed(inner, [other.id], place.psk, place.now()),
        inner,
      ];
      // The order turns, so that each is once the first.
      const turned = [...ways.slice(round % 3), ...ways.slice(0, round % 3)];
      const answers = await Promise.all(turned.map((way) => acked(UPDATES, way)));
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409]);
      for (const { status, ack } of answers) {
        expect([ack.agent_id, ack.tick]).toEqual([far.id, round]);
        if (status === 409) expect([ack.code, ack.duplicate]).toEqual(["replay", true]);
      }
    }
    using database = new Database(place.databasePath, { readonly: true });
    const stored = database.query("SELECT tick FROM reports WHERE agent_id = ?1 ORDER BY id").all(far.id);
    expect(stored).toEqual([1, 2, 3, 4, 5].map((tick) => ({ tick })));
    // Nobody is accused of it.
    const { body } = await read<AlarmsResponse>("/status/alarms?state=all");
    expect(body.alarms.filter(({ agent_id }) => agent_id === far.id)).toEqual([]);
  });
});
