// Owns the difference of two moments as the dashboard shows it: what is marked on the map and how, what was there at the
// other moment alone, and the words for what is no change of state. Pure.
import type { EdgeEnd, TopologyDiff, TopologyEdge } from "../../shared/api.ts";
import { Picture } from "./picture.ts";
import { shortKey, UNKNOWN } from "./words.ts";

export const MARKS = ["added", "removed", "changed"] as const;
export type Mark = (typeof MARKS)[number];

export const MARK_WORDS: Record<Mark, string> = { added: "new", removed: "gone", changed: "changed" };
/** So that colour never stands alone. */
export const MARK_SIGN: Record<Mark, string> = { added: "+", removed: "−", changed: "Δ" };

/** What the map marks, by the id of a node or an edge. */
export function marksOf({ nodes, edges }: TopologyDiff): ReadonlyMap<string, Mark> {
  const marks = new Map<string, Mark>();
  for (const delta of [nodes, edges]) for (const mark of MARKS) for (const { id } of delta[mark]) marks.set(id, mark);
  return marks;
}

/** The picture shown, and with it what only the other moment had: what is gone, or not there yet, has its place on the map. */
export function withBoth(shown: Picture, { nodes, edges }: TopologyDiff): Picture {
  const missing = <T extends { id: string }>(known: ReadonlyMap<string, T>, others: readonly T[]) =>
    others.filter(({ id }) => !known.has(id));
  return new Picture({
    nodes: [...shown.nodes.values(), ...missing(shown.nodes, [...nodes.added, ...nodes.removed])],
    edges: [...shown.edges.values(), ...missing(shown.edges, [...edges.added, ...edges.removed])],
    networks: [...shown.networks.values()],
    at: shown.at,
  });
}

const END_FACTS: readonly [name: string, of: (end: EdgeEnd) => string | null][] = [
  ["endpoint", (end) => end.endpoint],
  ["key", (end) => (end.public_key === null ? null : shortKey(end.public_key))],
  ["interface", (end) => end.interface],
  ["AllowedIPs", (end) => (end.allowed_ips === null ? null : end.allowed_ips.join(", ") || "none")],
  ["keepalive", (end) => `${end.persistent_keepalive_s ?? 0} s`],
  ["NAT", (end) => (end.nat ? "yes" : "no")],
];
const FIELD_WORDS: Partial<Record<keyof TopologyEdge, string>> = {
  network: "network",
  rides_on: "what it rides on",
  observed_by: "who sees it",
};

/** What an edge of the same state differs in. `label` names a node. */
export function changeWords(
  { before, after, fields }: TopologyDiff["edges"]["changed"][number],
  label: (node: string) => string,
): string[] {
  const words: string[] = [];
  for (const side of ["a", "b"] as const) {
    const [was, is] = [before[side], after[side]];
    if (was.node !== is.node) words.push(`${label(was.node)} is ${label(is.node)}`);
    for (const [name, of] of END_FACTS) {
      const [from, to] = [of(was), of(is)];
      if (from !== to) words.push(`${name} of ${label(is.node)} ${from ?? UNKNOWN} → ${to ?? UNKNOWN}`);
    }
  }
  for (const field of fields) {
    const name = FIELD_WORDS[field as keyof TopologyEdge];
    if (name !== undefined) words.push(name);
  }
  if (before.reason !== after.reason && after.reason !== null) words.push(after.reason);
  if (words.length === 0)
    words.push(fields.includes("changed_at") ? "broke and came back in between" : fields.join(", "));
  return words;
}
