// Owns the recorder: plays every situation of test/lab/situations.ts on real hosts, all at once, samples their ends
// with `wg` every ten seconds, and writes one file each. Private and preshared keys are dropped as they are read.
//
//   bun scripts/lab-record.ts [--seconds 540] [--only name,name] [--out test/recordings]
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Host } from "../test/lab/host.ts";
import { createLab } from "../test/lab/lab.ts";
import { type Situation, SITUATIONS, type Stage } from "../test/lab/situations.ts";
import { parseDump } from "../test/lab/wireguard.ts";
import type { RecordedEnd, Recording, Sample } from "../test/recordings/recordings.ts";
import { parseEndpoint } from "../shared/net.ts";
import { hint, LAB_NEEDS, missing } from "../test/support/needs.ts";

const SAMPLE_INTERVAL_MS = 10_000;
const INTERFACE = "wg0";
/** Ends are sampled up to this long after a full ten seconds, each at its own place: two agents never read at once. */
const SPREAD_MS = 4_000;

type End = { host: Host; recorded: RecordedEnd };

/** The interface by which packets to an endpoint leave; null: no endpoint, or no way. */
async function routeTo(host: Host, endpoint: string | null): Promise<string | null> {
  const address = endpoint === null ? undefined : parseEndpoint(endpoint)?.address;
  if (address === undefined) return null;
  const route = await host.run(["ip", "-j", "route", "get", address], { check: false });
  return route.exitCode === 0 ? (JSON.parse(route.stdout) as [{ dev: string }])[0].dev : null;
}

async function sample({ host }: End, startedAt: number, keys: Map<string, string>): Promise<Sample | null> {
  if (!host.alive) return null;
  try {
    const at = Date.now() - startedAt;
    const dump = await host.run(["wg", "show", INTERFACE, "dump"], { check: false, timeoutMs: 5_000 });
    const up = host.isUp(INTERFACE);
    if (dump.exitCode !== 0 || up === null) return [at, null];
    const { publicKey, port, peers } = parseDump(dump.stdout);
    const label = (key: string) => {
      const found = keys.get(key);
      if (found === undefined) throw new Error(`${host.name} shows a key that the situation did not name: ${key}`);
      return found;
    };
    return [
      at,
      up,
      label(publicKey),
      port,
      peers.map((p) => [label(p.publicKey), p.endpoint, p.allowedIps, p.handshake, p.rxBytes, p.txBytes, p.keepalive]),
      await routeTo(host, peers[0]?.endpoint ?? null),
    ];
  } catch (error) {
    if (!host.alive) return null; // it lost power while it was asked
    throw error;
  }
}

async function record(situation: Situation, seconds: number): Promise<Recording> {
  await using lab = await createLab(situation.name);
  const keys = new Map<string, string>();
  const ends: End[] = [];
  const plan: { t: number; what: string; action: () => Promise<unknown> }[] = [];
  let startedAt = 0;
  const now = () => (startedAt === 0 ? 0 : Date.now() - startedAt);
  const stage: Stage = {
    lab,
    key: (label, publicKey) => void keys.set(publicKey, label),
    at: (t, what, action) => void plan.push({ t, what, action }),
    end: (host) => {
      const same = ends.find((end) => end.host.name === host.name);
      if (same !== undefined) {
        same.host = host;
        return;
      }
      ends.push({
        host,
        recorded: {
          host: host.name,
          interface: INTERFACE,
          underlay: [[0, [`${host.address}/24`, `${host.nics[0]!.address6}/64`]]],
          overlay: host.wireguards.get(INTERFACE)!.addresses,
          samples: [],
        },
      });
    },
    readdressed: (host, address) =>
      void ends.find((end) => end.host === host)!.recorded.underlay.push([now(), [`${address}/24`]]),
  };
  await situation.play(stage);
  startedAt = Date.now();
  const timeline: Recording["timeline"] = [];
  const until = (ms: number) => Bun.sleep(Math.max(0, startedAt + ms - Date.now()));

  const acting = (async () => {
    for (const { t, what, action } of plan.toSorted((x, y) => x.t - y.t)) {
      if (t >= seconds) break;
      await until(t * 1000);
      timeline.push({ t_s: Math.round(now() / 100) / 10, what });
      await action();
    }
  })();
  const sampling = ends.map(async (end, place) => {
    const offset = Math.round(((place + 0.5) * SPREAD_MS) / ends.length);
    for (let slot = 0; slot * SAMPLE_INTERVAL_MS + offset < seconds * 1000; slot++) {
      await until(slot * SAMPLE_INTERVAL_MS + offset);
      const row = await sample(end, startedAt, keys);
      if (row !== null) end.recorded.samples.push(row);
    }
  });
  await Promise.all([acting, ...sampling]);
  return {
    name: situation.name,
    description: situation.description,
    started_at: startedAt,
    duration_s: seconds,
    keys: Object.fromEntries([...keys].map(([publicKey, label]) => [label, publicKey])),
    timeline,
    ends: ends.map((end) => end.recorded),
  };
}

/** The file of a recording: see test/recordings/README.md. */
function format(recording: Recording): string {
  const header = { ...recording, ends: recording.ends.map(({ samples: _, ...end }) => end) };
  const rows = recording.ends.flatMap((end) => end.samples.map((row) => [end.host, row]));
  return `${[header, ...rows].map((line) => JSON.stringify(line)).join("\n")}\n`;
}

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "540" },
    only: { type: "string" },
    out: { type: "string", default: join(import.meta.dir, "../test/recordings") },
  },
});
const lacking = missing(LAB_NEEDS);
if (lacking.length > 0) {
  console.error(`needs ${lacking.join(", ")}: ${hint(lacking)}`);
  process.exit(1);
}
// Each wireguard-go takes one; as the kernel comes, a user has 128. Put back at the end.
const INOTIFY_LIMIT = "/proc/sys/fs/inotify/max_user_instances";
const inotifyLimit = readFileSync(INOTIFY_LIMIT, "utf8");
writeFileSync(INOTIFY_LIMIT, String(Math.max(1024, Number(inotifyLimit))));
process.on("exit", () => writeFileSync(INOTIFY_LIMIT, inotifyLimit));
const names = values.only?.split(",");
const chosen = SITUATIONS.filter((situation) => names === undefined || names.includes(situation.name));
const seconds = Number(values.seconds);
console.log(`${chosen.length} situations, ${seconds} s each, all at once`);
const running: Promise<boolean>[] = [];
for (const situation of chosen) {
  running.push(
    record(situation, seconds).then(
      (recording) => {
        writeFileSync(join(values.out, `${situation.name}.jsonl`), format(recording));
        return true;
      },
      (error: unknown) => {
        console.error(`${situation.name}: ${error instanceof Error ? error.message : String(error)}`);
        return false;
      },
    ),
  );
  // Started one after the other: a machine of two cores makes about ten hosts a second.
  await Bun.sleep(300);
}
const done = (await Promise.all(running)).filter(Boolean).length;
console.log(`${done} of ${chosen.length} recorded in ${values.out}`);
process.exit(done === chosen.length ? 0 : 1);
