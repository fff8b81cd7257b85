// Owns the running agent: a grid of ticks that neither drifts nor overlaps, the server, and an orderly end.
import type { Log } from "../shared/log.ts";
import { reason } from "../shared/log.ts";
import type { Agent } from "./agent.ts";
import { serveAgent } from "./server.ts";
import type { AgentSettings } from "./settings.ts";

/** The first report waits up to this (or a tenth of the interval): a fleet that is rolled out at once spreads a little. */
const START_JITTER_MS = 2000;
/** SIGTERM ends in-flight work within 10 s: all of it together has this long, a collection and the delivery after it. */
const SHUTDOWN_MS = 8000;
/** Of that, who asks this agent something now. */
const SERVER_SHUTDOWN_MS = 1000;

/** The first moment of the grid after `now`: missed ones are passed over, none is late by more than its own work. */
export function nextOnGrid(origin: number, intervalMs: number, now: number): number {
  return origin + Math.max(1, Math.floor((now - origin) / intervalMs) + 1) * intervalMs;
}

/** How long the first report waits, in ms. `random`: 0 to 1. */
export function startDelayMs(intervalMs: number, random: number): number {
  return random * Math.min(START_JITTER_MS, intervalMs / 10);
}

/** Runs until `ended` resolves. @throws when the port is taken. */
export async function runDaemon(
  agent: Agent,
  settings: AgentSettings,
  log: Log,
  ended: Promise<string>,
): Promise<void> {
  const startedAt = Date.now();
  let stopped = false;
  const server = serveAgent({
    listen: settings.listen,
    port: settings.port,
    allow: settings.allow,
    identity: agent.identity,
    outbox: agent.outbox,
    psk: agent.psk,
    delivery: agent.delivery,
    relay: agent.relay,
    sections: agent.sections,
    hostname: agent.hostname,
    reset: agent.reset,
    startedAt,
    log,
  });
  log.info("agent_started", {
    agent_id: agent.identity.agentId,
    port: server.port,
    interval_s: settings.intervalSeconds,
    waiting: agent.outbox.length,
  });
  await agent.psk.start();

  const intervalMs = settings.intervalSeconds * 1000;
  let wake: (() => void) | null = null;
  const sleep = (milliseconds: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  const loop = (async () => {
    await sleep(startDelayMs(intervalMs, Math.random()));
    const origin = performance.now();
    while (!stopped) {
      try {
        // The delivery goes on beside the grid: a slow manager does not delay the next collection.
        const entry = await agent.collect();
        // What collecting left behind is given back at once: a few milliseconds of CPU for 2 MB of a router's memory.
        Bun.gc(true);
        void agent.delivery
          .offer(entry)
          .catch((error: unknown) => log.error("report_not_kept", { reason: reason(error) }));
        if (!agent.delivery.isReaching()) void agent.discovery.round(agent.sections()!);
      } catch (error) {
        log.error("collection_failed", { reason: reason(error) });
      }
      if (!stopped) await sleep(nextOnGrid(origin, intervalMs, performance.now()) - performance.now());
    }
  })();

  const signal = await ended;
  log.info("agent_stopping", { signal });
  stopped = true;
  (wake as (() => void) | null)?.();
  agent.psk.stop();
  const deadline = performance.now() + SHUTDOWN_MS;
  const left = () => Math.max(0, deadline - performance.now());
  await Promise.race([server.stop(false), Bun.sleep(SERVER_SHUTDOWN_MS)]);
  await Promise.race([loop, Bun.sleep(left())]);
  await agent.delivery.stop(left());
  await server.stop(true);
  log.info("agent_stopped", { waiting: agent.outbox.length });
}
