// Owns the alarms about an agent, its host and its configuration: reports, clock, identity, interfaces, keys, addresses,
// AllowedIPs. Pure.
import { contains, covers, formatEndpoint, parseAddress, parsePrefix } from "../../shared/net.ts";
import type { Report, Wireguard } from "../../shared/report.ts";
import type { AlarmRow } from "../model.ts";
import { type Facts, isDown, type Underlay, type WireguardFacts } from "./facts.ts";
import { isOpen, memoryOf, sinceOf } from "./ledger.ts";
import { label, labels, on, shortKey, some, subjectParts, subjectRest, subjects } from "./names.ts";
import { clones, type Context, type Finding, type Key, keyOf, type Rule, type Verdict } from "./rule.ts";

const MINUTE_MS = 60_000;
/** What WireGuard adds to a packet: 20 or 40 (IP) + 8 (UDP) + 32 (its own header and tag). */
const OVERHEAD_4 = 60;
const OVERHEAD_6 = 80;

const never = (): string[] => [];

type Said = Pick<Finding, "severity" | "message" | "lookAt" | "command"> &
  Partial<Pick<Finding, "causes" | "details" | "keep" | "expiresAt" | "sinceAt" | "agents" | "seenBy">>;

/** A finding by the reporting agent about itself. While two hosts report in turn under its id, each seems to undo the
 * other's configuration: what follows from that stands beneath `id_clone`. */
function own(context: Context, said: Said): Finding {
  return {
    agentId: context.agentId,
    agents: [context.agentId],
    seenBy: [label(context.topology, context.agentId)],
    ...said,
    causes: [...(said.causes ?? []), ...clones([context.agentId])],
  };
}

function kept(row: AlarmRow | null, name: string): unknown {
  return row === null ? undefined : memoryOf(row).keep?.[name];
}

function open(row: AlarmRow | null): boolean {
  return row !== null && isOpen(row);
}

type Options = Partial<
  Pick<Rule, "hold" | "resolve" | "endsOnAcknowledge" | "compares" | "ofConfiguration" | "listens">
>;

function rule(
  code: Rule["code"],
  options: Options,
  subjectsOf: Rule["subjects"],
  check: Rule["check"],
  help: Rule["help"],
): Rule {
  return {
    code,
    listens: "report",
    hold: 1,
    resolve: { reports: 1 },
    endsOnAcknowledge: false,
    compares: false,
    ofConfiguration: false,
    ...options,
    subjects: subjectsOf,
    check,
    help,
  };
}

/** The one subject of an agent's own rules. */
const self = (context: Context): string[] => [subjects.agent(context.agentId)];

// --- how its reports come

const relayInUse = rule(
  "relay_in_use",
  { listens: "arrival", hold: 3, resolve: { reports: 3 } },
  (context) => (context.observation.via === "relay" ? self(context) : []),
  (_subject, context) => {
    if (context.observation.via === "direct") return null;
    const { topology, observation } = context;
    const path = observation.relay_path.map((id) => label(topology, id));
    const name = label(topology, context.agentId);
    return own(context, {
      severity: "info",
      message: `${name} reaches the manager only through ${path.join(" and ")}`,
      lookAt: "the way from that host to the manager's address and port: route, firewall, name",
      command: on(name)`agent -discover`,
      seenBy: ["the manager"],
      causes: context.facts.underlays.flatMap((underlay) => [
        keyOf("iface_down", subjects.interface(context.agentId, underlay.interface)),
        keyOf("iface_gone", subjects.interface(context.agentId, underlay.interface)),
      ]),
      details: { relay_path: observation.relay_path },
    });
  },
  {
    means: "An agent's reports come by way of other agents: it does not reach the manager itself.",
    todo: "Look at the way from that host to the manager: its default route, a firewall, the manager's name.",
    severity: "info",
    opens: "3 reports in a row by relay",
    resolves: "3 reports directly",
  },
);

function refused(code: "relay_loop" | "hop_limit", fact: "relayLoops" | "hopLimits", what: string): Rule {
  const rose = ({ previous, facts }: Context): boolean => {
    if (previous === null) return false;
    // An agent counts from 0 when it starts.
    const since = facts[fact] < previous[fact] ? 0 : previous[fact];
    return facts[fact] > since;
  };
  return rule(
    code,
    { listens: "arrival", resolve: { quietMs: 15 * MINUTE_MS } },
    (context) => (rose(context) ? self(context) : []),
    (_subject, context) => {
      if (!rose(context)) return "stays";
      const name = label(context.topology, context.agentId);
      return own(context, {
        severity: "warning",
        message: `${name} refuses to relay reports: ${what}`,
        lookAt:
          "which agents cannot reach the manager themselves, and whom they ask: their relays are in the agents' list",
        command: on(name)`agent -discover`,
      });
    },
    {
      means: `An agent refused to pass on other agents' reports: ${what}.`,
      todo: "Mend the way to the manager of those agents that relay; `agent -discover` shows who reaches it and over how many hops.",
      severity: "warning",
      opens: "at once",
      resolves: "15 minutes without",
    },
  );
}

const backlog = rule(
  "backlog",
  { listens: "arrival" },
  (context) => {
    const delivery = context.observation.report.delivery;
    return delivery && delivery.outbox_bytes * 2 > delivery.outbox_limit_bytes ? self(context) : [];
  },
  (_subject, context, row) => {
    const delivery = context.observation.report.delivery;
    if (!delivery) return "stays";
    if (delivery.outbox_bytes * 2 <= delivery.outbox_limit_bytes) {
      return open(row) && delivery.outbox_reports > 1 ? "stays" : null;
    }
    const name = label(context.topology, context.agentId);
    return own(context, {
      severity: "warning",
      message: `${name} has over half of its outbox full of reports that it could not deliver`,
      lookAt: "whether it drains now; beyond the limit the oldest are lost",
      command: on(name)`curl -s http://127.0.0.1:5087/status/healthcheck`,
    });
  },
  {
    means: "An agent keeps reports that it could not deliver, over half of what its outbox holds.",
    todo: "It drains by itself once the manager takes its reports: look at its way there, and at the manager's disk.",
    severity: "warning",
    opens: "at once",
    resolves: "drained",
  },
);

const dataLost = rule(
  "data_lost",
  { listens: "arrival" },
  (context) => (context.previous !== null && context.facts.dropped > context.previous.dropped ? self(context) : []),
  (_subject, context) => {
    const rose = context.previous !== null && context.facts.dropped > context.previous.dropped;
    if (!rose) return (context.observation.report.delivery?.outbox_reports ?? 0) <= 1 ? null : "stays";
    const name = label(context.topology, context.agentId);
    return own(context, {
      severity: "warning",
      message: `${name} lost reports: its outbox was full, or older than 24 hours`,
      lookAt: "the history of that host has a hole; how long it could not deliver, and why",
      command: on(name)`curl -s http://127.0.0.1:5087/status/healthcheck`,
      causes: [keyOf("backlog", subjects.agent(context.agentId))],
    });
  },
  {
    means: "An agent's outbox reached its limit (24 h or 16 MiB), and the oldest reports went.",
    todo: "History has a hole there. Find why the manager was out of reach for so long.",
    severity: "warning",
    opens: "at once",
    resolves: "drained",
  },
);

const clockSkew = rule(
  "clock_skew",
  { resolve: { reports: 3 } },
  (context) => (Math.abs(context.observation.skew_ms) > MINUTE_MS ? self(context) : []),
  (_subject, context, row) => {
    const skew = context.observation.skew_ms;
    if (Math.abs(skew) < MINUTE_MS / 2) return null;
    if (Math.abs(skew) <= MINUTE_MS && !open(row)) return null;
    const name = label(context.topology, context.agentId);
    const far = Math.abs(skew) > 5 * MINUTE_MS;
    return own(context, {
      severity: far ? "critical" : "warning",
      message: `${name}'s clock is over ${far ? "5 minutes" : "a minute"} ${skew > 0 ? "ahead of" : "behind"} the manager's`,
      lookAt: "time synchronisation on that host; if most hosts say so, the manager's own clock",
      command: on(name)`timedatectl timesync-status`,
      seenBy: ["the manager"],
    });
  },
  {
    means:
      "An agent's clock and the manager's disagree. Reports are taken all the same; times of handshakes are by the agent's clock.",
    todo: "Look at time synchronisation (`timedatectl`, `chronyc tracking`) on that host; if most hosts show it, on the manager.",
    severity: "warning over 60 s; critical over 300 s",
    opens: "at once",
    resolves: "3 reports under 30 s",
  },
);

/** A boot that came back within this, or within so many of its intervals, is one of two hosts. */
const CLONE_MEMORY_MS = 10 * MINUTE_MS;
const CLONE_MEMORY_INTERVALS = 3;
/** If another host has the same id it reports within one interval; half of one more is for jitter. */
const SETTLE_INTERVALS = 1.5;

/** What `id_clone` keeps. */
type Boots = {
  /** Those before the newest. */
  boots: string[];
  /** By which it reported since. */
  hostnames: string[];
  changed_at: number;
  settling_since: number;
};

function bootsOf(row: AlarmRow | null): Boots | null {
  return kept(row, "boots") === undefined ? null : (memoryOf(row!).keep as Boots);
}

/**
 * Whether an agent's boot has just changed. Its host may still be starting (the agent before wg-quick), or be another host
 * with the same id: what its reports show waits. `clone`: the agent's live `id_clone` row, which remembers the change.
 */
export function isSettling(clone: AlarmRow | null, intervalMs: number, now: number): boolean {
  const boots = bootsOf(clone);
  return boots !== null && now - boots.settling_since < SETTLE_INTERVALS * intervalMs;
}

const idClone = rule(
  "id_clone",
  { resolve: { quietMs: 10 * MINUTE_MS } },
  (context) => (context.previous !== null && context.previous.bootId !== context.facts.bootId ? self(context) : []),
  (_subject, context, row) => {
    if (context.previous === null || context.previous.bootId === context.facts.bootId) return "stays";
    const { now } = context;
    const intervalMs = context.intervalMs(context.agentId);
    const before = bootsOf(row);
    const boots = [...new Set([...(before?.boots ?? []), context.previous.bootId])].slice(-4);
    const returned = before?.boots.includes(context.facts.bootId) === true;
    // Boots that follow each other faster than they settle settle as one: else nothing of that host was ever decided.
    const lasted = before === null || (!open(row) && now - before.changed_at >= SETTLE_INTERVALS * intervalMs);
    const hostnames = [...new Set([...(before?.hostnames ?? []), label(context.topology, context.agentId)])]
      .slice(-4)
      .sort();
    const keep: Boots = { boots, hostnames, changed_at: now, settling_since: lasted ? now : before.settling_since };
    const finding = own(context, {
      ...cloned(hostnames.join(" and "), "two boots of a host report in turn"),
      keep,
      details: { hostnames, boot_ids: [...new Set([...boots, context.facts.bootId])].sort() },
      // A reboot shows a new boot once; only one that comes back means two hosts.
      ...(returned || open(row)
        ? {}
        : { expiresAt: now + Math.max(CLONE_MEMORY_MS, CLONE_MEMORY_INTERVALS * intervalMs) }),
    });
    return { ...finding, causes: [] };
  },
  {
    means: "Two hosts use one agent id: its state directory was copied (a cloned machine, a restored snapshot).",
    todo: "On the copy: stop the agent, `agent -reset`, start it again. Both hosts' names are in the details.",
    severity: "critical",
    opens: "at once",
    resolves: "10 minutes of one",
  },
);

export function cloned(name: string, how: string): Pick<Finding, "severity" | "message" | "lookAt" | "command"> {
  return {
    severity: "critical",
    message: `two hosts use the agent id of ${name}: ${how}`,
    lookAt: "which of the two is the copy: reset its agent there, so that it takes an id of its own",
    command: "on the copy: agent -reset",
  };
}

const replay = rule(
  "replay",
  { resolve: { by: "signal" }, endsOnAcknowledge: true, listens: "signal" },
  never,
  () => "stays",
  {
    means:
      "A report came under a tick or nonce that another report used: a copy of the agent's state, a restored snapshot, or somebody who plays reports again. It was not stored.",
    todo: "Was that host restored from a snapshot or cloned? Then acknowledge (its agent goes on under fresh ticks). If not, look who can read the fleet's traffic.",
    severity: "critical",
    opens: "at once",
    resolves: "acknowledged",
  },
);

const collectorError = rule(
  "collector_error",
  { hold: 3, resolve: { reports: 1 } },
  function* (context) {
    const { report } = context.observation;
    for (const name in report.collectors) {
      if (report.collectors[name]!.startsWith("error")) yield subjects.collector(context.agentId, name);
    }
    for (const wg of report.wireguard ?? []) {
      if (wg.status?.startsWith("error")) yield subjects.collector(context.agentId, `wireguard/${wg.interface}`);
    }
  },
  (subject, context) => {
    const [, ...rest] = subjectParts(subject);
    const collector = rest.filter((part) => part !== "").join("/");
    const { collectors, wireguard } = context.observation.report;
    // A stranger's collector may be called as what every object has.
    const text = Object.hasOwn(collectors, collector)
      ? collectors[collector]!
      : (wireguard?.find((wg) => `wireguard/${wg.interface}` === collector)?.status ?? "ok");
    if (!text.startsWith("error")) return null;
    const name = label(context.topology, context.agentId);
    return own(context, {
      severity: "warning",
      message: `${name} cannot read ${collector}`,
      lookAt: "what it says is in the details; the last good view is kept",
      command: on(name)`agent -sysinfo`,
      details: { collector },
    });
  },
  {
    means:
      "A collector of an agent fails: what it reads (`wg`, `ip`, /proc) is missing, forbidden or hangs. The rest of the report goes on.",
    todo: "`agent -sysinfo` on that host shows the error. Is `wg` installed, has the agent CAP_NET_ADMIN, does a userspace WireGuard hang?",
    severity: "warning",
    opens: "3 reports of the same collector",
    resolves: "ok",
  },
);

const config = rule(
  "config",
  { ofConfiguration: true },
  (context) => interfaceSubjects(context, (report, wg) => misconfigured(report, wg) !== null),
  (subject, context) => {
    const { host, name, report, wg } = interfaceOf(subject, context);
    const what = wg === null ? null : misconfigured(report, wg);
    if (what === null) return null;
    return own(context, {
      severity: "warning",
      message: `${host} ${name}: ${what}`,
      lookAt: "the interface's configuration: this peer does nothing",
      command: on(host)`wg show ${name}`,
      // Who has a peer's key lists itself.
      causes: wg?.public_key == null ? [] : [keyOf("key_reuse", subjects.key(wg.public_key))],
    });
  },
  {
    means: "A configuration that cannot be meant: an interface lists its own key among its peers, or dials itself.",
    todo: "Remove that peer from the interface's configuration.",
    severity: "warning",
    opens: "at once",
    resolves: "gone",
  },
);

function misconfigured(report: Report, wg: Wireguard): string | null {
  const { listen_port: port } = wg;
  const own = new Set<string>();
  for (const item of port === null ? [] : (report.interfaces ?? [])) {
    for (const text of item.addresses) own.add(formatEndpoint({ address: text.split("/")[0]!, port: port! }));
  }
  for (const peer of wg.peers ?? []) {
    if (wg.public_key !== null && peer.public_key === wg.public_key) return "its own key is among its peers";
    if (peer.endpoint !== null && own.has(peer.endpoint))
      return `peer ${shortKey(peer.public_key)} is dialled at this host's own address and port`;
  }
  return null;
}

// --- interfaces

/** The agent's newest report, with what failed in it filled in. */
function reportOf(context: Context): Report {
  return context.topology.effective(context.agentId) ?? context.observation.report;
}

/** What an interface subject of the reporting agent is about; wg null: it has no such WireGuard interface now. */
function interfaceOf(
  subject: string,
  context: Context,
): { host: string; name: string; report: Report; wg: Wireguard | null } {
  const [, name] = subjectParts(subject);
  const report = reportOf(context);
  const wg = report.wireguard?.find((item) => item.interface === name) ?? null;
  return { host: label(context.topology, context.agentId), name, report, wg };
}

/** Interfaces of the reporting agent of which `applies` holds, as subjects. */
function* interfaceSubjects(context: Context, applies: (report: Report, wg: Wireguard) => boolean): Iterable<string> {
  const report = reportOf(context);
  for (const wg of report.wireguard ?? []) {
    if (applies(report, wg)) yield subjects.interface(context.agentId, wg.interface);
  }
}

function wireguardOf(facts: Facts | null, name: string): WireguardFacts | null {
  return facts?.wireguard?.find((item) => item.interface === name) ?? null;
}

const ifaceGone = rule(
  "iface_gone",
  { compares: true, endsOnAcknowledge: true },
  function* (context) {
    const { previous, facts } = context;
    if (previous === null) return;
    if (previous.wireguard !== facts.wireguard) {
      for (const wg of previous.wireguard ?? []) {
        if (wireguardOf(facts, wg.interface) === null) yield subjects.interface(context.agentId, wg.interface);
      }
    }
    for (const name of facts.gone) {
      // One that was gone at the report before was told then; an operator may have acknowledged it since.
      if (!previous.gone.includes(name)) yield subjects.interface(context.agentId, name);
    }
  },
  (subject, context, row) => {
    const [, name] = subjectParts(subject);
    const report = context.observation.report;
    const was = (kept(row, "was") as string | undefined) ?? roleBefore(context, name);
    if (was === null) return null;
    const lost = (kept(row, "lost") as LostInterface | undefined) ?? lostInterface(context.previous, name);
    if (was === "WireGuard interface") {
      if (report.wireguard === null) return "stays";
      // Back, or the same one under another name.
      const isBack = (wg: Wireguard) =>
        wg.interface === name ||
        (lost.key !== null && wg.public_key === lost.key && !lost.others.includes(wg.interface));
      if (report.wireguard.some(isBack)) return null;
    } else {
      if (report.interfaces === null) return "stays";
      if (report.interfaces.some((item) => item.name === name)) return null;
    }
    const host = label(context.topology, context.agentId);
    return own(context, {
      severity: "critical",
      message: `${host} has lost its ${was} ${name}`,
      lookAt: "whether it was taken down on purpose (acknowledge then), or failed to start",
      command: was === "WireGuard interface" ? on(host)`wg-quick up ${name}` : on(host)`ip link show`,
      keep: was === "WireGuard interface" ? { was, lost } : { was },
    });
  },
  {
    means: "A WireGuard interface, or the one of the default route or under tunnels, is not there any more.",
    todo: "`wg-quick up <name>`, or what makes the interface on that host; acknowledge if it was meant.",
    severity: "critical",
    opens: "at once",
    resolves: "back, or acknowledged",
  },
);

/** The key of a WireGuard interface that is gone, and who else had it then: two interfaces may share one. */
type LostInterface = { key: string | null; others: string[] };

function lostInterface(previous: Facts | null, name: string): LostInterface {
  const key = wireguardOf(previous, name)?.key ?? null;
  const sharers = previous?.wireguard?.filter((wg) => wg.key === key && wg.interface !== name) ?? [];
  return { key, others: sharers.map((wg) => wg.interface) };
}

function roleBefore(context: Context, name: string): string | null {
  if (wireguardOf(context.previous, name) !== null) return "WireGuard interface";
  return roleOf(context.previous, name);
}

const ROLES = { "default route": "default route's interface", tunnels: "interface under tunnels" } as const;

function roleOf(facts: Facts | null, name: string): string | null {
  const underlay = facts?.underlays.find((item) => item.interface === name);
  return underlay === undefined ? null : ROLES[underlay.carries];
}

/** What an interface carried, by the role that its alarm keeps; null: it is no underlay. */
export function carriedBy(role: unknown): Underlay["carries"] | null {
  if (role === ROLES["default route"]) return "default route";
  return role === ROLES.tunnels ? "tunnels" : null;
}

const ifaceDown = rule(
  "iface_down",
  { compares: true, endsOnAcknowledge: true },
  function* (context) {
    const { facts, previous } = context;
    const carries = (of: Facts | null, name: string) => wireguardOf(of, name) !== null || roleOf(of, name) !== null;
    for (const name of facts.down) {
      // One that was down at the report before was told then; an operator may have acknowledged it since.
      const isKnown = previous?.down.includes(name) === true && carries(previous, name);
      if (!isKnown && carries(facts, name)) yield subjects.interface(context.agentId, name);
    }
  },
  (subject, context, row) => {
    const [, name] = subjectParts(subject);
    const { report } = context.observation;
    if (report.interfaces === null) return "stays";
    const item = report.interfaces.find((candidate) => candidate.name === name);
    // Gone is iface_gone's to say.
    if (item === undefined || !isDown(item)) return null;
    const was =
      (kept(row, "was") as string | undefined) ??
      (report.wireguard?.some((wg) => wg.interface === name) === true
        ? "WireGuard interface"
        : roleOf(context.facts, name));
    if (was === null) return null;
    const host = label(context.topology, context.agentId);
    const how = item.up === false ? "is down" : "has no carrier";
    return own(context, {
      severity: "critical",
      message: `${host}: ${was} ${name} ${how}`,
      lookAt:
        item.up === false
          ? "who set it down, or what failed to bring it up"
          : "the cable, the switch port, the other end",
      command: item.up === false ? on(host)`ip link set ${name} up` : on(host)`ip -s link show ${name}`,
      keep: { was },
    });
  },
  {
    means:
      "A WireGuard interface is down, or the interface of the default route or under tunnels is down or without carrier. A WireGuard interface that is down still shakes hands, and passes nothing.",
    todo: "`ip link set <name> up`; without carrier, the cable, switch port or the other end. Acknowledge if it was meant.",
    severity: "critical",
    opens: "at once",
    resolves: "up again, or acknowledged",
  },
);

const mtuTooLarge = rule(
  "mtu_too_large",
  {},
  (context) => interfaceSubjects(context, (report, wg) => tooLarge(report, wg) !== null),
  (subject, context) => {
    const { host, name, report, wg } = interfaceOf(subject, context);
    const found = wg === null ? null : tooLarge(report, wg);
    if (found === null) return null;
    return own(context, {
      severity: "warning",
      message: `${host} ${name}: MTU ${found.mtu} and ${found.overhead} bytes of WireGuard do not fit into the ${found.outer} of ${found.under}`,
      lookAt: `an MTU of ${found.outer - found.overhead} at most; larger packets are lost where fragments are dropped`,
      command: on(host)`ip link set ${name} mtu ${found.outer - found.overhead}`,
      details: { ...found },
    });
  },
  {
    means:
      "A WireGuard interface's MTU plus 60 bytes (IPv4) or 80 (IPv6) is more than what its packets leave by takes.",
    todo: "Lower the MTU as the alarm says; 1,420 fits everything with 1,500.",
    severity: "warning",
    opens: "at once",
    resolves: "fits",
  },
);

function tooLarge(
  report: Report,
  wg: Wireguard,
): { mtu: number; overhead: number; outer: number; under: string } | null {
  const mtuOf = (name: string) => report.interfaces?.find((item) => item.name === name)?.mtu ?? null;
  const mtu = mtuOf(wg.interface);
  if (mtu === null) return null;
  const outers = new Map<string, number | null>();
  for (const peer of wg.peers ?? []) {
    if (!peer.via || peer.endpoint === null) continue;
    const under = peer.via.interface;
    // Into itself is tunnel_loop's to say; loopback fits everything.
    if (under === wg.interface) continue;
    if (!outers.has(under)) outers.set(under, mtuOf(under));
    const outer = outers.get(under)!;
    const overhead = peer.endpoint.startsWith("[") ? OVERHEAD_6 : OVERHEAD_4;
    if (outer !== null && outer > 0 && mtu + overhead > outer) return { mtu, overhead, outer, under };
  }
  return null;
}

// --- keys and addresses

const keyReuse = rule(
  "key_reuse",
  {},
  function* (context) {
    for (const wg of context.facts.wireguard ?? []) {
      if (wg.key !== null && context.topology.ownersOfKey(wg.key).length > 1) yield subjects.key(wg.key);
    }
  },
  (subject, context) => {
    const key = subjectRest(subject);
    const owners = context.topology.ownersOfKey(key).filter((owner) => context.isFresh(owner.agent_id));
    const agents = [...new Set(owners.map((owner) => owner.agent_id))].sort();
    if (agents.length < 2) return null;
    const names = owners.map((owner) => `${label(context.topology, owner.agent_id)} ${owner.interface}`).sort();
    return {
      severity: "critical",
      message: `one WireGuard key is on ${some(names)}`,
      lookAt: "which of them is the copy: peers answer whichever spoke last, so both lose packets in turn",
      command: "on the copy: wg genkey, and the new public key at its peers",
      agentId: agents[0]!,
      agents,
      seenBy: labels(context.topology, agents),
      causes: clones(agents),
      details: { key, owners },
    };
  },
  {
    means: "The same private key is on two hosts, and both report. Peers answer the one they heard last.",
    todo: "Make a new key on the copy, and give its public key to the peers.",
    severity: "critical",
    opens: "at once",
    resolves: "unique",
  },
);

/** `said`: by both ends. When a key is changed at both, one of them reports of it first. */
type WrongEnd = { agent: string; interface: string; lister: string; said: boolean };

/** Agent interfaces whose key a peer lists wrongly: an edge in key_mismatch has one end whose key the other lacks. */
function wrongEnds(context: Context, agentId: string): WrongEnd[] {
  const found: WrongEnd[] = [];
  const heardSince = (node: string, at: number) => (context.topology.latest(node)?.observed_at ?? 0) >= at;
  for (const edge of context.topology.troubledEdgesOf(agentId)) {
    if (edge.state !== "key_mismatch") continue;
    for (const [end, other] of [
      [edge.a, edge.b],
      [edge.b, edge.a],
    ] as const) {
      if (end.interface === null || other.interface === null) continue;
      const key = wireguardOf(context.factsOf(end.node), end.interface)?.key;
      const lists = wireguardOf(context.factsOf(other.node), other.interface)?.peers;
      if (key === undefined || key === null || lists === undefined) continue;
      if (!lists.some((peer) => peer.key === key)) {
        const since = edge.changed_at;
        const said = edge.first_seen_at >= since || (heardSince(end.node, since) && heardSince(other.node, since));
        found.push({ agent: end.node, interface: end.interface, lister: other.node, said });
        break;
      }
    }
  }
  return found;
}

const keyMismatch = rule(
  "key_mismatch",
  {},
  function* (context) {
    if (!context.troubled.some((edge) => edge.state === "key_mismatch")) return;
    for (const end of wrongEnds(context, context.agentId)) yield subjects.interface(end.agent, end.interface);
  },
  (subject, context) => {
    const [agent, name] = subjectParts(subject);
    const wrong = wrongEnds(context, agent).filter((end) => end.agent === agent && end.interface === name);
    if (wrong.length === 0) return null;
    const listers = [...new Set(wrong.map((end) => end.lister))].sort();
    const key = wireguardOf(context.factsOf(agent), name)?.key ?? null;
    const host = label(context.topology, agent);
    return {
      severity: "warning",
      message: `${some(labels(context.topology, listers))} ${listers.length === 1 ? "lists" : "list"} another key for ${host} ${name} than it has`,
      lookAt: `whether ${host}'s key was changed (give the new public key to its peers), or the peers' configuration is old`,
      command: on(host)`wg show ${name} public-key`,
      agentId: agent,
      agents: [...new Set([agent, ...listers])],
      seenBy: labels(context.topology, [...listers, agent]),
      causes: clones([agent, ...listers]),
      details: { public_key: key, interface: name },
      ...(wrong.some(({ said }) => said) ? {} : { hold: 2 }),
    };
  },
  {
    means: "Peers list another public key at a host's address and port than the one its interface has.",
    todo: "If the host's key was changed, give the new public key (in the details) to its peers; else put the old key back.",
    severity: "warning",
    opens: "when both ends' reports show it, or 2 reports of one",
    resolves: "fits",
  },
);

/** Networks that an agent's interface is in. */
function networksOf(context: Context, agentId: string, name: string): Set<string> {
  const found = new Set<string>();
  for (const edge of context.topology.edgesOf(agentId)) {
    if (edge.network === null) continue;
    if (
      (edge.a.node === agentId && edge.a.interface === name) ||
      (edge.b.node === agentId && edge.b.interface === name)
    ) {
      found.add(edge.network);
    }
  }
  return found;
}

/** Keys that two of these interfaces have: a configuration was copied whole. */
function sharedKeys(context: Context, owners: readonly { agent_id: string; interface: string }[]): string[] {
  const keys = owners.map((owner) => wireguardOf(context.factsOf(owner.agent_id), owner.interface)?.key ?? null);
  return [...new Set(keys.filter((key, place): key is string => key !== null && keys.indexOf(key) < place))];
}

const addressDuplicate = rule(
  "address_duplicate",
  {},
  function* (context) {
    const { topology, agentId, facts } = context;
    const report = reportOf(context);
    for (const wg of facts.wireguard ?? []) {
      const item = report.interfaces?.find((candidate) => candidate.name === wg.interface);
      for (const text of item?.addresses ?? []) {
        const address = text.split("/")[0]!;
        if (address.startsWith("fe80:") || topology.ownersOfAddress(address).length < 2) continue;
        for (const network of networksOf(context, agentId, wg.interface)) yield subjects.address(network, address);
      }
    }
  },
  (subject, context) => {
    const [network, address] = subjectParts(subject);
    const owners = context.topology
      .ownersOfAddress(address)
      .filter((owner) => context.isFresh(owner.agent_id))
      .filter((owner) => networksOf(context, owner.agent_id, owner.interface).has(network));
    const agents = [...new Set(owners.map((owner) => owner.agent_id))].sort();
    if (agents.length < 2) return null;
    const names = owners.map((owner) => `${label(context.topology, owner.agent_id)} ${owner.interface}`).sort();
    return {
      severity: "critical",
      message: `overlay address ${address} is on ${some(names)}`,
      lookAt: "which of them should have it: the others' packets go to whom AllowedIPs say",
      command: `on each: ip -br addr | grep ${address}`,
      agentId: agents[0]!,
      agents,
      seenBy: labels(context.topology, agents),
      causes: [...clones(agents), ...sharedKeys(context, owners).map((key) => keyOf("key_reuse", subjects.key(key)))],
      details: { address, network, owners },
    };
  },
  {
    means: "Two agents of one WireGuard network have the same address there.",
    todo: "Give one of them another address, and its peers the AllowedIPs that go with it.",
    severity: "critical",
    opens: "at once",
    resolves: "unique",
  },
);

// --- peers and AllowedIPs

const peerRemoved = rule(
  "peer_removed",
  { compares: true, endsOnAcknowledge: true },
  function* (context) {
    const { previous, facts } = context;
    if (previous === null || previous.wireguard === facts.wireguard) return;
    for (const was of previous.wireguard ?? []) {
      const now = wireguardOf(facts, was.interface);
      // The whole interface gone is one alarm, not one per peer.
      if (now === null || now === was) continue;
      const keys = new Set(now.peers.map((peer) => peer.key));
      const known = new Set(was.peers.map((peer) => peer.key));
      for (const peer of was.peers) {
        // Its own key among its peers was a mistake: `config` ends, and nobody is gone.
        if (keys.has(peer.key) || peer.key === was.key) continue;
        // Another key in its place, with its addresses or endpoint, is a rekeyed peer.
        const replaced = now.peers.some(
          (other) =>
            !known.has(other.key) &&
            ((other.endpoint !== null && other.endpoint === peer.endpoint) ||
              other.allowedIps.some((prefix) => peer.allowedIps.includes(prefix))),
        );
        if (!replaced) yield subjects.peer(context.agentId, was.interface, peer.key);
      }
    }
  },
  (subject, context) => {
    const [, name, key] = subjectParts(subject);
    const now = wireguardOf(context.facts, name);
    if (now === null || now.peers.some((peer) => peer.key === key)) return null;
    const { topology } = context;
    const owner = topology.ownersOfKey(key)[0];
    const who = owner === undefined ? shortKey(key) : label(topology, owner.agent_id);
    const host = label(topology, context.agentId);
    return own(context, {
      severity: "warning",
      message: `${host} ${name} does not list ${who} as a peer any more`,
      lookAt: "whether it was meant (acknowledge then), or a configuration was lost",
      command: on(host)`wg show ${name} peers`,
      causes: [keyOf("iface_gone", subjects.interface(context.agentId, name))],
      details: { interface: name, key, peer: owner?.agent_id ?? `wg:${key}` },
    });
  },
  {
    means: "A peer that an interface listed is gone from it.",
    todo: "Add it again, or acknowledge if it was meant (and remove the other side too).",
    severity: "warning",
    opens: "at once",
    resolves: "back, or acknowledged",
  },
);

const allowedIpsMoved = rule(
  "allowed_ips_moved",
  { compares: true, endsOnAcknowledge: true },
  function* (context) {
    const { previous, facts } = context;
    if (previous === null || previous.wireguard === facts.wireguard) return;
    for (const was of previous.wireguard ?? []) {
      const now = wireguardOf(facts, was.interface);
      if (now === null || now === was) continue;
      for (const peer of was.peers) {
        if (moved(context, was.interface, peer, now).length > 0)
          yield subjects.peer(context.agentId, was.interface, peer.key);
      }
    }
  },
  (subject, context, row) => {
    const [, name, key] = subjectParts(subject);
    const now = wireguardOf(context.facts, name);
    const peer = now?.peers.find((item) => item.key === key);
    if (now === null || peer === undefined) return null;
    const before = wireguardOf(context.previous, name)?.peers.find((item) => item.key === key);
    const lost =
      (kept(row, "lost") as string[] | undefined) ?? (before === undefined ? [] : moved(context, name, before, now));
    const missing = lost.filter((prefix) => !peer.allowedIps.includes(prefix));
    if (missing.length === 0) return null;
    const host = label(context.topology, context.agentId);
    const whose = (publicKey: string) => {
      const owner = context.topology.ownersOfKey(publicKey)[0];
      return owner === undefined ? shortKey(publicKey) : label(context.topology, owner.agent_id);
    };
    const taker = now.peers.find(
      (other) => other.key !== key && other.allowedIps.some((text) => missing.includes(text)),
    );
    return own(context, {
      severity: "warning",
      message:
        taker === undefined
          ? `${host} ${name}: ${whose(key)} is left without AllowedIPs (${some(missing)})`
          : `${host} ${name}: ${some(missing)} went from ${whose(key)} to ${whose(taker.key)}`,
      lookAt: "WireGuard gives a prefix to whom it was given last, without a word; acknowledge if it was meant",
      command: on(host)`wg show ${name} allowed-ips`,
      keep: { lost },
      details: { interface: name, key, prefixes: missing, to: taker?.key ?? null },
    });
  },
  {
    means:
      "A prefix went to another peer of the interface, or a peer was left with none: WireGuard does so silently when a prefix is given twice.",
    todo: "Look who should have it; set both peers' AllowedIPs. Acknowledge if it was meant.",
    severity: "warning",
    opens: "at once",
    resolves: "back, or acknowledged",
  },
);

/** What a peer had and another peer of the interface has now, or everything when it has none left. */
function losses(peer: WireguardFacts["peers"][number], now: WireguardFacts): string[] {
  const still = now.peers.find((item) => item.key === peer.key);
  if (still === undefined || still === peer) return [];
  const lost = peer.allowedIps.filter((prefix) => !still.allowedIps.includes(prefix));
  if (lost.length === 0) return [];
  if (still.allowedIps.length === 0) return lost;
  return lost.filter((prefix) =>
    now.peers.some((other) => other.key !== peer.key && other.allowedIps.includes(prefix)),
  );
}

/** Losses, without what only went back to the peer that had lost it. */
function moved(
  context: Context,
  interfaceName: string,
  peer: WireguardFacts["peers"][number],
  now: WireguardFacts,
): string[] {
  return losses(peer, now).filter((prefix) => {
    const taker = now.peers.find((other) => other.key !== peer.key && other.allowedIps.includes(prefix));
    if (taker === undefined) return true;
    const row = context.live(keyOf("allowed_ips_moved", subjects.peer(context.agentId, interfaceName, taker.key)));
    return !((kept(row, "lost") as string[] | undefined) ?? []).includes(prefix);
  });
}

/** The same prefix, not /0, on peers of different interfaces: prefix → interfaces. */
function overlaps(facts: Facts): Map<string, string[]> {
  const found = new Map<string, string[]>();
  if (facts.wireguard === null || facts.wireguard.length < 2) return found;
  const first = new Map<string, string>();
  for (const wg of facts.wireguard) {
    for (const peer of wg.peers) {
      for (const prefix of peer.allowedIps) {
        if (prefix.endsWith("/0")) continue;
        const other = first.get(prefix);
        if (other === undefined) first.set(prefix, wg.interface);
        else if (other !== wg.interface)
          found.set(prefix, [...new Set([...(found.get(prefix) ?? [other]), wg.interface])]);
      }
    }
  }
  return found;
}

const allowedIpsOverlap = rule(
  "allowed_ips_overlap",
  { ofConfiguration: true },
  (context) => (overlaps(context.facts).size > 0 ? self(context) : []),
  (_subject, context) => {
    const found = overlaps(context.facts);
    if (found.size === 0) return null;
    const host = label(context.topology, context.agentId);
    const interfaces = [...new Set([...found.values()].flat())].sort();
    return own(context, {
      severity: "warning",
      message: `${host}: ${some([...found.keys()].sort())} ${found.size === 1 ? "is" : "are"} in AllowedIPs on ${interfaces.join(" and ")}`,
      lookAt: "the route decides which interface gets the packets; the other peer never does",
      command: on(host)`wg show all allowed-ips`,
      details: { prefixes: [...found.keys()].sort().slice(0, 50), interfaces },
    });
  },
  {
    means: "The same prefix (not a default route) is among the AllowedIPs of peers on two interfaces of a host.",
    todo: "Only the route decides which gets the packets. Take the prefix from the peer that should not have it.",
    severity: "warning",
    opens: "at once",
    resolves: "gone",
  },
);

/** AllowedIPs of an interface that no route leads into it; null: cannot be told. */
function unrouted(report: Report, wg: Wireguard): string[] | null {
  if (report.routes === null || (report.routes_truncated ?? 0) > 0 || wg.peers === null) return null;
  // Without iproute2 policy tables and next hops are hidden, and any of them may lead there.
  if (report.rules === undefined || report.rules === null) return null;
  const item = report.interfaces?.find((candidate) => candidate.name === wg.interface);
  // An interface that is down has no routes: that is iface_down's to say.
  if (item === undefined || isDown(item)) return null;
  const into = report.routes.filter(
    (route) =>
      route.interface === wg.interface || route.nexthops?.some((hop) => hop.interface === wg.interface) === true,
  );
  const exact = new Set(into.map((route) => route.destination));
  const prefixes = into.map((route) => parsePrefix(route.destination)).filter((prefix) => prefix !== null);
  const own = new Set(item.addresses.map((text) => text.split("/")[0]));
  const found: string[] = [];
  for (const peer of wg.peers) {
    for (const text of peer.allowed_ips) {
      if (text.endsWith("/0") || exact.has(text)) continue;
      const prefix = parsePrefix(text);
      if (prefix === null) continue;
      // A part that is routed there is enough: BGP brings in what is used.
      if (prefixes.some((route) => covers(route, prefix) || covers(prefix, route))) continue;
      const [address] = text.split("/");
      if (own.has(address) || linkLocal(address!)) continue;
      found.push(text);
    }
  }
  return found;
}

const LINK_LOCAL = parsePrefix("fe80::/10")!;
function linkLocal(text: string): boolean {
  const address = parseAddress(text);
  return address !== null && contains(LINK_LOCAL, address);
}

const allowedIpsUnrouted = rule(
  "allowed_ips_unrouted",
  { ofConfiguration: true },
  (context) => interfaceSubjects(context, (report, wg) => (unrouted(report, wg)?.length ?? 0) > 0),
  (subject, context) => {
    const { host, name, report, wg } = interfaceOf(subject, context);
    if (wg === null) return null;
    const found = unrouted(report, wg);
    if (found === null) return "stays";
    if (found.length === 0) return null;
    return own(context, {
      severity: "warning",
      message: `${host} ${name}: no route leads ${some(found)} into the interface`,
      lookAt: "AllowedIPs alone carry nothing: the host needs a route (wg-quick makes it, `wg set` does not)",
      command: on(host)`ip route add ${found[0]!} dev ${name}`,
      causes: [keyOf("iface_down", subjects.interface(context.agentId, name))] satisfies Key[],
      details: { interface: name, prefixes: found.slice(0, 50) },
    });
  },
  {
    means:
      "A peer's AllowedIPs hold a prefix that no route of the host leads into that interface: packets for it go elsewhere.",
    todo: "Add the route, or take the prefix out of AllowedIPs.",
    severity: "warning",
    opens: "at once",
    resolves: "routed",
  },
);

// --- fed by the manager's clock and counters: see alarms.ts

function signal(code: Rule["code"], resolve: Rule["resolve"], help: Rule["help"], check?: () => Verdict): Rule {
  return rule(code, { listens: "signal", resolve }, never, check ?? (() => "stays"), help);
}

const SIGNAL_RULES: readonly Rule[] = [
  signal(
    "manager_isolated",
    { by: "signal" },
    {
      means:
        "Over half of the agents (3 at least) fell silent within 3 intervals: the manager's own network is the likelier fault. One alarm instead of theirs.",
      todo: "Look at the manager's own uplink, firewall and name before any agent.",
      severity: "critical",
      opens: "3 intervals",
      resolves: "half of them are back",
    },
  ),
  signal(
    "site_down",
    { by: "signal" },
    {
      means:
        "All agents that share a gateway or a public address (two at least) fell silent together: the site, its uplink or its router.",
      todo: "Look at the site's router and uplink; its hosts hang under this alarm.",
      severity: "critical",
      opens: "3 intervals",
      resolves: "one is back",
    },
  ),
  signal(
    "agent_down",
    { by: "signal" },
    {
      means:
        "Nothing arrives from an agent any more. If its peers still shake hands with the host, only the agent stopped.",
      todo: "`systemctl status kattila-agent` on the host (or what runs it there); if the host is gone, its console.",
      severity: "warning; critical after 30 intervals, unless its peers' handshakes with it are fresh",
      opens: "10 intervals",
      resolves: "any report",
    },
  ),
  signal(
    "auth_failure",
    { quietMs: 15 * MINUTE_MS },
    {
      means:
        "5 messages in 5 minutes from one source whose MAC or signature did not hold (64 sources at most, then one for all).",
      todo: "An agent there with an old or wrong fleet key (`psk_error` in its healthcheck), or a stranger who tries.",
      severity: "warning",
      opens: "5 in 5 minutes",
      resolves: "15 quiet minutes",
    },
  ),
  signal(
    "psk_old",
    { by: "signal" },
    {
      means:
        "An agent still signs with a previous fleet key 2 hours after the change; one more rotation or two and it is locked out.",
      todo: "Look at that agent's key source: its resolver, its PSK file.",
      severity: "warning",
      opens: "2 hours after the change",
      resolves: "it uses the current key",
    },
  ),
];

/** An unusable source of the fleet key is waited for this long. */
export const PSK_PATIENCE_MS = 2 * 60 * MINUTE_MS;
/** A pending one is forgotten if nobody speaks of it any more. */
export const PSK_MEMORY_MS = 24 * 60 * MINUTE_MS;

/** The manager's own source is fed by alarms.ts; an agent's stands in its reports. */
const pskFetchFailed = rule(
  "psk_fetch_failed",
  {},
  (context) => (context.observation.report.delivery?.psk_error ? self(context) : []),
  (_subject, context, row) => {
    const error = context.observation.report.delivery?.psk_error ?? null;
    if (error === null) return null;
    const since = row === null ? context.now : sinceOf(row);
    const name = label(context.topology, context.agentId);
    // One bad record is bad for all: the manager's own alarm comes first, and this beneath it.
    const common = keyOf("psk_fetch_failed", subjects.manager);
    const first = context.live(common);
    const waits = (first !== null && !isOpen(first)) || context.now - since < PSK_PATIENCE_MS;
    return own(context, {
      severity: "warning",
      message: `${name} cannot get the fleet key from its source`,
      lookAt: "its resolver, or its key file; it goes on with the keys it knows",
      command: on(name)`curl -s http://127.0.0.1:5087/status/healthcheck`,
      causes: [common],
      details: { error },
      ...(waits && !open(row) ? { expiresAt: since + PSK_MEMORY_MS } : {}),
    });
  },
  {
    means:
      "The fleet key's source (TXT record, file) is unusable, for the manager or for an agent; the keys known so far serve on.",
    todo: "`dig TXT <name>` on that host: exactly one usable string, tagged `kattila-psk=` if there are others.",
    severity: "warning",
    opens: "2 hours; at once if several strings compete at the manager",
    resolves: "success",
  },
);

export const AGENT_RULES: readonly Rule[] = [
  ...SIGNAL_RULES,
  pskFetchFailed,
  idClone,
  replay,
  clockSkew,
  refused("relay_loop", "relayLoops", "they have been here before (a loop of relays)"),
  refused("hop_limit", "hopLimits", "they passed three relays already"),
  relayInUse,
  backlog,
  dataLost,
  collectorError,
  ifaceGone,
  ifaceDown,
  keyReuse,
  config,
  keyMismatch,
  addressDuplicate,
  mtuTooLarge,
  allowedIpsMoved,
  allowedIpsOverlap,
  allowedIpsUnrouted,
  peerRemoved,
];
