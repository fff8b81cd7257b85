// The delivery of reports to a listening manager, through a gate that loses answers or shuts: lost acks, clocks, keys and
// identities that change on either side, refusals, order, age. Every report is stored once, or kept.
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, setDefaultTimeout, setSystemTime, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import type { Entry } from "../../agent/outbox.ts";
import type { AlarmsResponse } from "../../shared/api.ts";
import { verifyMac } from "../../shared/envelope.ts";
import type { Envelope, Report } from "../../shared/report.ts";
import { type Ground, ground } from "../manager/support.ts";
import { type Gate, gateTo, type OwnAgent, ownAgent, toldHost } from "./support.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const OLD_PSK = "delivery-test-old-key-0123456789abcdef";
const NEW_PSK = "delivery-test-new-key-0123456789abcdef";
const BOOT = "4c7ff6a4-0a3b-4a53-8f00-1a2b3c4d5e6f";
const UPTIME_MS = 1_000_000;
/** Up for 1,000 s, for ever. */
const host = toldHost({ proc: { uptime: "1000.00 1.00\n", "sys/kernel/random/boot_id": `${BOOT}\n` } });

let manager: Ground;
let gate: Gate;
const agents: OwnAgent[] = [];
beforeEach(async () => {
  manager = await ground({ PSK: OLD_PSK });
  gate = gateTo(manager);
});
afterEach(async () => {
  for (const own of agents.splice(0)) own[Symbol.dispose]();
  await gate[Symbol.asyncDispose]();
  await manager.remove();
});

async function start(environment: Record<string, string> = {}): Promise<OwnAgent> {
  const own = await ownAgent({ PSK: OLD_PSK, MANAGER_URL: gate.url, REPORT_INTERVAL: "1", ...environment }, host);
  agents.push(own);
  return own;
}
/** The same state, as after a restart. */
const restart = (own: OwnAgent, environment: Record<string, string> = {}) =>
  start({ STATE_DIR: own.directory, ...environment });
const send = async (own: OwnAgent, change: (entry: Entry) => void = () => {}) => {
  const entry = await own.agent.collect();
  change(entry);
  return own.agent.delivery.flush(entry);
};
const last = (own: OwnAgent) => {
  const { status, code, action } = own.agent.delivery.lastAnswer!;
  return [status, code, action];
};
const events = (own: OwnAgent, name: string) => own.lines.filter((line) => line.includes(`"event":"${name}"`)).length;
/** What went through the gate, as data. */
const sent = () => gate.bodies.map((body) => JSON.parse((JSON.parse(body) as Envelope).data) as Report);
function stored(): { agent_id: string; tick: number }[] {
  using db = new Database(manager.databasePath, { readonly: true });
  return db.query<{ agent_id: string; tick: number }, []>("SELECT agent_id, tick FROM reports ORDER BY id").all();
}
const storedTicks = () => stored().map(({ tick }) => tick);

test("registers once, then delivers", async () => {
  const own = await start();
  for (let i = 0; i < 3; i++) expect(await send(own)).toBe(true);
  // A registration is `register` in place of `report`.
  expect(sent().map(({ type }) => String(type))).toEqual(["register", "report", "report", "report"]);
  expect(storedTicks()).toEqual([1, 2, 3]);
  expect(own.agent.delivery.reached).toMatchObject({ via: "direct", hops: 0, address: null });
});

test("the answer lost after commit: sent again, known as delivered, stored once", async () => {
  const own = await start();
  await send(own);
  gate.instead = async (forward) => {
    await forward();
    return new Response(null, { status: 502 });
  };
  expect(await send(own)).toBe(false);
  expect([own.agent.outbox.length, storedTicks()]).toEqual([1, [1, 2]]);
  gate.instead = null;
  const again = await restart(own);
  expect(await send(again)).toBe(true);
  expect([again.agent.outbox.length, storedTicks()]).toEqual([0, [1, 2, 3]]);
  const { alarms } = (await (await fetch(`${manager.url}/status/alarms?state=all`)).json()) as AlarmsResponse;
  // This host has nothing to read; of the repetition nobody complains.
  expect(alarms.filter(({ code }) => code !== "collector_error")).toEqual([]);
});

test.each([3_600_000, -3_600_000])("the manager's clock %i ms off: followed with sent_at alone", async (offset) => {
  manager.clock.at = Date.now() + offset;
  const own = await start();
  expect(await send(own)).toBe(true);
  expect(await send(own)).toBe(true);
  expect(events(own, "clock_offset")).toBe(1);
  const report = sent().at(-1)!;
  expect(Math.abs(report.sent_at - manager.now())).toBeLessThan(60_000);
  expect(Math.abs(report.collected_at - Date.now())).toBeLessThan(60_000);
  expect(storedTicks()).toEqual([1, 2]);
});

test("the manager's database wiped: registers again and keeps its id; what waited arrives", async () => {
  const own = await start();
  await send(own);
  const id = own.agent.identity.agentId;
  await manager.stop();
  expect(await send(own)).toBe(false);
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(`${manager.databasePath}${suffix}`, { force: true });
  await manager.start();
  expect(await send(own)).toBe(true);
  expect(stored()).toEqual([2, 3].map((tick) => ({ agent_id: id, tick })));
  expect(own.agent.identity.agentId).toBe(id);
});

test("the manager set up anew, with another key: learned over the direct way, said loudly", async () => {
  const own = await start();
  await send(own);
  const before = own.agent.identity.managerKey;
  await manager.stop();
  fs.rmSync(join(manager.directory, "manager_key"));
  await manager.start();
  expect(await send(own)).toBe(true);
  expect(own.agent.identity.managerKey).not.toBe(before);
  expect(events(own, "manager_key_changed")).toBe(1);
  expect(storedTicks()).toEqual([1, 2]);
});

test("set up anew while the agent restarts with a clock that is off: the key is learned, then the clock", async () => {
  const own = await start();
  await send(own);
  const before = own.agent.identity.managerKey;
  await manager.stop();
  fs.rmSync(join(manager.directory, "manager_key"));
  manager.clock.at = Date.now() + 3_600_000;
  await manager.start();
  const again = await restart(own);
  expect(await send(again)).toBe(true);
  expect(again.agent.identity.managerKey).not.toBe(before);
  expect([events(again, "manager_key_changed"), events(again, "clock_offset")]).toEqual([1, 1]);
  expect(storedTicks()).toEqual([1, 2]);
});

test("the same, where MANAGER_KEY fixes it: not believed, the report stays", async () => {
  const own = await start();
  await send(own);
  const fixed = await restart(own, { MANAGER_KEY: own.agent.identity.managerKey! });
  expect(await send(fixed)).toBe(true);
  await manager.stop();
  fs.rmSync(join(manager.directory, "manager_key"));
  await manager.start();
  expect(await send(fixed)).toBe(false);
  expect([last(fixed)[2], fixed.agent.outbox.length]).toEqual(["learn_manager", 1]);
  expect(fixed.agent.identity.managerKey).toBe(own.agent.identity.managerKey);
});

test("the PSK rotated at the manager first: the old key is taken, and its ack believed", async () => {
  const own = await start();
  await send(own);
  await manager.stop();
  await manager.start({ PSK: NEW_PSK });
  expect(await send(own)).toBe(true);
  expect(storedTicks()).toEqual([1, 2]);
});

test("the PSK rotated at the agent first: its older key is tried after the 401, and goes first from then on", async () => {
  const first = await start();
  await send(first);
  const own = await restart(first, { PSK: NEW_PSK });
  gate.bodies = [];
  expect(await send(own)).toBe(true);
  const tried = gate.bodies.length;
  expect(await send(own)).toBe(true);
  expect(gate.bodies.length).toBe(tried + 1);
  // Once the manager has the new one, that is as good.
  await manager.stop();
  await manager.start({ PSK: NEW_PSK });
  expect(await send(own)).toBe(true);
  expect(storedTicks()).toEqual([1, 2, 3, 4]);
});

test("its older key was taken: half an hour later the newest is tried again, and stays once it is taken", async () => {
  const signedBy = async (psk: string) => (await verifyMac(JSON.parse(gate.bodies.at(-1)!) as Envelope, [psk])) === 0;
  const first = await start();
  await send(first);
  const own = await restart(first, { PSK: NEW_PSK });
  await send(own);
  try {
    // Still refused: once, and the older key is good for another half hour.
    setSystemTime(Date.now() + 31 * 60_000);
    gate.bodies = [];
    expect(await send(own)).toBe(true);
    expect([gate.bodies.length, await signedBy(OLD_PSK)]).toEqual([2, true]);
    await manager.stop();
    await manager.start({ PSK: NEW_PSK });
    expect(await send(own)).toBe(true);
    expect(await signedBy(OLD_PSK)).toBe(true);
    setSystemTime(Date.now() + 31 * 60_000);
    for (let i = 0; i < 2; i++) {
      gate.bodies = [];
      expect(await send(own)).toBe(true);
      expect([gate.bodies.length, await signedBy(NEW_PSK)]).toEqual([1, true]);
    }
  } finally {
    setSystemTime();
  }
});

test("three rotations while it is off: refused, kept; delivered when it has the key", async () => {
  const first = await start();
  await send(first);
  for (let i = 0; i < 3; i++) {
    await manager.stop();
    await manager.start({ PSK: `${NEW_PSK}-${i}` });
  }
  const own = await restart(first);
  expect(await send(own)).toBe(false);
  expect([last(own), own.agent.outbox.length]).toEqual([[401, "unauthenticated", "refresh_psk"], 1]);
  const late = await restart(own, { PSK: `${NEW_PSK}-2` });
  expect(await send(late)).toBe(true);
  expect(storedTicks()).toEqual([1, 2, 3]);
});

test("a key file of a long name that is not there: the report says so within the wire's limit, and is taken", async () => {
  const first = await start();
  await send(first);
  const own = await restart(first, { PSK: "", PSK_FILE: `/tmp/${"密".repeat(150)}/key` });
  expect(await send(own)).toBe(true);
  expect(Buffer.byteLength(sent().at(-1)!.delivery!.psk_error!)).toBeLessThanOrEqual(255);
});

test("a report that the schema refuses is set aside and counted; the others go on, and say so", async () => {
  const own = await start();
  await send(own);
  expect(await send(own, ({ report }) => (report.interval_s = -1))).toBe(true);
  expect([last(own), own.agent.outbox.dropped]).toEqual([[422, "schema", "set_aside"], 1]);
  expect(await send(own)).toBe(true);
  expect([storedTicks(), sent().at(-1)!.dropped]).toEqual([[1, 3], 1]);
});

test("a report of a version that the manager does not know holds all, in their order", async () => {
  const own = await start();
  expect(await send(own, ({ report }) => ((report as { v: number }).v = 2))).toBe(false);
  expect(await send(own)).toBe(false);
  expect([last(own), own.agent.outbox.length, stored()]).toEqual([[422, "version", "hold"], 2, []]);
});

test("an id that is another's: a fresh one is taken, the outbox is kept and goes under it", async () => {
  const first = await start();
  await send(first);
  const clone = await start();
  clone.agent.outbox.push(await clone.agent.collect());
  const name = join(clone.directory, "agent_id.txt");
  fs.copyFileSync(join(first.directory, "agent_id.txt"), name);
  const own = await restart(clone);
  expect(own.agent.identity.agentId).toBe(first.agent.identity.agentId);
  expect(await send(own)).toBe(true);
  const id = own.agent.identity.agentId;
  expect(id).not.toBe(first.agent.identity.agentId);
  expect(stored().slice(1)).toEqual([1, 2].map((tick) => ({ agent_id: id, tick })));
  expect(fs.readFileSync(name, "utf8")).toStartWith(id);
});

test("asked for a new identity: the outbox is emptied, the next report goes under the new id, from 1", async () => {
  const own = await start();
  await send(own);
  const before = own.agent.identity.agentId;
  gate.instead = () => new Response(null, { status: 502 });
  await send(own);
  gate.instead = null;
  const reset = await fetch(`${manager.url}/status/admin/reset`, {
    method: "POST",
    headers: { Authorization: `Bearer ${manager.adminToken}`, "Content-Type": "application/json" },
    body: JSON.stringify({ agent_id: before, regenerate: true }),
  });
  expect(reset.status).toBe(200);
  await send(own);
  expect([last(own), own.agent.outbox.length]).toEqual([[410, "reset", "new_identity"], 0]);
  expect(await send(own)).toBe(true);
  expect(own.agent.identity.agentId).not.toBe(before);
  expect(stored().at(-1)).toEqual({ agent_id: own.agent.identity.agentId, tick: 1 });
});

test("the answer lost that asked for a new identity: a restart hears it when it registers, and empties the outbox too", async () => {
  const own = await start();
  await send(own);
  const before = own.agent.identity.agentId;
  const reset = await fetch(`${manager.url}/status/admin/reset`, {
    method: "POST",
    headers: { Authorization: `Bearer ${manager.adminToken}`, "Content-Type": "application/json" },
    body: JSON.stringify({ agent_id: before, regenerate: true }),
  });
  expect(reset.status).toBe(200);
  gate.instead = async (forward) => {
    await forward();
    return new Response(null, { status: 502 });
  };
  await send(own);
  gate.instead = null;
  const again = await restart(own);
  expect([again.agent.identity.agentId, again.agent.outbox.length]).toEqual([before, 1]);
  await send(again);
  expect([last(again), again.agent.outbox.length]).toEqual([[410, "reset", "new_identity"], 0]);
  expect([events(again, "new_identity"), again.agent.identity.agentId === before]).toEqual([1, false]);
  expect(await send(again)).toBe(true);
  expect(stored().slice(1)).toEqual([{ agent_id: again.agent.identity.agentId, tick: 1 }]);
});

test.each([
  ["a report that is not answered", false, false],
  ["a report whose answer comes late", false, true],
  ["a waiting report that is not answered", true, false],
  ["a waiting report whose answer comes late", true, true],
])(
  "reset under way of %s: nothing of the old identity is left, nothing of the new is lost",
  async (_name, waits, answers) => {
    const own = await start();
    await send(own);
    gate.instead = () => new Response(null, { status: 502 });
    if (waits) await send(own);
    const [came, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    gate.instead = async (forward) => {
      const answer = await forward();
      came.resolve();
      await released.promise;
      return answers ? answer : new Response(null, { status: 502 });
    };
    const underWay = send(own);
    await came.promise;
    await own.agent.reset();
    const id = own.agent.identity.agentId;
    const first = await own.agent.collect();
    const offered = own.agent.delivery.offer(first);
    gate.instead = null;
    released.resolve();
    await Promise.all([underWay, offered]);
    expect(await send(own)).toBe(true);
    expect(own.agent.identity.agentId).toBe(id);
    expect(stored().filter(({ agent_id }) => agent_id === id)).toEqual([1, 2].map((tick) => ({ agent_id: id, tick })));
  },
);

test("reset under way of a registration: its answer is not for the new identity", async () => {
  const own = await start();
  await send(own);
  const again = await restart(own);
  const [came, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  gate.instead = async (forward) => {
    const answer = await forward();
    came.resolve();
    await released.promise;
    return answer;
  };
  const underWay = send(again);
  await came.promise;
  await again.agent.reset();
  const id = again.agent.identity.agentId;
  gate.instead = null;
  released.resolve();
  await underWay;
  expect(again.agent.identity.agentId).toBe(id);
  expect(await send(again)).toBe(true);
  expect(stored().slice(1)).toEqual([{ agent_id: id, tick: 1 }]);
});

test("killed as soon as it has the new identity: what waited under the old one is not sent under it", async () => {
  const own = await start();
  await send(own);
  const { identity } = own.agent;
  gate.instead = () => new Response(null, { status: 502 });
  await send(own);
  gate.instead = null;
  await fetch(`${manager.url}/status/admin/reset`, {
    method: "POST",
    headers: { Authorization: `Bearer ${manager.adminToken}`, "Content-Type": "application/json" },
    body: JSON.stringify({ agent_id: identity.agentId, regenerate: true }),
  });
  // A kill there: nothing of what comes after it happens.
  let renewed = () => {};
  const killed = new Promise<void>((resolve) => (renewed = resolve));
  const renew = identity.renew.bind(identity);
  identity.renew = async () => {
    await renew();
    renewed();
    return new Promise<never>(() => {});
  };
  void send(own);
  await killed;
  const again = await restart(own);
  expect(again.agent.identity.agentId).toBe(identity.agentId);
  expect(again.agent.outbox.length).toBe(0);
  expect(await send(again)).toBe(true);
  expect(stored().filter((row) => row.agent_id === identity.agentId)).toHaveLength(1);
});

test("what waited goes oldest first, one at a time, then the newest", async () => {
  const own = await start();
  gate.instead = () => new Response(null, { status: 500 });
  for (let i = 0; i < 5; i++) expect(await send(own)).toBe(false);
  gate.instead = null;
  gate.bodies = [];
  expect(await send(own)).toBe(true);
  expect(storedTicks()).toEqual([1, 2, 3, 4, 5, 6]);
  expect(gate.atOnce).toBe(1);
});

test("a manager that asks for a second's patience has it", async () => {
  const own = await start();
  const at: number[] = [];
  gate.instead = (forward) => {
    at.push(performance.now());
    return at.length > 1 ? forward() : new Response(null, { status: 503, headers: { "Retry-After": "1" } });
  };
  await own.agent.delivery.offer(await own.agent.collect());
  expect([at.length, own.agent.outbox.length]).toEqual([1, 1]);
  // Without it the next try would come within the interval's second.
  for (let i = 0; i < 60 && own.agent.outbox.length > 0; i++) await Bun.sleep(50);
  await own.agent.delivery.stop(1000);
  expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(990);
  expect(storedTicks()).toEqual([1]);
});

test("of several ways to the manager the last good one goes first", async () => {
  await using dead = gateTo(manager);
  dead.instead = () => new Response(null, { status: 504 });
  const own = await start({ MANAGER_URL: `${dead.url},${gate.url}` });
  expect(await send(own)).toBe(true);
  const tried = dead.bodies.length;
  expect(tried).toBe(1);
  expect(await send(own)).toBe(true);
  expect(dead.bodies.length).toBe(tried);
});

test.each<[string, (entry: Entry) => void, number, number]>([
  ["by the uptime within one boot", (entry) => (entry.uptime_ms = UPTIME_MS - 5000), 5000, 5000],
  [
    "by the uptime, whatever was done to the clock",
    (entry) => ((entry.uptime_ms = UPTIME_MS - 5000), (entry.report.collected_at += 7_200_000)),
    5000,
    5000,
  ],
  [
    "by the wall clock after a boot",
    (entry) => ((entry.report.boot_id = "another"), (entry.report.collected_at -= 60_000)),
    60_000,
    65_000,
  ],
  [
    "by the wall clock where the uptime is not known",
    (entry) => ((entry.uptime_ms = null), (entry.report.collected_at -= 60_000)),
    60_000,
    65_000,
  ],
  ["never below 0", (entry) => ((entry.report.boot_id = "another"), (entry.report.collected_at += 60_000)), 0, 0],
])("age is reckoned %s", async (_name, change, least, most) => {
  const own = await start();
  expect(await send(own, change)).toBe(true);
  const { age_ms: age } = sent().at(-1)!;
  expect(age).toBeGreaterThanOrEqual(least);
  expect(age).toBeLessThanOrEqual(most);
});

test("each try has a nonce and a time of its own; tick and collection stay", async () => {
  const own = await start();
  gate.instead = async (forward) => {
    await forward();
    return new Response(null, { status: 500 });
  };
  await send(own);
  const again = await restart(own);
  gate.instead = null;
  await send(again);
  const reports = sent().filter(({ type, tick }) => type === "report" && tick === 1);
  expect(reports.length).toBeGreaterThan(0);
  expect(new Set(sent().map(({ nonce }) => nonce)).size).toBe(gate.bodies.length);
  expect(new Set(reports.map(({ collected_at: at }) => at)).size).toBe(1);
});
