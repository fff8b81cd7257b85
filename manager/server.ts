// Owns the running manager: it opens everything in order, serves, keeps the clocks, and closes everything in order.
import { makeStateDirectory } from "../shared/files.ts";
import { listening } from "../shared/listen.ts";
import { type Log, reason } from "../shared/log.ts";
import { canonicalAddress } from "../shared/net.ts";
import { PskSource } from "../shared/psk_source.ts";
import { join } from "node:path";
import { NO_BODY_LIMIT } from "../shared/limits.ts";
import { VERSION } from "../shared/version.ts";
import { Access } from "./access.ts";
import { createApp } from "./app.ts";
import { AuthFailures } from "./auth_failures.ts";
import { Fleet } from "./fleet.ts";
import { Ingest } from "./ingest.ts";
import { readTls } from "./tls.ts";
import { Live } from "./live.ts";
import { createMetrics } from "./metrics.ts";
import { Notifier } from "./notify.ts";
import { loadAdminToken, loadManagerKey } from "./secrets.ts";
import type { ManagerSettings } from "./settings.ts";
import { openStore } from "./store/sqlite.ts";
import { Stream } from "./stream.ts";
import { uiAssets } from "./ui/assets.ts";

/** How often silence, holds and quiet periods are looked at. */
const CLOCK_MS = 1000;
/** A look that comes so much too late: the machine stood still, and what agents sent meanwhile is still to be read. */
const LATE_LOOK_MS = 1000;
/** Between two rounds of packing and pruning, when the last said that nothing was left; and when more is waiting. */
const MAINTENANCE_IDLE_MS = 30_000;
const MAINTENANCE_BUSY_MS = 250;
/** SIGTERM ends in-flight work within 10 s (issue 2): requests get this long, then their sockets are cut. */
const SHUTDOWN_MS = 7000;
/** A quiet connection is closed after this (5-hardening.md: within 20 s). */
const IDLE_TIMEOUT_S = 15;

export type ManagerOptions = {
  /** The clock of history; the demo begins it in the past and runs it faster until it has caught up. */
  now?: () => number;
};

export type RunningManager = {
  url: string;
  port: number;
  pskCreated: boolean;
  adminTokenPath: string | null;
  adminTokenCreated: boolean;
  /** Looks at the clock now: silence, holds, quiet periods. It does so by itself every second. */
  advance(): Promise<void>;
  stop(): Promise<void>;
};

/** @throws StateError, StoreError, SettingError with one line for the operator; whatever was opened is closed. */
export async function startManager(
  settings: ManagerSettings,
  log: Log,
  options: ManagerOptions = {},
): Promise<RunningManager> {
  const now = options.now ?? Date.now;
  const startedAt = now();
  const beganAt = performance.now();
  const tls = settings.tls === null ? null : readTls(settings.tls);
  makeStateDirectory(settings.stateDirectory);
  const store = await openStore(settings.databasePath, { log });
  const closers: (() => void | Promise<void>)[] = [() => store.close()];
  const closeAll = async () => {
    for (const close of closers.reverse()) await close();
  };
  try {
    const key = await loadManagerKey(settings.stateDirectory, log, startedAt);
    const admin =
      settings.adminToken === null
        ? loadAdminToken(settings.stateDirectory, log)
        : { token: settings.adminToken, path: null, created: false };
    const psk = new PskSource({
      origin: settings.psk,
      ringPath: join(settings.stateDirectory, "manager_psk_ring"),
      log,
    });
    await psk.start();
    closers.push(() => psk.stop());

    const stream = new Stream();
    const authFailures = new AuthFailures();
    const oldPskUsers = new Map<string, number>();
    const live = new Live(stream, () => fleet, now);
    const fleet: Fleet = new Fleet(store, startedAt, log, (published) => live.publish(published), now);
    await fleet.load(startedAt);
    const ingest = new Ingest({
      fleet,
      store,
      psk,
      key,
      authFailures,
      onOldPsk: (agentId, at) => oldPskUsers.set(agentId, at),
      now,
    });
    const access = new Access(
      {
        adminToken: admin.token,
        readToken: settings.readToken,
        localRead: settings.localRead,
        trustedProxies: settings.trustedProxies,
      },
      await store.meta("sessions"),
    );
    const app = createApp({
      fleet,
      store,
      ingest,
      access,
      psk,
      stream,
      log,
      admin: {
        fleet,
        store,
        now,
        backupPath: (now) =>
          `${settings.databasePath}.before-reset-${new Date(now).toISOString().replace(/[:.]/g, "-")}`,
      },
      version: VERSION,
      startedAt,
      assets: await uiAssets(),
      now,
      metrics: createMetrics({ fleet, store, ingest, psk, stream, authFailures, startedAt, version: VERSION }),
    });

    const serve = (hostname: string) =>
      Bun.serve({
        hostname,
        port: settings.port,
        development: false,
        // Else Bun shares the port with every program that does the same: of two, each would get some of the messages.
        reusePort: false,
        idleTimeout: IDLE_TIMEOUT_S,
        maxRequestBodySize: NO_BODY_LIMIT,
        ...(tls === null ? {} : { tls }),
        fetch: (request, server) =>
          app.fetch(request, {
            remote: remoteAddress(server.requestIP(request)?.address ?? ""),
            tls: tls !== null,
            keepOpen: (open: Request) => server.timeout(open, 0),
          }),
        error: (error) => {
          log.error("request_failed", { reason: reason(error) });
          return new Response('{"error":"internal","message":"this is a bug: the log has the reason"}', {
            status: 500,
            headers: { "Content-Type": "application/json" },
          });
        },
      });
    const server = listening("MANAGER", settings.listen, settings.port, serve);

    // --- clocks
    let stopped = false;
    const advance = () =>
      fleet
        .mutate((turn) => {
          fleet.takeTopology(fleet.topology.advance(turn.now), turn);
          const failures = authFailures.drain();
          if (failures.length > 0) fleet.takeAlarms(fleet.alarms.onSecurity(failures, turn.now), turn);
          for (const id of oldPskUsers.keys()) if (!fleet.agents.has(id)) oldPskUsers.delete(id);
          fleet.takeAlarms(fleet.alarms.onPsk(psk.status, oldPskUsers, turn.now), turn);
          fleet.takeAlarms(fleet.alarms.onTime(fleet.topology, turn.now), turn);
        })
        .catch(() => {}); // said in the log by the fleet; the next second tries again
    let clockBusy = false;
    let dueAt = performance.now() + CLOCK_MS;
    let passedOver = false;
    const clock = setInterval(() => {
      // Never two in a row: a machine that is always late has its looks, too.
      passedOver = performance.now() > dueAt + LATE_LOOK_MS && !passedOver;
      dueAt = performance.now() + CLOCK_MS;
      if (clockBusy || passedOver) return;
      clockBusy = true;
      void advance().finally(() => (clockBusy = false));
    }, CLOCK_MS);
    let maintenance: Timer | null = null;
    const maintain = async () => {
      let more = false;
      try {
        more = await store.maintain(now(), {
          reportsMs: settings.retentionDays * 86_400_000,
          eventsMs: settings.eventRetentionDays * 86_400_000,
        });
      } catch (error) {
        log.error("maintenance_failed", { reason: reason(error) });
      }
      if (!stopped) maintenance = setTimeout(() => void maintain(), more ? MAINTENANCE_BUSY_MS : MAINTENANCE_IDLE_MS);
    };
    maintenance = setTimeout(() => void maintain(), MAINTENANCE_BUSY_MS);
    const notifier = new Notifier({ urls: settings.notifyUrls, store, log, now });
    await notifier.start();

    log.info("manager_started", {
      version: VERSION,
      url: server.url.href,
      database: settings.databasePath,
      agents: fleet.agents.size,
      psk: psk.status.origin,
      manager_key: key.publicKey,
      started_in_ms: Math.round(performance.now() - beganAt),
    });
    return {
      url: server.url.href,
      port: server.port!,
      pskCreated: psk.created,
      adminTokenPath: admin.path,
      adminTokenCreated: admin.created,
      advance,
      stop: async () => {
        if (stopped) return;
        stopped = true;
        clearInterval(clock);
        if (maintenance !== null) clearTimeout(maintenance);
        live.stop();
        stream.close();
        await Promise.race([server.stop(), Bun.sleep(SHUTDOWN_MS)]);
        await server.stop(true);
        await notifier.stop();
        await fleet.drained();
        await closeAll();
        log.info("manager_stopped", {});
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** `::ffff:127.0.0.1` is 127.0.0.1; a link-local address loses its zone. */
function remoteAddress(address: string): string {
  return canonicalAddress(address.split("%")[0]!) ?? address;
}
