// A relay that is killed while it holds another's message: a real agent process, `kill -9` before and after the manager
// has stored what it forwarded. The originator keeps the report, sends it again, and it is stored once.
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, spyOn, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { AlarmsResponse } from "../../shared/api.ts";
import type { Envelope } from "../../shared/report.ts";
import { type Ground, ground, publicKeyOf } from "../manager/support.ts";
import { type Gate, gateTo, ownAgent, ownDirectory, spawnAgent, toldHost } from "./support.ts";

const RELAY_ADDRESS = "10.66.0.1";
/** Nothing listens there. */
const NOWHERE = "http://127.0.0.1:1";
const dump = [
  ["(none)", publicKeyOf(1), "51820", "off"],
  [publicKeyOf(2), "(none)", "(none)", `${RELAY_ADDRESS}/32`, "0", "0", "0", "off"],
];
/** The originator: its one peer is the relay. */
const host = toldHost({
  programs: {
    "wg show interfaces": "wg0\n",
    "wg show wg0 dump": dump.map((fields) => `${fields.join("\t")}\n`).join(""),
    "ip -j -d -s addr": "[]",
  },
});

let manager: Ground;
/** Between relay and manager. */
let gate: Gate;
let directory: ReturnType<typeof ownDirectory>;
let relay: ReturnType<typeof spawnAgent>;
let port: number;
let fetches: { mockRestore(): void };

/** Starts it, and waits until it says that it reaches the manager. */
async function startRelay(): Promise<void> {
  const state = join(directory.path, "relay");
  mkdirSync(state, { recursive: true, mode: 0o700 });
  relay = spawnAgent([], state, {
    PSK: manager.psk,
    STATE_DIR: state,
    MANAGER_URL: gate.url,
    REPORT_INTERVAL: "1",
    AGENT_LISTEN: "127.0.0.1",
    AGENT_PORT: "0",
  });
  port = await listeningPort(relay.stderr);
  for (let i = 0; i < 100; i++) {
    const answer = await fetch(`http://127.0.0.1:${port}/status/peer`).catch(() => null);
    if (answer?.ok === true && ((await answer.json()) as { manager: { reachable: boolean } }).manager.reachable) return;
    await Bun.sleep(100);
  }
  throw new Error("the relay does not get ready");
}

/** As its log says it; the rest of the log is read on. */
function listeningPort(stderr: ReadableStream<Uint8Array>): Promise<number> {
  return new Promise((resolve, reject) => {
    const decoder = new TextDecoder();
    let text = "";
    void (async () => {
      for await (const chunk of stderr) {
        text += decoder.decode(chunk, { stream: true });
        const said = /"event":"agent_started".*"port":([0-9]+)/.exec(text);
        if (said !== null) resolve(Number(said[1]));
      }
      reject(new Error(`the relay ended: ${text}`));
    })();
  });
}

beforeAll(async () => {
  manager = await ground();
  gate = gateTo(manager);
  directory = ownDirectory();
  const original = globalThis.fetch;
  // The address of the overlay is the process on loopback.
  fetches = spyOn(globalThis, "fetch").mockImplementation(((input: string | URL | Request, init?: RequestInit) => {
    const url = new URL(input instanceof Request ? input.url : input);
    return url.hostname === RELAY_ADDRESS
      ? original(`http://127.0.0.1:${port}${url.pathname}`, init)
      : original(input, init);
  }) as typeof fetch);
});
afterAll(async () => {
  fetches.mockRestore();
  relay.kill("SIGKILL");
  await gate[Symbol.asyncDispose]();
  await manager.remove();
  directory[Symbol.dispose]();
});

const stored = (agentId: string) => {
  using db = new Database(manager.databasePath, { readonly: true });
  return db.query<{ tick: number }, [string]>("SELECT tick FROM reports WHERE agent_id = ? ORDER BY id").all(agentId);
};
/** A hop with a report in it; an agent that starts registers first, by relay as well. */
function isRelayedReport(body: string): boolean {
  const outer = JSON.parse((JSON.parse(body) as Envelope).data) as { type: string; envelope: Envelope };
  return outer.type === "relay" && (JSON.parse(outer.envelope.data) as { type: string }).type === "report";
}

test.each([
  ["before it forwarded", false],
  ["after the manager stored it, before the answer", true],
])(
  "killed %s: kept, sent again by the relay that came back, stored once",
  async (_name, forwards) => {
    gate.instead = null;
    await startRelay();
    using first = await ownAgent({ PSK: manager.psk, MANAGER_URL: manager.url }, host);
    expect(await first.agent.delivery.flush(await first.agent.collect())).toBe(true);
    const { agentId } = first.agent.identity;
    // From here on the direct way is shut.
    const start = () => ownAgent({ PSK: manager.psk, STATE_DIR: first.directory, MANAGER_URL: NOWHERE }, host);
    using own = await start();

    gate.instead = async (forward) => {
      if (!isRelayedReport(gate.bodies.at(-1)!)) return forward();
      if (forwards) await forward();
      relay.kill("SIGKILL");
      await relay.exited;
      return new Response(null, { status: 502 });
    };
    expect(await own.agent.delivery.flush(await own.agent.collect())).toBe(false);
    await relay.exited;
    expect(relay.signalCode).toBe("SIGKILL");
    expect(own.agent.outbox.peek()!.report.tick).toBe(2);
    expect(stored(agentId).map(({ tick }) => tick)).toEqual(forwards ? [1, 2] : [1]);

    gate.instead = null;
    await startRelay();
    using again = await start();
    expect(await again.agent.delivery.flush(await again.agent.collect())).toBe(true);
    expect(again.agent.delivery.reached).toMatchObject({ via: "relay", address: RELAY_ADDRESS });
    expect(stored(agentId).map(({ tick }) => tick)).toEqual([1, 2, 3]);
    const { alarms } = (await (await fetch(`${manager.url}/status/alarms?state=all`)).json()) as AlarmsResponse;
    expect(alarms.filter(({ code }) => ["replay", "data_lost", "id_clone", "auth_failure"].includes(code))).toEqual([]);
    relay.kill("SIGTERM");
    await relay.exited;
  },
  60_000,
);
