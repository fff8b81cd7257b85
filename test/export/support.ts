// Owns the topology that the export tests draw: every state and layer, and names that a hostile host may have.
import { EDGE_STATES, LAYERS, type TopologyEdge, type TopologyResponse } from "../../shared/api.ts";
import { edge, node, T0 } from "../store/support.ts";

/** Kernel names may hold quotes, markup and backslashes; hostnames anything but NUL. */
export const HOSTILE = [
  `<b>&"x`,
  `"]; evil -- node; "`,
  `back\\slash\\`,
  `\\N \\G \\l`,
  `new\nline\r\ttab`,
  `#quot; #35; &lt;i&gt; &amp;`,
  "`**markdown**`",
  `1. list`,
  `- item`,
  `--> end; subgraph click`,
  `|pipe| {brace} (paren) [bracket]`,
  `%% comment %%{init: {}}%%`,
  `\u2028\u0007\u009f`,
  `evil\u202egnp.exe\u2066\u200b`,
  `naïve ñandú 网络`,
  "",
];

export function picture(): TopologyResponse {
  const nodes = [
    ...HOSTILE.map((label, i) => node(`host-${i}`, { label, addresses: ["10.0.0.1", "10.0.0.1", "10.0.0.2"] })),
    node("wg:abc+/=", { kind: "foreign", label: "192.0.2.1:51820", status: "unknown" }),
    node("segment:1", { kind: "segment", label: "192.168.1.0/24", status: "unknown" }),
    node("late", { status: "late" }),
    node("down", { status: "down", reason: "agent stopped, host alive" }),
  ];
  const edges: TopologyEdge[] = LAYERS.flatMap((layer, l) =>
    EDGE_STATES.map((state, s) => {
      const i = l * EDGE_STATES.length + s;
      const made = edge(`e${i}`, { layer, state, reason: s % 2 === 0 ? null : HOSTILE[i % HOSTILE.length]! });
      made.a.node = nodes[i % nodes.length]!.id;
      made.b.node = nodes[(i + 1 + l) % nodes.length]!.id;
      made.a.handshake_age_s = layer === "wireguard" ? s : null;
      made.a_to_b_bps = s * 8;
      made.a_to_b_loss = s / 100;
      return made;
    }),
  );
  return { nodes, edges, networks: [{ id: "n1", name: '10.0.0.0/24"', prefixes: [], nodes: 3, parts: 1 }], at: T0 };
}
