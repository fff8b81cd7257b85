// Owns what the silence of agents means together: the manager is cut off, a site is, or each is alone. Pure.
import type { TopologyReader } from "../model.ts";

/** An agent as far as silence goes. */
export type Contact = {
  agentId: string;
  heardAt: number;
  intervalMs: number;
  /** How long nothing came from it; 0 while that does not count yet. */
  silentMs: number;
  /** It was down before all this: its own alarm is open. */
  wasDown: boolean;
};

/** At this many of its intervals an agent counts as silent with others (issue 5: within 3 intervals). */
export const SILENT_INTERVALS = 3;
/** Those whose next report is overdue when the first reaches SILENT_INTERVALS fell silent together with it. */
export const OVERDUE_INTERVALS = 2;
const ISOLATED_AGENTS = 3;
const SITE_AGENTS = 2;

function overdue(contact: Contact): boolean {
  return contact.silentMs >= OVERDUE_INTERVALS * contact.intervalMs;
}

/** Of the overdue, those whose last words lie within 3 intervals of the last of them; [] before one is silent. */
function together(contacts: readonly Contact[]): Contact[] {
  const silent = contacts.filter((contact) => !contact.wasDown && overdue(contact));
  if (!silent.some((contact) => contact.silentMs >= SILENT_INTERVALS * contact.intervalMs)) return [];
  const last = Math.max(...silent.map((contact) => contact.heardAt));
  return silent.filter((contact) => last - contact.heardAt <= SILENT_INTERVALS * contact.intervalMs);
}

/** The agents that fell silent together when they are over half of those that were there; else null. */
export function isolated(contacts: readonly Contact[]): Contact[] | null {
  const silent = together(contacts);
  const there = contacts.filter((contact) => !contact.wasDown).length;
  return silent.length >= ISOLATED_AGENTS && silent.length * 2 > there ? silent : null;
}

/**
 * What an agent shares with the others of its site: its default gateways (by address and MAC: 192.168.1.1 is everywhere)
 * and the public addresses at which peers see it behind NAT.
 */
export function siteKeys(agentId: string, topology: TopologyReader): string[] {
  const keys = new Set<string>();
  const report = topology.effective(agentId);
  for (const route of report?.routes ?? []) {
    if (route.gateway === null || (route.destination !== "0.0.0.0/0" && route.destination !== "::/0")) continue;
    const mac = report?.neighbors?.find((neighbor) => neighbor.address === route.gateway)?.mac;
    if (route.gateway.startsWith("fe80:") && mac === undefined) continue;
    keys.add(`gateway ${route.gateway}${mac === undefined ? "" : ` (${mac})`}`);
  }
  for (const address of topology.natAddressesOf(agentId)) keys.add(`address ${address}`);
  return [...keys];
}

/** Sites all of whose agents fell silent together, each with its members; a set of members within another's is no site of its own. */
export function sitesDown(
  contacts: readonly Contact[],
  keysOf: (agentId: string) => readonly string[],
): { key: string; members: Contact[] }[] {
  const silent = new Set(together(contacts));
  if (silent.size < SITE_AGENTS) return [];
  const members = new Map<string, Contact[]>();
  for (const contact of contacts) {
    if (contact.wasDown) continue;
    for (const key of keysOf(contact.agentId)) members.set(key, [...(members.get(key) ?? []), contact]);
  }
  const found: { key: string; members: Contact[] }[] = [];
  for (const [key, of] of [...members].sort(([a, ofA], [b, ofB]) => ofB.length - ofA.length || (a < b ? 1 : -1))) {
    if (of.length < SITE_AGENTS || !of.every((contact) => silent.has(contact))) continue;
    if (found.some((larger) => of.every((contact) => larger.members.includes(contact)))) continue;
    found.push({ key, members: of });
  }
  return found;
}
