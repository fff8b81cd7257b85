// Owns the difference between two pictures of the network. Pure.
import type { Delta, TopologyDiff, TopologyResponse } from "../../shared/api.ts";

/** What moves all the time is no difference. */
const VOLATILE = new Set([
  "latest_handshake_at",
  "handshake_age_s",
  "a_to_b_bps",
  "b_to_a_bps",
  "a_to_b_loss",
  "b_to_a_loss",
  "rx_bytes",
  "tx_bytes",
  "reported_at",
]);

const stable = (key: string, value: unknown) => (VOLATILE.has(key) ? undefined : value);

function delta<T extends { id: string }>(before: readonly T[], after: readonly T[]): Delta<T> {
  const was = new Map(before.map((item) => [item.id, item]));
  const is = new Map(after.map((item) => [item.id, item]));
  const changed: Delta<T>["changed"] = [];
  for (const [id, item] of is) {
    const old = was.get(id);
    if (old === undefined) continue;
    const keys = Object.keys({ ...old, ...item }) as (keyof T & string)[];
    const fields = keys.filter(
      (key) => !VOLATILE.has(key) && JSON.stringify(old[key], stable) !== JSON.stringify(item[key], stable),
    );
    if (fields.length > 0) changed.push({ id, before: old, after: item, fields });
  }
  return {
    added: after.filter(({ id }) => !was.has(id)),
    removed: before.filter(({ id }) => !is.has(id)),
    changed,
  };
}

/** What was added, removed and changed between two pictures; counters, ages and rates do not count. */
export function diff(before: TopologyResponse, after: TopologyResponse): TopologyDiff {
  return {
    from: before.at,
    to: after.at,
    nodes: delta(before.nodes, after.nodes),
    edges: delta(before.edges, after.edges),
  };
}
