// Owns the agent's single shots that need its state or the network: dump, once, discover, reset. They print to stdout and
// return the exit code.
import { resolve } from "node:path";
import { newNonce, seal } from "../shared/envelope.ts";
import { writePrivate } from "../shared/files.ts";
import type { Log } from "../shared/log.ts";
import type { Print } from "../shared/program.ts";
import { shownText } from "../shared/text.ts";
import { VERSION } from "../shared/version.ts";
import { lockState, openAgent, wipeState } from "./agent.ts";
import { type Found, PROBES_BY_HAND } from "./discover.ts";
import { createHost } from "./host.ts";
import { Identity } from "./identity.ts";
import { collect, type Sections } from "./report.ts";
import type { AgentSettings } from "./settings.ts";
import { exchange } from "./wire.ts";

/** `-dump FILE`: exactly the JSON that would be sent. It takes a tick of its own, as every report does. */
export async function dumpCommand(
  settings: AgentSettings,
  path: string,
  log: Log,
  print: Print,
  complain: Print,
): Promise<number> {
  const agent = await openAgent(settings, createHost(), log);
  await agent.psk.once();
  if (agent.psk.current === null) {
    complain(agent.psk.status.error?.message ?? "there is no PSK to sign with");
    return 1;
  }
  const target = resolve(path);
  writePrivate(target, `${JSON.stringify(await agent.delivery.sealed(await agent.collect()))}\n`);
  print(`the signed report is in ${target}`);
  return 0;
}

/** `-once`: what waits in the outbox and one report. */
export async function onceCommand(settings: AgentSettings, log: Log, print: Print, complain: Print): Promise<number> {
  const lock = lockState(settings.stateDirectory);
  if (lock === null) {
    complain(`an agent runs on ${settings.stateDirectory}: it sends by itself; end it first, or set STATE_DIR`);
    return 1;
  }
  try {
    return await sendOnce(settings, log, print, complain);
  } finally {
    lock.release();
  }
}

async function sendOnce(settings: AgentSettings, log: Log, print: Print, complain: Print): Promise<number> {
  const agent = await openAgent(settings, createHost(), log);
  await agent.psk.once();
  if (agent.psk.current === null) {
    complain(agent.psk.status.error?.message ?? "there is no PSK to sign with");
    return 1;
  }
  const waited = agent.outbox.length;
  const delivered = await agent.delivery.flush(await agent.collect());
  const answer = agent.delivery.lastAnswer;
  // Nothing waits either when the manager asked for a new identity, or refused the report for good.
  if (delivered && answer?.action === "delivered") {
    print(
      `delivered ${waited + 1} ${waited === 0 ? "report" : "reports"} as ${agent.identity.agentId}, ${answer.via}: ${answer.status} ${answer.code} (${answer.message})`,
    );
    return 0;
  }
  const why =
    answer === null
      ? "nothing was sent"
      : answer.status === 0
        ? answer.message
        : `${answer.status} ${answer.code}: ${answer.message}`;
  // It may be anybody's who listens there: a line of it is enough.
  complain(`not delivered: ${shownText(why.slice(0, 300), "?")}; ${agent.outbox.length} wait in the outbox`);
  return 1;
}

function table(found: readonly Found[]): string {
  const rows = [
    ["ADDRESS", "HOSTNAME", "ANSWER", "MANAGER", "VERSION", "AGENT"],
    ...found.map((peer) => [
      peer.address,
      peer.hostname,
      `${peer.roundTripMs.toFixed(0)} ms`,
      peer.hops === null
        ? "not reached"
        : peer.hops === 0
          ? "direct"
          : `${peer.hops} ${peer.hops === 1 ? "relay" : "relays"}`,
      peer.version,
      peer.agentId,
    ]),
  ].map((row) => row.map((cell) => shownText(cell, "?")));
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** Why there was nobody to ask, where that is so: addresses come from WireGuard alone. */
function nobodyAsked({ wireguard, collectors }: Sections): string {
  const status = collectors["wireguard"] ?? "ok";
  if (status !== "ok") return `: WireGuard could not be read whole (${shownText(status, "?")})`;
  return wireguard?.length === 0 ? ": this host has no WireGuard interface" : "";
}

/** `-discover`: who answers, how fast, and which of them reach the manager. It takes no lock and changes nothing. */
export async function discoverCommand(
  settings: AgentSettings,
  json: boolean,
  _log: Log,
  print: Print,
): Promise<number> {
  const { Discovery } = await import("./discover.ts");
  const sections = await collect(createHost());
  const discovery = new Discovery({ port: settings.port, ownId: () => "" });
  await discovery.round(sections, PROBES_BY_HAND);
  const found = discovery.all().sort((a, b) => (a.hops ?? 99) - (b.hops ?? 99) || a.roundTripMs - b.roundTripMs);
  if (json) {
    print(
      JSON.stringify(
        found.map((peer) => ({
          address: peer.address,
          agent_id: peer.agentId,
          hostname: peer.hostname,
          version: peer.version,
          round_trip_ms: Math.round(peer.roundTripMs),
          manager: { reachable: peer.hops !== null, hops: peer.hops },
          latest_handshake_at: peer.handshakeAt,
        })),
        null,
        2,
      ),
    );
  } else if (found.length === 0) print(`no agent answered on port ${settings.port}${nobodyAsked(sections)}`);
  else print(table(found));
  return 0;
}

/** `-reset`: by the daemon where one runs, else on its files. */
export async function resetCommand(settings: AgentSettings, log: Log, print: Print, complain: Print): Promise<number> {
  const lock = lockState(settings.stateDirectory);
  if (lock !== null) {
    wipeState(settings.stateDirectory);
    const identity = await Identity.open({
      directory: settings.stateDirectory,
      fixedManagerKey: settings.managerKey,
      log,
    });
    print(`this agent is ${identity.agentId} now`);
    lock.release();
    return 0;
  }
  const agent = await openAgent(settings, createHost(), log);
  await agent.psk.once();
  if (agent.psk.current === null) {
    complain("an agent runs on this state, and without its PSK it cannot be told: stop it, then try again");
    return 1;
  }
  const data = JSON.stringify({
    v: 1,
    type: "reset",
    agent_id: agent.identity.agentId,
    nonce: newNonce(),
    sent_at: Date.now(),
  });
  const envelope = await seal(data, agent.psk.current, null);
  const answer = await exchange(`http://127.0.0.1:${settings.port}/status/reset`, {
    body: JSON.stringify(envelope),
    timeoutMs: 5000,
  });
  if (!answer.ok || answer.status !== 200) {
    complain(`the running agent did not take the reset: ${answer.ok ? `status ${answer.status}` : answer.reason}`);
    return 1;
  }
  const renewed = await Identity.open({
    directory: settings.stateDirectory,
    fixedManagerKey: settings.managerKey,
    log,
  });
  print(`the running agent is ${renewed.agentId} now (version ${VERSION})`);
  return 0;
}
