// Owns the comparison of what is so with what history has, by a hash: whole bodies in memory would double it. Pure.
import type { TopologyEdge } from "../../shared/api.ts";
import { isQuietMove } from "./state.ts";

/** cyrb53 of the JSON text: 53 bits, so that two versions of one thing never look alike by chance. */
export function hashOf(body: unknown): number {
  const text = JSON.stringify(body);
  let one = 0xdeadbeef;
  let two = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    one = Math.imul(one ^ c, 2654435761);
    two = Math.imul(two ^ c, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(two ^ (two >>> 13), 3266489909);
  two = Math.imul(two ^ (two >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return 4294967296 * (2097151 & two) + (one >>> 0);
}

/**
 * As hashOf, of what makes a row of an edge's history: moves between up, late and idle do not (2-topology.md, History), nor
 * the reason that only an idle edge has. A cause that is a fault counts in any state.
 */
export function edgeHash(edge: TopologyEdge): number {
  if (!isQuietMove(edge.state, "up")) return hashOf(edge);
  const isFault = edge.cause !== null && edge.cause !== "cannot_start_a" && edge.cause !== "cannot_start_b";
  return hashOf(isFault ? { ...edge, state: "up" } : { ...edge, state: "up", reason: null, cause: null });
}
