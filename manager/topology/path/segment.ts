// Owns who is on the other side of an interface that is no WireGuard: the agents on the same wire by evidence, and the
// far end of a tunnel. Pure.
import type { EdgeEnd } from "../../../shared/api.ts";
import type { Interface } from "../../../shared/report.ts";
import type { TopologyReader } from "../../model.ts";

export type Place = { node: string; interface: string };

/** Kinds with exactly one far end, which gets every packet whatever its address. */
const POINT_TO_POINT: readonly Interface["kind"][] = ["gre", "ipip", "sit", "tun"];

const isAt = (end: EdgeEnd, place: Place) => end.node === place.node && end.interface === place.interface;

/** Everyone that edges of these layers join with a place, itself left out: what one neighbour saw holds for all. */
function segmentOf(topology: TopologyReader, start: Place): Place[] {
  const members = new Map<string, Place>([[`${start.node} ${start.interface}`, start]]);
  for (const place of members.values()) {
    for (const edge of topology.edgesOf(place.node)) {
      if (edge.layer !== "physical" && edge.layer !== "tunnel") continue;
      const far = isAt(edge.a, place) ? edge.b : isAt(edge.b, place) ? edge.a : null;
      if (far === null || far.interface === null) continue;
      members.set(`${far.node} ${far.interface}`, { node: far.node, interface: far.interface });
    }
  }
  return [...members.values()].slice(1);
}

/** The agent and interface that a packet to `nextHop` reaches out of `from`; null: nobody that reports. */
export function neighborAt(
  topology: TopologyReader,
  from: Place,
  kind: Interface["kind"],
  nextHop: string,
): Place | null {
  const members = segmentOf(topology, from);
  if (POINT_TO_POINT.includes(kind)) return members.length === 1 ? members[0]! : null;
  // Linux answers ARP for any address of the host, whatever interface has it; who has it on the wire itself goes first.
  const owners = topology.ownersOfAddress(nextHop);
  return (
    members.find((place) => owners.some((own) => own.agent_id === place.node && own.interface === place.interface)) ??
    members.find((place) => owners.some((own) => own.agent_id === place.node)) ??
    null
  );
}
