// Owns the agents' table: status, way, version, load, last seen; sorted and filtered, all in the URL.
import { useState } from "hono/jsx/dom";
import type { AgentSummary } from "../../shared/api.ts";
import { StatusWord } from "./parts.tsx";
import { href, withQuery } from "./route.ts";
import type { State } from "./store.ts";
import { ago, count, skew, UNKNOWN } from "./words.ts";

/** Rows made at once; two thousand would hold the page up at every second's ages. */
const ROWS = 200;
const STATUS_ORDER = { down: 0, late: 1, online: 2 };

/** A host without a name, or with one that nobody sees, goes by its id. */
function nameOf(agent: AgentSummary): string {
  return agent.hostname.trim() === "" ? agent.agent_id : agent.hostname;
}

type Column = { key: string; title: string; number?: boolean; of(agent: AgentSummary): string | number | null };

export const COLUMNS: readonly Column[] = [
  { key: "name", title: "Host", of: nameOf },
  { key: "status", title: "Status", of: (agent) => STATUS_ORDER[agent.status] },
  { key: "seen", title: "Last seen", of: (agent) => -(agent.last_seen_at ?? 0) },
  { key: "via", title: "Reports", of: (agent) => agent.via },
  { key: "addresses", title: "Addresses", of: (agent) => agent.addresses[0] ?? null },
  {
    key: "links",
    title: "Peers",
    number: true,
    of: (agent) => agent.wireguard.reduce((sum, item) => sum + (item.peers ?? 0), 0),
  },
  { key: "load", title: "Load", number: true, of: (agent) => agent.load?.[0] ?? null },
  { key: "waiting", title: "Waiting", number: true, of: (agent) => agent.outbox_reports },
  {
    key: "skew",
    title: "Clock",
    number: true,
    of: (agent) => (agent.skew_ms === null ? null : Math.abs(agent.skew_ms)),
  },
  { key: "version", title: "Version", of: (agent) => agent.agent_version },
];

/** Agents that the words fit, in a column's order; unknown comes last whichever way it goes. Pure. */
export function arrange(
  agents: readonly AgentSummary[],
  words: string,
  key: string,
  descending: boolean,
): AgentSummary[] {
  const wanted = words.trim().toLowerCase();
  const fits = (agent: AgentSummary) =>
    wanted === "" ||
    [
      agent.hostname,
      agent.agent_id,
      agent.status,
      agent.agent_version,
      agent.via ?? "",
      ...agent.addresses,
      ...agent.wireguard.map((item) => item.public_key ?? ""),
    ].some((text) => text.toLowerCase().includes(wanted));
  const column = COLUMNS.find((item) => item.key === key) ?? COLUMNS[1]!;
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return agents.filter(fits).sort((x, y) => {
    const [a, b] = [column.of(x), column.of(y)];
    if (a === null || b === null) return a === b ? compare(nameOf(x), nameOf(y)) : a === null ? 1 : -1;
    const order = typeof a === "number" && typeof b === "number" ? a - b : compare(String(a), String(b));
    return (descending ? -order : order) || compare(nameOf(x), nameOf(y));
  });
}

export function AgentsView({ state, now }: { state: State; now: number }) {
  const { agents, route, picture } = state;
  const [rows, setRows] = useState(ROWS);
  const { q: words = "", sort = "status", desc } = route.query;
  const shown = arrange(agents, words, sort, desc === "1");
  const counts = (["online", "late", "down"] as const).map((status) => ({
    status,
    number: agents.filter((agent) => agent.status === status).length,
  }));
  return (
    <div class="page">
      <div class="row" style={{ "margin-bottom": "12px" }}>
        <h1 class="title">{count(agents.length, "agent")}</h1>
        {counts.map(({ status, number }) => (
          <span key={status}>
            {number} <StatusWord status={status} />
          </span>
        ))}
        <input
          class="push"
          type="search"
          placeholder="Filter: name, address, key, status"
          aria-label="Filter agents"
          value={words}
          onInput={(event: Event) =>
            location.replace(withQuery(route, { q: (event.target as HTMLInputElement).value || null }))
          }
        />
      </div>
      <div class="card scroll" tabIndex={0} role="region" aria-label="Agents">
        <table class="stack" role="table">
          <thead role="rowgroup">
            <tr role="row">
              {COLUMNS.map((column) => {
                const on = column.key === sort;
                const down = on && desc === "1";
                return (
                  <th
                    key={column.key}
                    scope="col"
                    role="columnheader"
                    class={column.number === true ? "number" : ""}
                    aria-sort={on ? (down ? "descending" : "ascending") : undefined}
                  >
                    <button
                      type="button"
                      onClick={() =>
                        location.replace(withQuery(route, { sort: column.key, desc: on && !down ? "1" : null }))
                      }
                    >
                      {column.title}
                      <span aria-hidden="true">{on ? (down ? " ↓" : " ↑") : ""}</span>
                    </button>
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody role="rowgroup">
            {shown.slice(0, rows).map((agent) => (
              <tr key={agent.agent_id} role="row">
                <td role="cell" class="clip wide">
                  <a href={href("map", { node: agent.agent_id })}>{nameOf(agent)}</a>
                  {agent.blocked ? <span class="bad"> blocked</span> : null}
                </td>
                <td role="cell">
                  <StatusWord status={agent.status} />
                </td>
                <td role="cell" class="nowrap">
                  {ago(agent.last_seen_at, now)}
                </td>
                <td role="cell" class="clip">
                  {agent.via === null
                    ? "none yet"
                    : agent.via === "direct"
                      ? "directly"
                      : `by relay ${agent.relay_path.map((id) => picture.label(id)).join(" → ")}`}
                </td>
                <td role="cell" class="clip mono">
                  {agent.addresses.slice(0, 3).join(", ")}
                  {agent.addresses.length > 3 ? ` and ${agent.addresses.length - 3} more` : ""}
                </td>
                <td role="cell" data-name="Peers" class="number">
                  {agent.wireguard.reduce((sum, item) => sum + (item.peers ?? 0), 0)}
                </td>
                <td role="cell" data-name="Load" class="number">
                  {agent.load?.[0]?.toFixed(2) ?? UNKNOWN}
                </td>
                <td role="cell" data-name="Waiting" class="number">
                  {agent.outbox_reports ?? UNKNOWN}
                  {(agent.dropped ?? 0) > 0 ? <span class="bad"> {agent.dropped} lost</span> : null}
                </td>
                <td role="cell" data-name="Clock" class="number nowrap">
                  {skew(agent.skew_ms)}
                </td>
                <td role="cell" data-name="Version" class="mono">
                  {agent.agent_version}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown.length === 0 ? <p class="muted">No agent fits.</p> : null}
      {shown.length > rows ? (
        <p style={{ "margin-top": "10px" }}>
          <button type="button" onClick={() => setRows(rows + 1000)}>
            Show more ({shown.length - rows} left)
          </button>
        </p>
      ) : null}
    </div>
  );
}
