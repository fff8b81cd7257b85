// Notifications against receivers that listen: our own for the webhook's and ntfy's formats, Debian's Alertmanager for its
// own; outages, restarts, lost answers, and secrets that must not show.
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AlarmRow, AlarmTransition } from "../../manager/model.ts";
import { checkNotify, Notifier } from "../../manager/notify.ts";
import { parseReceivers } from "../../manager/notify/receivers.ts";
import type { Store } from "../../manager/store/store.ts";
import { createLog } from "../../shared/log.ts";
import { type Agent, ground, registered, type Spawned, spawnManager } from "../manager/support.ts";
import { place } from "../store/support.ts";
import { describeWith } from "../support/needs.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

type Got = { path: string; headers: Headers; body: any };
type Reply = (got: Got) => Response | Promise<Response>;

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

function receiver(reply: Reply = () => new Response("ok"), port = 0) {
  const got: Got[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port,
    async fetch(request) {
      const item = { path: new URL(request.url).pathname, headers: request.headers, body: await request.json() };
      got.push(item);
      return reply(item);
    },
  });
  cleanups.push(() => server.stop(true));
  return { got, server, port: server.port!, url: `http://127.0.0.1:${server.port}` };
}

async function until(condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error("it did not come about");
    await Bun.sleep(10);
  }
}

/** A disk may take its time, and a receiver too: what a test says of the two it says here. */
function setup({ settleMs = 60, timeoutMs = 10_000 } = {}) {
  const at = place();
  cleanups.push(() => at[Symbol.dispose]());
  const lines: string[] = [];
  const log = createLog("debug", (line) => lines.push(line));
  const open = async () => {
    const store = await at.open();
    cleanups.push(() => store.close().catch(() => {}));
    return store;
  };
  const notifier = async (store: Store, ...urls: string[]) => {
    const made = new Notifier({
      urls,
      store,
      log,
      settleMs,
      pollMs: 10,
      timeoutMs,
      retryFirstMs: 20,
      repeatMs: 200,
    });
    await made.start();
    cleanups.push(() => made.stop());
    return made;
  };
  return { open, notifier, lines };
}

function alarm(changes: Partial<AlarmRow> = {}): AlarmRow {
  const now = Date.now();
  return {
    id: crypto.randomUUID(),
    code: "agent_down",
    severity: "warning",
    subject: "agent:c",
    agent_id: "c",
    state: "open",
    message: "nothing arrives from c",
    since_at: now - 300_000,
    opened_at: now,
    acknowledged_at: null,
    resolved_at: null,
    depends_on: [],
    details: { look_at: "whether the host is up", command: "on c: systemctl status kattila-agent" },
    flapping: false,
    memory: { said: true },
    ...changes,
  };
}

function transition(of: AlarmRow, changes: Partial<AlarmTransition> = {}): AlarmTransition {
  return {
    alarm_id: of.id,
    at: Date.now(),
    from: "pending",
    to: of.state,
    severity: of.severity,
    report: null,
    note: null,
    notify: true,
    ...changes,
  };
}

function resolved(of: AlarmRow): AlarmRow {
  return { ...of, state: "resolved", resolved_at: Date.now(), depends_on: [], memory: {} };
}

describe("webhook", () => {
  test("one fault is one message, with its effects; then its end", async () => {
    const { open, notifier } = setup({ settleMs: 1500 });
    const hook = receiver();
    const store = await open();
    await notifier(store, `${hook.url}/hook?x=1`);
    const effect = alarm({ code: "peer_stale", subject: "edge:1", severity: "warning" });
    await store.commit({ alarms: [effect], transitions: [transition(effect)] });
    const root = alarm();
    const under = { ...effect, depends_on: [root.id] };
    const silent = alarm({ code: "peer_stale", subject: "edge:2", depends_on: [root.id], memory: {} });
    await store.commit({
      alarms: [root, under, silent],
      transitions: [transition(root), transition(silent, { notify: false })],
    });
    await until(() => hook.got.length > 0);
    await Bun.sleep(150);
    expect(hook.got.length).toBe(1);
    const { body, headers, path } = hook.got[0]!;
    expect(path).toBe("/hook");
    expect(body.alarm).toMatchObject({ id: root.id, code: "agent_down", state: "open", message: root.message });
    expect(body.alarm).not.toHaveProperty("memory");
    expect(body.effects_total).toBe(2);
    expect(body.transitions.map((item: any) => item.alarm_id).sort()).toEqual([root.id, effect.id].sort());
    expect(headers.get("Idempotency-Key")).toBe(body.key);
    expect(body.text).toContain("beneath it: 2 peer_stale");
    expect(body.text).toContain("on c: systemctl status");

    const over = resolved(root);
    await store.commit({ alarms: [over], transitions: [transition(over, { from: "open", to: "resolved" })] });
    await until(() => hook.got.length > 1);
    expect(hook.got[1]!.body).toMatchObject({ title: "[resolved] agent_down", alarm: { state: "resolved" } });
    expect(hook.got[1]!.body.key).not.toBe(body.key);
  });

  test("an outage loses nothing and repeats nothing; meanwhile others are told", async () => {
    const { open, notifier, lines } = setup();
    let down = true;
    const weak = receiver(() => (down ? new Response("no", { status: 503 }) : new Response("ok")));
    const strong = receiver();
    const store = await open();
    await notifier(store, weak.url, strong.url);
    for (let i = 0; i < 3; i++) {
      const row = alarm({ subject: `agent:${i}` });
      await store.commit({ alarms: [row], transitions: [transition(row)] });
    }
    await until(() => strong.got.length === 3 && weak.got.length > 3);
    down = false;
    const before = weak.got.length;
    await until(() => weak.got.length >= before + 3);
    await Bun.sleep(150);
    expect(new Set(weak.got.slice(before).map((item) => item.body.key)).size).toBe(3);
    expect(weak.got.length).toBe(before + 3);
    expect(strong.got.length).toBe(3);
    // What was refused is the same message, by its key, when it comes again.
    expect(weak.got[0]!.body.key).toBe(weak.got[before]!.body.key);
    expect(lines.some((line) => line.includes("notification_not_sent") && line.includes("503"))).toBe(true);
  });

  test("the manager restarts, at any moment: each transition arrives once", async () => {
    const { open, notifier } = setup();
    const hook = receiver();
    const store = await open();
    const first = await notifier(store, hook.url);
    const rows = Array.from({ length: 5 }, (_, i) => alarm({ subject: `agent:${i}` }));
    await store.commit({ alarms: rows.slice(0, 3), transitions: rows.slice(0, 3).map((row) => transition(row)) });
    await until(() => hook.got.length >= 1);
    await first.stop();
    await store.commit({ alarms: rows.slice(3), transitions: rows.slice(3).map((row) => transition(row)) });
    await notifier(store, hook.url);
    await until(() => new Set(hook.got.map((item) => item.body.alarm.id)).size === 5);
    await Bun.sleep(150);
    // At most the one that was on its way when it stopped has come twice.
    expect(hook.got.length).toBeLessThanOrEqual(6);
    const keys = hook.got.map((item) => item.body.key);
    expect(new Set(keys).size).toBe(5);
  });

  test("the answer is lost: it comes again, with the same keys", async () => {
    const { open, notifier } = setup({ timeoutMs: 1000 });
    let lost = 0;
    // Taken, but never known.
    const hook = receiver(() => (lost++ === 0 ? new Promise<Response>(() => {}) : new Response("ok")));
    const store = await open();
    await notifier(store, hook.url);
    const row = alarm();
    await store.commit({ alarms: [row], transitions: [transition(row)] });
    await until(() => hook.got.length === 2);
    await Bun.sleep(150);
    expect(hook.got.length).toBe(2);
    expect(hook.got[1]!.body.key).toBe(hook.got[0]!.body.key);
    expect(hook.got[1]!.body.transitions[0].key).toBe(hook.got[0]!.body.transitions[0].key);
  });

  test("the answer is lost and the alarm ends meanwhile: a message of another key, whose first transition has the same", async () => {
    const { open, notifier } = setup({ timeoutMs: 1000 });
    const store = await open();
    const row = alarm();
    let lost = 0;
    const hook = receiver(async () => {
      if (lost++ > 0) return new Response("ok");
      const over = resolved(row);
      await store.commit({ alarms: [over], transitions: [transition(over, { from: "open" })] });
      return new Promise<Response>(() => {}); // taken, but never known
    });
    await notifier(store, hook.url);
    await store.commit({ alarms: [row], transitions: [transition(row)] });
    await until(() => hook.got.length === 2);
    await Bun.sleep(150);
    expect(hook.got.length).toBe(2);
    const [first, second] = hook.got.map(({ body }) => body);
    // Whoever knows a message by its key must not take the end for what it has.
    expect(second.key).not.toBe(first.key);
    expect(second.transitions.map((item: any) => item.to)).toEqual(["open", "resolved"]);
    expect(second.transitions[0].key).toBe(first.transitions[0].key);
  });

  test("a receiver that is new hears each open alarm, however many others came and went in between", async () => {
    const { open, notifier } = setup();
    const store = await open();
    const first = alarm({ subject: "agent:first" });
    const last = alarm({ subject: "agent:last" });
    const past = resolved(alarm({ subject: "agent:past" }));
    await store.commit({ alarms: [first, past], transitions: [transition(first)] });
    // More than two rounds of 500.
    await store.commit({ transitions: Array.from({ length: 1200 }, () => transition(past)) });
    await store.commit({ alarms: [last], transitions: [transition(last)] });
    await store.commit({ transitions: [transition(past)] });
    const hook = receiver();
    await notifier(store, hook.url);
    await until(() => hook.got.length >= 2);
    await Bun.sleep(150);
    expect(hook.got.map(({ body }) => body.alarm.subject)).toEqual(["agent:first", "agent:last"]);
  });

  test("a message that is refused for good does not hold up the next; redirects are not followed", async () => {
    const { open, notifier, lines } = setup();
    const inner = receiver();
    const hook = receiver(({ body }) => new Response("", { status: body.alarm.subject === "agent:bad" ? 400 : 200 }));
    const elsewhere = receiver(() => Response.redirect(inner.url, 307));
    const store = await open();
    await notifier(store, hook.url, elsewhere.url);
    const rows = [alarm({ subject: "agent:bad" }), alarm({ subject: "agent:good" })];
    await store.commit({ alarms: rows, transitions: rows.map((row) => transition(row)) });
    await until(() => hook.got.length === 2 && elsewhere.got.length >= 2);
    await Bun.sleep(100);
    expect(hook.got.length).toBe(2);
    expect(inner.got.length).toBe(0);
    expect(lines.some((line) => line.includes("notification_refused"))).toBe(true);
    expect(lines.some((line) => line.includes("redirects are not followed"))).toBe(true);
  });

  test("a receiver that is new hears what is open, not the past; what is over a day old is not told", async () => {
    const { open, notifier, lines } = setup();
    const store = await open();
    const past = resolved(alarm({ subject: "agent:past" }));
    const now = alarm({ subject: "agent:now" });
    const old = alarm({ subject: "agent:old" });
    await store.commit({
      alarms: [past, now, old],
      transitions: [
        transition(past, { to: "open" }),
        transition(past),
        transition(now),
        transition(old, { at: Date.now() - 25 * 3_600_000 }),
      ],
    });
    const hook = receiver();
    await notifier(store, hook.url);
    await until(() => hook.got.length > 0);
    await Bun.sleep(150);
    expect(hook.got.map((item) => item.body.alarm.subject)).toEqual(["agent:now"]);
    expect(lines.some((line) => line.includes("notifications_too_old"))).toBe(true);
  });

  test("Retry-After is obeyed, an endless answer is cut", async () => {
    const { open, notifier } = setup();
    const times: number[] = [];
    const busy = receiver(() => {
      times.push(performance.now());
      return times.length === 1
        ? new Response("", { status: 429, headers: { "Retry-After": "1" } })
        : new Response("ok");
    });
    const endless = receiver(
      () =>
        new Response(
          new ReadableStream({
            async pull(controller) {
              controller.enqueue(new Uint8Array(16_384));
              await Bun.sleep(1);
            },
          }),
        ),
    );
    const store = await open();
    await notifier(store, busy.url, endless.url);
    const row = alarm();
    await store.commit({ alarms: [row], transitions: [transition(row)] });
    await until(() => times.length === 2);
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(990);
    expect(endless.got.length).toBe(1);
  });
});

describe("a whole manager", () => {
  /** An agent's report whose outbox is over half full, or drained: `backlog` opens and resolves at once. */
  async function sends(agent: Agent, backlog: boolean): Promise<void> {
    const [outbox_reports, outbox_bytes] = backlog ? [50, 501] : [0, 0];
    const { status } = await agent.send({
      interval_s: 300,
      collectors: {},
      system: null,
      interfaces: [],
      routes: [],
      neighbors: [],
      wireguard: [],
      delivery: {
        outbox_reports,
        outbox_bytes,
        outbox_limit_bytes: 1000,
        relay_refused: { loop: 0, hop_limit: 0 },
        psk_error: null,
      },
    });
    expect(status).toBe(200);
  }

  const heard = (got: readonly Got[]) =>
    got.map(({ body }) => [body.alarm.subject, body.alarm.code, body.transitions.map((item: any) => item.to)]);

  test("kill -9 after a message is sent, before it is known as taken: it comes again by the same key, and no other", async () => {
    const directory = mkdtempSync(join(tmpdir(), "kattila-notify-"));
    cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
    let manager: Spawned | null = null;
    cleanups.push(async () => void (await manager?.kill("SIGKILL")));
    let killed = false;
    const hook = receiver(async () => {
      if (hook.got.length === 2) {
        await manager!.kill("SIGKILL");
        killed = true;
      }
      return new Response("ok");
    });
    const settings = { NOTIFY_URL: `${hook.url}/hook` };
    manager = await spawnManager(directory, settings);
    // What agents talk to: the manager, wherever it listens.
    const at = { url: manager.url, psk: manager.psk, now: Date.now };
    const agents = [await registered(at, "h0"), await registered(at, "h1"), await registered(at, "h2")] as const;
    const subjects = agents.map(({ id }) => `agent:${id}`);
    // Three messages of one round: the first is known as taken, the second kills, the third is not sent.
    for (const agent of agents) await sends(agent, true);
    await until(() => killed);
    expect(heard(hook.got)).toEqual([
      [subjects[0], "backlog", ["open"]],
      [subjects[1], "backlog", ["open"]],
    ]);

    manager = await spawnManager(directory, settings);
    at.url = manager.url;
    await until(() => hook.got.length === 4);
    await sends(agents[1], false);
    await until(() => hook.got.length === 5);
    expect(heard(hook.got.slice(2))).toEqual([
      [subjects[1], "backlog", ["open"]],
      [subjects[2], "backlog", ["open"]],
      [subjects[1], "backlog", ["resolved"]],
    ]);
    const [, cut, again] = hook.got as [Got, Got, Got];
    expect(again.body.key).toBe(cut.body.key);
    expect(again.headers.get("Idempotency-Key")).toBe(cut.headers.get("Idempotency-Key"));
    expect(again.body.transitions).toEqual(cut.body.transitions);
    expect(new Set(hook.got.map(({ body }) => body.key)).size).toBe(4);
  }, 60_000);

  test("a maintenance window set over HTTP keeps its agents' alarms from the receiver, until it ends", async () => {
    const hook = receiver();
    const manager = await ground({ NOTIFY_URL: hook.url });
    cleanups.push(() => manager.remove());
    manager.clock.at = Date.UTC(2026, 0, 5, 12);
    const [spoken, staying, passing] = [
      await registered(manager, "h0"),
      await registered(manager, "h1"),
      await registered(manager, "h2"),
    ] as const;
    const about = (agent: Agent) => [`agent:${agent.id}`, "backlog", ["open"]];
    const until_at = manager.now() + 600_000;
    const answer = await fetch(`${manager.url}/status/admin/silence`, {
      method: "POST",
      headers: { Authorization: `Bearer ${manager.adminToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ agents: [staying.id, passing.id], until_at, reason: "new kernel" }),
    });
    expect(answer.status).toBe(200);

    // Those in the window first: what the other's message does not bring with it was withheld, and is not on its way.
    for (const agent of [staying, passing, spoken]) await sends(agent, true);
    await sends(passing, false);
    await until(() => hook.got.length > 0);
    await Bun.sleep(150);
    expect(heard(hook.got)).toEqual([about(spoken)]);

    // It ends: what is still there is told, what came and went within it never is.
    manager.clock.at = until_at - 1000;
    await manager.advance();
    manager.clock.at = until_at;
    await manager.advance();
    await until(() => hook.got.length > 1);
    await Bun.sleep(150);
    expect(heard(hook.got.slice(1))).toEqual([about(staying)]);
    expect(hook.got[1]!.body.transitions[0].at).toBe(until_at);
  }, 60_000);
});

describe("ntfy", () => {
  test("its JSON: topic, title, priority, tags; token as bearer", async () => {
    const { open, notifier, lines } = setup();
    const server = receiver();
    const store = await open();
    await notifier(store, `ntfy+http://:tk_secret@127.0.0.1:${server.port}/base/kattila-alarms`);
    const row = alarm({ severity: "critical", message: "c ünreachable" });
    await store.commit({ alarms: [row], transitions: [transition(row)] });
    await until(() => server.got.length === 1);
    const { body, headers, path } = server.got[0]!;
    expect(path).toBe("/base/");
    expect(headers.get("Authorization")).toBe("Bearer tk_secret");
    expect(body).toMatchObject({
      topic: "kattila-alarms",
      title: "[critical] agent_down",
      priority: 5,
      tags: ["rotating_light"],
    });
    expect(body.message).toContain("c ünreachable");
    const over = resolved(row);
    await store.commit({ alarms: [over], transitions: [transition(over, { to: "resolved" })] });
    await until(() => server.got.length === 2);
    expect(server.got[1]!.body).toMatchObject({ title: "[resolved] agent_down", tags: ["white_check_mark"] });
    expect(lines.join("")).not.toContain("tk_secret");
  });
});

describe("NOTIFY_URL", () => {
  test("each scheme, with user and password", () => {
    expect(
      parseReceivers([
        "https://hooks.example.com/services/T0/B0/secret?x=1",
        "ntfy://ntfy.sh/topic",
        "ntfy+https://u:p%20w@ntfy.example.com:8443/topic",
        "alertmanager+http://am:9093",
        "alertmanager+https://u:p@am.example.com/prefix/",
      ]).map(({ kind, name, url, topic, authorization }) => [kind, name, url, topic, authorization]),
    ).toEqual([
      ["webhook", "webhook hooks.example.com", "https://hooks.example.com/services/T0/B0/secret?x=1", null, null],
      ["ntfy", "ntfy ntfy.sh", "https://ntfy.sh/", "topic", null],
      ["ntfy", "ntfy ntfy.example.com:8443", "https://ntfy.example.com:8443/", "topic", `Basic ${btoa("u:p w")}`],
      ["alertmanager", "alertmanager am:9093", "http://am:9093/api/v2/alerts", null, null],
      [
        "alertmanager",
        "alertmanager am.example.com",
        "https://am.example.com/prefix/api/v2/alerts",
        null,
        `Basic ${btoa("u:p")}`,
      ],
    ]);
  });

  test("what is wrong is refused in one line without the value", () => {
    for (const text of [
      "gopher://secret.example.com/",
      "secret",
      "ntfy://secret.example.com/",
      "ntfy://secret.example.com/a b",
      "ntfy://secret.example.com/topic?x=1",
      "https://",
      "https://u:%ZZ@secret.example.com/",
      "https://secret.example.com/#x",
    ]) {
      let message = "";
      try {
        parseReceivers([text]);
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).toStartWith("NOTIFY_URL: entry 1");
      expect(message).not.toContain("secret");
      expect(message).not.toContain("\n");
    }
  });

  test("secrets of a URL are in no log line, whatever fails", async () => {
    const { open, notifier, lines } = setup();
    const store = await open();
    const closed = receiver();
    closed.server.stop(true);
    await notifier(
      store,
      `http://user:pa55word@127.0.0.1:${closed.port}/services/t0ken?k=t0ken`,
      `http://127.0.0.1:1/services/t0ken`,
      `http://nowhere.invalid/services/t0ken`,
    );
    const row = alarm();
    await store.commit({ alarms: [row], transitions: [transition(row)] });
    await until(() => lines.filter((line) => line.includes("notification_not_sent")).length >= 6);
    expect(lines.join("")).not.toMatch(/pa55word|t0ken/);
  });
});

describe("-check-notify", () => {
  test("says of each receiver what came back", async () => {
    const good = receiver();
    const bad = receiver(() => new Response("", { status: 403 }));
    const silent = receiver(() => new Promise<Response>(() => {}));
    const results = await checkNotify(
      [`${good.url}/a`, `ntfy+http://127.0.0.1:${bad.port}/topic`, `${silent.url}/b`, "http://127.0.0.1:1/"],
      Date.now(),
      1000,
    );
    expect(results.map(({ ok }) => ok)).toEqual([true, false, false, false]);
    expect(results[0]!.answer).toBe("200 OK");
    expect(results[1]!.answer).toBe("403 Forbidden");
    expect(results[2]!.answer).toBe("no answer within 1 s");
    expect(results[3]!.answer.length).toBeGreaterThan(5);
    expect(good.got[0]!.body.text).toContain("test message");
  });
});

describeWith(["prometheus-alertmanager"], "Alertmanager", () => {
  async function alertmanager(hook: string) {
    const dir = mkdtempSync(join(tmpdir(), "kattila-alertmanager-"));
    cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
    writeFileSync(
      join(dir, "config.yml"),
      `route: { receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }
receivers: [{ name: hook, webhook_configs: [{ url: '${hook}', send_resolved: true }] }]
`,
    );
    const free = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
    const port = free.port!;
    await free.stop(true);
    const start = async () => {
      const child = Bun.spawn(
        [
          "prometheus-alertmanager",
          `--config.file=${dir}/config.yml`,
          `--storage.path=${dir}/data`,
          `--web.listen-address=127.0.0.1:${port}`,
          "--cluster.listen-address=",
        ],
        { stdout: "ignore", stderr: "ignore" },
      );
      const stop = async () => {
        child.kill();
        await child.exited;
      };
      cleanups.push(stop);
      await until(() =>
        fetch(`http://127.0.0.1:${port}/-/ready`).then(
          (r) => r.ok,
          () => false,
        ),
      );
      return { stop };
    };
    const alerts = async (): Promise<any[]> => (await fetch(`http://127.0.0.1:${port}/api/v2/alerts`)).json();
    return { start, alerts, url: `alertmanager+http://127.0.0.1:${port}`, port };
  }

  test("fires, is kept alive, rises in severity, ends; and is told again after the receiver's restart", async () => {
    const { open, notifier } = setup();
    const hook = receiver();
    const server = await alertmanager(hook.url);
    const first = await server.start();
    expect(await checkNotify([server.url])).toEqual([
      { receiver: `alertmanager 127.0.0.1:${server.port}`, ok: true, answer: "200 OK" },
    ]);
    const store = await open();
    await notifier(store, server.url);
    const row = alarm();
    await store.commit({ alarms: [row], transitions: [transition(row)] });
    await until(async () => (await server.alerts()).some((item) => item.labels.alarm_id === row.id));
    const [fired] = (await server.alerts()).filter((item) => item.labels.alarm_id === row.id);
    expect(fired.labels).toMatchObject({
      alertname: "agent_down",
      severity: "warning",
      subject: "agent:c",
      job: "kattila",
    });
    expect(fired.annotations.summary).toBe(row.message);
    expect(Date.parse(fired.endsAt)).toBeGreaterThan(Date.now() + 200_000);
    await until(() => hook.got.some((item) => item.body.alerts.some((one: any) => one.labels.alarm_id === row.id)));

    // Repeated: its end moves on.
    await until(async () => {
      const [again] = (await server.alerts()).filter((item) => item.labels.alarm_id === row.id);
      return Date.parse(again.endsAt) > Date.parse(fired.endsAt);
    });

    // The receiver forgets everything and comes back: it hears of the open alarm without any new transition.
    await first.stop();
    await Bun.sleep(300);
    await server.start();
    await until(async () => (await server.alerts()).some((item) => item.labels.alarm_id === row.id));

    const risen: AlarmRow = { ...row, severity: "critical" };
    await store.commit({
      alarms: [risen],
      transitions: [transition(risen, { from: "open", note: "warning → critical" })],
    });
    await until(async () => {
      const mine = (await server.alerts()).filter((item) => item.labels.alarm_id === row.id);
      return mine.length === 1 && mine[0].labels.severity === "critical";
    });

    const over = resolved(risen);
    await store.commit({ alarms: [over], transitions: [transition(over, { from: "open", to: "resolved" })] });
    await until(async () => !(await server.alerts()).some((item) => item.labels.alarm_id === row.id));
    await until(() =>
      hook.got.some((item) =>
        item.body.alerts.some(
          (one: any) =>
            one.labels.alarm_id === row.id && one.labels.severity === "critical" && one.status === "resolved",
        ),
      ),
    );
  }, 120_000);
});
