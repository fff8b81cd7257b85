// What alarms make of a boot that changes: a host that starts, whose agent may speak before the rest of it is up, or another
// host with the same id, of which nothing is told before `id_clone`. Tables of timed steps (steps.ts).
import { expect, setDefaultTimeout, test } from "bun:test";
import type { TopologyEdge } from "../../shared/api.ts";
import { type Step, type Table, tables } from "./steps.ts";
import { card, key, peer, World } from "./world.ts";

// What is waited for has limits of its own; a busy machine is no failure.
setDefaultTimeout(60_000);

const CLONE = ["id_clone open critical"];

function loseWg0(world: World): void {
  const report = world.reports.get("a")!;
  report.wireguard = [];
  report.interfaces = report.interfaces!.filter((item) => item.name !== "wg0");
  report.routes = [];
}

/** a starts anew: its next reports are of another boot. `started` is what they show. */
function reboots(boot: string, started: (world: World) => void = () => {}) {
  return (world: World) => {
    world.reports.get("a")!.boot_id = boot;
    started(world);
  };
}

/** wg0 as it was at the world's beginning. */
function bringBack(world: World): void {
  const { interfaces, routes, wireguard } = new World(world.agents, { restarts: false }).reports.get("a")!;
  Object.assign(world.reports.get("a")!, { interfaces, routes, wireguard });
}

tables("a host starts", [
  {
    name: "its agent before its tunnels: nothing",
    steps: [
      { act: reboots("boot-2", loseWg0), pass: 30, open: [] },
      { act: bringBack, pass: 700, open: [], told: [] },
    ],
  },
  {
    name: "and its tunnels stay away: told with the report that comes an interval and a half after the first",
    steps: [
      { act: reboots("boot-2", loseWg0), pass: 30, open: [] },
      { pass: 59, open: [], told: [] },
      {
        pass: 1,
        open: ["iface_gone interface:a/wg0"],
        told: ["iface_gone open critical"],
        // Since the first report that showed it.
        check: (world) => expect(world.row("iface_gone").since_at).toBe(world.now - 60_000),
      },
      { act: bringBack, pass: 30, open: [], told: ["iface_gone open critical", "iface_gone resolved critical"] },
    ],
  },
  {
    name: "what was lost before is back for good after the same time, not at the first word",
    steps: [
      { act: loseWg0, pass: 30, open: ["iface_gone interface:a/wg0"] },
      { act: reboots("boot-2", bringBack), pass: 89, open: ["iface_gone interface:a/wg0"] },
      { pass: 1, open: [], told: ["iface_gone open critical", "iface_gone resolved critical"] },
    ],
  },
  {
    name: "twice within minutes: each time it has as long",
    steps: [
      { act: reboots("boot-2", loseWg0), pass: 30 },
      { act: bringBack, pass: 120, open: [] },
      { act: reboots("boot-3", loseWg0), pass: 30, open: [] },
      { act: bringBack, pass: 60, open: [], told: [] },
    ],
  },
  {
    name: "again and again, before it has settled: what is lost is told all the same",
    steps: [
      { act: reboots("boot-2", loseWg0), pass: 30, open: [] },
      { act: reboots("boot-3"), pass: 30, open: [] },
      { act: reboots("boot-4"), pass: 30, open: ["iface_gone interface:a/wg0"] },
    ],
  },
  {
    name: "its clock is wrong until it is set: nothing",
    steps: [
      { act: (world) => (reboots("boot-2")(world), void world.skewMs.set("a", -400_000)), pass: 30, open: [] },
      { act: (world) => void world.skewMs.delete("a"), pass: 120, open: [], told: [] },
    ],
  },
]);

type Copy = {
  /** What of the copy seems wrong. */
  code: string;
  /** The copy's report: a's, then changed. */
  shows: (world: World) => void;
  /** State of edge a-b by the copy's view. */
  edge?: Partial<TopologyEdge>;
};

const overEth0 = (world: World) => {
  for (const item of world.wireguard("a").peers!) item.via = { interface: "eth0", source: null };
};

const COPIES: Copy[] = [
  { code: "iface_gone", shows: loseWg0, edge: { state: "one_sided", cause: "missing_at_a" } },
  { code: "iface_down", shows: (world) => void (world.interface("a", "wg0").up = false), edge: { state: "down" } },
  { code: "peer_removed", shows: (world) => void world.wireguard("a").peers!.shift() },
  { code: "peer_unknown", shows: (world) => void world.wireguard("a").peers!.push(peer("z")) },
  { code: "allowed_ips_moved", shows: (world) => void (world.wireguard("a").peers![0]!.allowed_ips = []) },
  { code: "allowed_ips_unrouted", shows: (world) => void (world.reports.get("a")!.routes = []) },
  {
    code: "allowed_ips_overlap",
    shows: (world) => {
      const report = world.reports.get("a")!;
      report.interfaces!.push({ ...card("wg1", ["10.9.0.97/24"]), kind: "wireguard", mtu: 1420 });
      report.routes!.push({ destination: "10.0.0.0/8", gateway: null, interface: "wg1", metric: 0 });
      report.wireguard!.push({ ...structuredClone(world.wireguard("a")), interface: "wg1", public_key: key("a1") });
    },
  },
  { code: "config", shows: (world) => void world.wireguard("a").peers!.push(peer("a", { allowed_ips: [] })) },
  { code: "key_reuse", shows: (world) => void (world.wireguard("a").public_key = key("b")) },
  {
    code: "key_mismatch",
    shows: (world) => void (world.wireguard("a").public_key = key("anew")),
    edge: { state: "key_mismatch", cause: "wrong_key" },
  },
  {
    code: "address_duplicate",
    shows: (world) => void (world.interface("a", "wg0").addresses = ["10.9.0.98/24"]),
  },
  {
    code: "mtu_too_large",
    shows: (world) => {
      overEth0(world);
      world.interface("a", "wg0").mtu = 1500;
    },
  },
  { code: "clock_skew", shows: (world) => void world.skewMs.set("a", 400_000) },
];

/** A report under a's id by its copy; what others report until a's own next one sees the copy's view. */
function copyReports({ shows, edge }: Copy, boot = "boot-copy"): (world: World) => void {
  return (world) => {
    const own = world.reports.get("a")!;
    world.reports.set("a", structuredClone(own));
    world.reports.get("a")!.boot_id = boot;
    shows(world);
    if (edge !== undefined) world.set("a-b", edge.state!, edge);
    world.report("a");
    world.reports.set("a", own);
    world.skewMs.delete("a");
  };
}

const ownViewAgain = (world: World) => {
  if (world.edge("a-b").state !== "up") world.set("a-b", "up");
};

/** a and its copy in turn, 3 s after each of a's own: b and c, which report in between, judge the copy's view. */
function turns(copy: Copy, reportsATurn: number): Step[] {
  return [
    { pass: 3 },
    { act: copyReports(copy), pass: 6 },
    ...Array.from({ length: reportsATurn - 1 }, () => ({ act: copyReports(copy) })),
    // b's neighbours may report oftener than a.
    {
      act: (world: World) => {
        for (let i = 0; i < 4; i++) for (const agent of ["b", "c"]) world.report(agent);
      },
    },
    { pass: 20, act: ownViewAgain },
    { pass: 1 },
  ];
}

function copyTables(copy: Copy): Table[] {
  const beneathOrNone = (world: World) => {
    for (const text of world.open()) expect(text).toMatch(/^id_clone agent:a$| < (.*, )?id_clone/);
  };
  return [1, 2].map((reportsATurn) => ({
    name: `${copy.code}: ${reportsATurn === 1 ? "in turn" : "the copy twice before the other comes"}`,
    steps: [
      { open: [], told: [] },
      ...turns(copy, reportsATurn),
      { told: CLONE, check: beneathOrNone },
      ...[1, 2, 3, 4].flatMap(() => [...turns(copy, reportsATurn), { told: CLONE, check: beneathOrNone }]),
      // The copy is stopped: what it showed goes, and the clone after 10 minutes of one.
      { pass: 120, told: CLONE, open: ["id_clone agent:a"] },
      { pass: 500, told: [...CLONE, "id_clone resolved critical"], open: [] },
      { pass: 400, told: [...CLONE, "id_clone resolved critical"], open: [] },
    ],
  }));
}

tables("a copy of a's state on another host: id_clone first, and nothing else is told", COPIES.flatMap(copyTables));

test("each of them is told when it is no copy", () => {
  for (const { code, shows, edge } of COPIES) {
    const world = new World(["a", "b", "c"], { restarts: false });
    world.pass(60);
    shows(world);
    if (edge !== undefined) world.set("a-b", edge.state!, edge);
    world.pass(31);
    expect({ code, open: world.open().some((text) => text.startsWith(`${code} `)) }).toEqual({ code, open: true });
  }
});

test("id_clone names both hosts, and says the same at each report", () => {
  const world = new World(["a", "b"], { restarts: false });
  world.pass(60);
  const messages = new Set<string>();
  for (const [hostname, boot] of [
    ["copy", 2],
    ["a", 1],
    ["copy", 2],
    ["a", 1],
  ] as const) {
    world.records.get("a")!.hostname = hostname;
    world.reports.get("a")!.boot_id = `boot-${boot}`;
    world.report("a");
    if (world.open().length > 0) messages.add(world.row("id_clone").message);
  }
  expect([...messages]).toEqual(["two hosts use the agent id of a and copy: two boots of a host report in turn"]);
  expect(world.row("id_clone").details).toMatchObject({ hostnames: ["a", "copy"], boot_ids: ["boot-1", "boot-2"] });
});

test("a copy that reports every 15 minutes is known when the first boot comes back", () => {
  const world = new World(["a"], { restarts: false, intervalS: 900 });
  world.pass(1801);
  world.reports.get("a")!.boot_id = "boot-copy";
  world.report("a");
  world.reports.get("a")!.boot_id = "boot-1";
  world.pass(900);
  expect(world.told().filter((text) => text.startsWith("id_clone"))).toEqual(CLONE);
});
