// Owns the joined agent: identity, key source, outbox, delivery and relay over one state directory; and one collected
// report. The daemon and the single shots stand on it.
import { lstatSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeStateDirectory, StateError, tryLock, type Lock } from "../shared/files.ts";
import type { Log } from "../shared/log.ts";
import { PskSource } from "../shared/psk_source.ts";
import type { Report } from "../shared/report.ts";
import { VERSION } from "../shared/version.ts";
import { short } from "./collect/section.ts";
import { bootId, uptimeSeconds } from "./collect/system.ts";
import { Delivery } from "./deliver.ts";
import { Discovery } from "./discover.ts";
import type { Host } from "./host.ts";
import { Identity } from "./identity.ts";
import { type Entry, Outbox } from "./outbox.ts";
import { Relay } from "./relay.ts";
import { assemble, collect, type Sections } from "./report.ts";
import type { AgentSettings } from "./settings.ts";

export type Agent = {
  identity: Identity;
  outbox: Outbox;
  psk: PskSource;
  delivery: Delivery;
  discovery: Discovery;
  relay: Relay;
  /** The newest collected sections; null before the first. */
  sections(): Sections | null;
  hostname(): string;
  /** Collects, and takes a tick: a report before it is stamped. */
  collect(): Promise<Entry>;
  /** Wipes identity, key, tick and outbox, and takes a new id. */
  reset(): Promise<void>;
};

/** The lock of the one daemon of a state directory; null: another has it. @throws StateError, SettingError */
export function lockState(directory: string): Lock | null {
  makeStateDirectory(directory);
  return tryLock(join(directory, "agent.lock"));
}

/** @throws StateError, SettingError with one line for the operator. */
export async function openAgent(
  settings: AgentSettings,
  host: Host,
  log: Log,
  options: { machineIdPath?: string } = {},
): Promise<Agent> {
  const { stateDirectory } = settings;
  makeStateDirectory(stateDirectory);
  const outboxPath = join(stateDirectory, "agent_outbox");
  if (lstatSync(outboxPath, { throwIfNoEntry: false })?.isDirectory() === false)
    throw new StateError(`${outboxPath} is not a directory: remove it`);
  const outbox = new Outbox(outboxPath, log);
  const identity = await Identity.open({
    directory: stateDirectory,
    fixedManagerKey: settings.managerKey,
    log,
    // Before the new identity is there, for a kill may come any time.
    onMoved: () => outbox.clear(),
    ...options,
  });
  const psk = new PskSource({ origin: settings.psk, ringPath: join(stateDirectory, "agent_psk_ring"), log });
  let sections: Sections | null = null;
  const kernel = (): Pick<Report, "wireguard" | "interfaces"> => sections ?? { wireguard: null, interfaces: null };
  const hostname = () => sections?.system?.hostname ?? process.env["HOSTNAME"] ?? "unknown";
  const discovery = new Discovery({ port: settings.port, ownId: () => identity.agentId });
  const uptime = async () => {
    const [boot, seconds] = await Promise.all([bootId(host), uptimeSeconds(host)]);
    return { bootId: boot, uptimeMs: seconds === null ? null : Math.round(seconds * 1000) };
  };
  const delivery = new Delivery({
    identity,
    outbox,
    psk,
    discovery,
    managerUrls: settings.managerUrls,
    tlsCa: settings.tlsCa,
    relayPort: settings.port,
    intervalSeconds: settings.intervalSeconds,
    hostname,
    kernel,
    uptime,
    log,
  });
  const relay = new Relay({
    identity,
    psk,
    delivery,
    discovery,
    tlsCa: settings.tlsCa,
    relayPort: settings.port,
    kernel,
    log,
  });
  return {
    identity,
    outbox,
    psk,
    delivery,
    discovery,
    relay,
    sections: () => sections,
    hostname,
    async collect() {
      sections = await collect(host);
      const { bootId: boot, uptimeMs } = await uptime();
      const collectedAt = Date.now();
      const tick = await identity.nextTick();
      const report = assemble(
        {
          tick,
          collected_at: collectedAt,
          boot_id: boot,
          agent_version: VERSION,
          interval_s: settings.intervalSeconds,
          dropped: outbox.dropped,
          delivery: {
            outbox_reports: outbox.length,
            outbox_bytes: outbox.bytes,
            outbox_limit_bytes: outbox.limit,
            relay_refused: { ...relay.refused },
            psk_error: psk.status.error === null ? null : short(psk.status.error.message),
          },
        },
        sections,
      );
      return { report, uptime_ms: uptimeMs };
    },
    async reset() {
      // First, for a kill may come any time; and again, for what was under way may have come back into it since.
      outbox.clear();
      await identity.renew();
      delivery.forget();
      outbox.clear();
    },
  };
}

/** `-reset` without a daemon: removes what outbox and identity are. The next start takes a new id. */
export function wipeState(directory: string): void {
  // The outbox first: after a kill in between, the next identity would send it as its own.
  for (const name of ["agent_outbox", "agent_key", "agent_tick", "agent_id.txt"])
    rmSync(join(directory, name), { recursive: true, force: true });
}
