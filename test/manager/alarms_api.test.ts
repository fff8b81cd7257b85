// Alarms over HTTP, on a manager in this process whose clock the test sets: what is listed, page by page; one alarm's
// timeline; acknowledging; and a maintenance window that is seen on what it silences.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Alarm, AlarmsResponse } from "../../shared/api.ts";
import { type Agent, type Ground, ground, publicKeyOf, registered } from "./support.ts";

const INTERVAL_MS = 30_000;

let place: Ground;
const agents: Agent[] = [];

beforeAll(async () => {
  place = await ground();
  place.clock.at = Date.UTC(2026, 0, 5, 12);
  for (let i = 0; i < 3; i++) agents.push(await registered(place, `h${i}`));
  await round({});
});
afterAll(() => place.remove());

const alone = { wireguard: [], interfaces: [], routes: [], neighbors: [] };

/** Everyone reports; `failing` by place: the collector that fails there. */
async function round(failing: { [place: number]: string }): Promise<void> {
  place.clock.at! += INTERVAL_MS;
  for (const [i, agent] of agents.entries()) {
    const collectors = failing[i] === undefined ? {} : { [failing[i]!]: "error: missing" };
    expect((await agent.send({ ...alone, system: null, collectors })).status).toBe(200);
  }
  await place.advance();
}

const get = async <T>(path: string): Promise<T> => {
  const response = await fetch(`${place.url}${path}`, { signal: AbortSignal.timeout(5000) });
  expect(response.status).toBe(200);
  return (await response.json()) as T;
};
const list = async (query: string): Promise<Alarm[]> => (await get<AlarmsResponse>(`/status/alarms${query}`)).alarms;
const post = (path: string, body: unknown) =>
  fetch(`${place.url}${path}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${place.adminToken}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
const about = (alarms: readonly Alarm[]) => alarms.map(({ code, agent_id }) => [code, agent_id]);

test("open, acknowledged, resolved: listed by state and by agent, and one alarm's timeline tells each step", async () => {
  for (let i = 0; i < 4; i++) await round({ 0: "routes", 1: "neighbors" });
  expect(about(await list("")).sort()).toEqual(
    [
      ["collector_error", agents[0]!.id],
      ["collector_error", agents[1]!.id],
    ].sort(),
  );
  expect(about(await list(`?agent_id=${agents[1]!.id}`))).toEqual([["collector_error", agents[1]!.id]]);
  expect(await list("?state=resolved")).toEqual([]);

  const [{ id }] = (await list(`?agent_id=${agents[0]!.id}`)) as [Alarm];
  expect((await post(`/status/alarms/${id}/ack`, {})).status).toBe(200);
  expect((await list("")).find((alarm) => alarm.id === id)).toMatchObject({ state: "acknowledged" });

  await round({ 1: "neighbors" });
  expect(about(await list("?state=open"))).toEqual([["collector_error", agents[1]!.id]]);
  expect(about(await list("?state=resolved"))).toEqual([["collector_error", agents[0]!.id]]);
  expect(await list("?state=all")).toHaveLength(2);
  const { transitions } = await get<Alarm>(`/status/alarms/${id}`);
  expect(transitions!.map(({ state }) => state).filter((state) => state !== "pending")).toEqual([
    "open",
    "acknowledged",
    "resolved",
  ]);
  // With the report that caused it; the acknowledgement is nobody's report.
  const caused = transitions!.map(({ state, report }) => [state, report?.agent_id ?? null]);
  expect(caused).toEqual([
    ["open", agents[0]!.id],
    ["acknowledged", null],
    ["resolved", agents[0]!.id],
  ]);
  const ticks = transitions!.flatMap(({ report }) => (report === null ? [] : [report.tick]));
  expect(ticks).toEqual([ticks[0]!, ticks[0]! + 2]);
});

test("page by page: every alarm once, newest first", async () => {
  const whole = await list("?state=all&limit=100");
  const pages: Alarm[] = [];
  for (let before: string | null = ""; before !== null;) {
    const page: AlarmsResponse = await get(
      `/status/alarms?state=all&limit=1${before === "" ? "" : `&before=${before}`}`,
    );
    expect(page.alarms.length).toBeLessThanOrEqual(1);
    pages.push(...page.alarms);
    before = page.next_before;
    expect(pages.length).toBeLessThanOrEqual(whole.length);
  }
  expect(pages.map(({ id }) => id)).toEqual(whole.map(({ id }) => id));
});

test("a maintenance window silences what it names, while it lasts", async () => {
  const until_at = place.now() + 3 * INTERVAL_MS;
  const silence = { agents: [agents[1]!.id], until_at, reason: "kernel updates" };
  expect((await post("/status/admin/silence", silence)).status).toBe(200);
  expect((await list("")).map(({ silenced }) => silenced)).toEqual([true]);
  for (let i = 0; i < 4; i++) await round({ 1: "neighbors", 2: "routes" });
  expect((await list("")).map(({ silenced }) => silenced)).toEqual([false, false]);
});

test("acknowledging says what the alarm is then: acknowledged since when, also a second time; or resolved, where that ends it", async () => {
  const [{ id }] = (await list(`?agent_id=${agents[1]!.id}`)) as [Alarm];
  const first = (await (await post(`/status/alarms/${id}/ack`, {})).json()) as Alarm;
  expect(first).toEqual({ id, state: "acknowledged", acknowledged_at: place.now(), resolved_at: null } as any);
  await round({ 1: "neighbors" });
  expect(await (await post(`/status/alarms/${id}/ack`, {})).json()).toEqual(first as any);

  const tunnel = { interface: "wg0", public_key: publicKeyOf(7), listen_port: 51820, fwmark: null, peers: [] };
  for (const wireguard of [[tunnel], []]) {
    place.clock.at! += INTERVAL_MS;
    await agents[2]!.send({ ...alone, system: null, collectors: {}, wireguard });
  }
  const gone = (await list(`?agent_id=${agents[2]!.id}`)).find(({ code }) => code === "iface_gone")!;
  const answer = await post(`/status/alarms/${gone.id}/ack`, {});
  expect(await answer.json()).toEqual({
    id: gone.id,
    state: "resolved",
    acknowledged_at: place.now(),
    resolved_at: place.now(),
  });
  expect((await post(`/status/alarms/${gone.id}/ack`, {})).status).toBe(404);
});
