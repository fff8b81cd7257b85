// Owns a manager under a flood: strangers send unsigned messages as fast as they can, and whoever belongs to the fleet
// goes on reporting beside them. What came of it is measured; `floodFaults` says what of it must not be.
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { residentMegabytes } from "../bench/measure.ts";
import { registered, type Spawned } from "../manager/support.ts";

const AGENTS = 20;
/** Between two reports of an agent. */
const REPORT_EVERY_MS = 250;
/** As the agent's own deadline of a direct try (1-protocol.md, Relay). */
const AGENT_DEADLINE_MS = 5000;
/** What the manager may hold on top while it is flooded: bodies under way, and garbage not yet taken. */
const GROWTH_LIMIT_MB = 192;
const LOG_LIMIT_LINES = 100;

export type FloodFigures = {
  /** Messages a second that it tried to send. */
  rate: number;
  sent: number;
  seconds: number;
  bytes: number;
  /** By status. */
  answers: Record<string, number>;
  /** The fleet's reports, and those of them that were answered 200: in time, and at all. */
  tried: number;
  accepted: number;
  answered: number;
  stored: number;
  p50Ms: number;
  worstMs: number;
  residentMegabytes: { before: number; peak: number; after: number };
  logLines: number;
};

/** `rate` unsigned messages a second for `seconds` against a manager that runs with its database at `databasePath`. */
export async function flood(
  manager: Spawned,
  databasePath: string,
  seconds: number,
  rate: number,
): Promise<FloodFigures> {
  const storedReports = () => {
    using database = new Database(databasePath, { readonly: true });
    return (database.query("SELECT count(*) AS n FROM reports").get() as { n: number }).n;
  };
  const agents = await Promise.all(Array.from({ length: AGENTS }, (_, i) => registered(manager, `host-${i}`)));
  const rowsBefore = storedReports();
  const before = residentMegabytes(manager.pid);
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, residentMegabytes(manager.pid))), 100);
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "flood_child.ts"), String(manager.port), String(seconds), String(rate)],
    {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
      timeout: (seconds + 26) * 1000,
      killSignal: "SIGKILL",
    },
  );
  let flooding = true;
  const line = new Response(child.stdout).text().finally(() => (flooding = false));
  await Bun.sleep(300);
  let tried = 0;
  let accepted = 0;
  let answered = 0;
  const took: number[] = [];
  await Promise.all(
    agents.map(async (agent) => {
      while (flooding) {
        tried++;
        const startedAt = performance.now();
        const answer = await agent.send().catch(() => null);
        const ms = performance.now() - startedAt;
        took.push(ms);
        if (answer?.status === 200) answered++;
        if (answer?.status === 200 && ms < AGENT_DEADLINE_MS) accepted++;
        await Bun.sleep(REPORT_EVERY_MS);
      }
    }),
  );
  clearInterval(watch);
  took.sort((a, b) => a - b);
  return {
    ...(JSON.parse(await line) as Pick<FloodFigures, "sent" | "seconds" | "bytes" | "answers">),
    rate,
    tried,
    accepted,
    answered,
    stored: storedReports() - rowsBefore,
    p50Ms: took[took.length >> 1] ?? 0,
    worstMs: took.at(-1) ?? 0,
    residentMegabytes: { before, peak, after: residentMegabytes(manager.pid) },
    logLines: manager.stderr().split("\n").length,
  };
}

/** What must not be, in words; empty when all is well. Of the rate a tenth will do: the rest is the machine's. */
export function floodFaults(figures: FloodFigures): string[] {
  const { rate, sent, seconds, answers, tried, accepted, answered, stored, logLines } = figures;
  const memory = figures.residentMegabytes;
  const growth = memory.peak - memory.before;
  return [
    ...(sent >= (rate * seconds) / 10 ? [] : [`${Math.round(sent / seconds)} messages a second are no flood`]),
    ...(tried >= seconds * AGENTS ? [] : [`${tried} reports in ${Math.round(seconds)} s say nothing`]),
    ...(answers["401"] === sent ? [] : [`of ${sent} unsigned messages, ${JSON.stringify(answers)} were answered`]),
    ...(accepted >= 0.99 * tried ? [] : [`${accepted} of ${tried} reports taken: under 99 %`]),
    // What strangers send is not kept, neither as a row, nor in memory, nor in the log.
    ...(answered <= stored && stored <= tried ? [] : [`${answered} reports taken, ${stored} stored`]),
    ...(growth < GROWTH_LIMIT_MB ? [] : [`memory grew by ${growth.toFixed(0)} MB, the limit is ${GROWTH_LIMIT_MB}`]),
    ...(logLines < LOG_LIMIT_LINES ? [] : [`${logLines} lines in the log`]),
  ];
}

export function describeFlood(figures: FloodFigures): string {
  const { sent, seconds, bytes, tried, accepted, p50Ms, worstMs, residentMegabytes: memory } = figures;
  return (
    `flood of ${Math.round(sent / seconds)} unsigned messages a second for ${seconds.toFixed(0)} s, ${Math.round(bytes / 1e6)} MB in all: ` +
    `${accepted} of ${tried} reports taken, p50 ${p50Ms.toFixed(0)} ms, worst ${worstMs.toFixed(0)} ms; ` +
    `RSS ${memory.before.toFixed(0)} MB before, ${memory.peak.toFixed(0)} MB at most, ${memory.after.toFixed(0)} MB after`
  );
}
