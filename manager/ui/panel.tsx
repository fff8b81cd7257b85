// Owns the side panel of an edge or a node: both ends' views side by side, rates and history, what it rides on, and lines to copy.
import type { Child } from "hono/jsx";
import { useEffect, useLayoutEffect, useRef, useState } from "hono/jsx/dom";
import type {
  AgentResponse,
  AgentSummary,
  EdgeEnd,
  EdgeHistory,
  TopologyEdge,
  TopologyNode,
} from "../../shared/api.ts";
import { on } from "../../shared/command.ts";
import { ask, type Client, type Hindrance, onlyAdmin, words } from "./client.ts";
import { Command, Complaint, Copy, EdgeLink, NodeLink, StateWord, StatusWord } from "./parts.tsx";
import type { Picture } from "./picture.ts";
import { isProblem } from "./picture.ts";
import { href } from "./route.ts";
import { Sparkline } from "./sparkline.tsx";
import {
  ago,
  bytes,
  clock,
  codeWords,
  count,
  duration,
  LAYER_WORDS,
  localTimes,
  percent,
  rate,
  shortKey,
  skew,
  UNKNOWN,
} from "./words.ts";
import { wgShow } from "./wg_show.ts";

/** What an answer is until it is there. */
type Asked<T> = { is: "waiting" } | { is: "there"; value: T } | { is: "failed"; why: string };

/** Asks for a path, anew when it or `round` changes; an answer to an older question is dropped. */
export function useAsked<T>(path: string | null, round = 0): Asked<T> {
  const [answer, setAnswer] = useState<Asked<T> & { path?: string }>({ is: "waiting" });
  useEffect(() => {
    if (path === null) return;
    let current = true;
    ask<T>(path).then(
      (value) => current && setAnswer({ is: "there", value, path }),
      (error) => current && setAnswer({ is: "failed", why: words(error), path }),
    );
    return () => void (current = false);
  }, [path, round]);
  return answer.path === path ? answer : { is: "waiting" };
}

export function Panel(props: { title: string; subtitle: string; onClose(): void; children: unknown }) {
  const onClose = useRef(props.onClose);
  onClose.current = props.onClose;
  // As soon as it stands, and one listener as long as it does: an effect after the frame, anew at every second's ages, would
  // leave moments in which the key does nothing.
  useLayoutEffect(() => {
    const close = (event: KeyboardEvent) => {
      if (event.key === "Escape") onClose.current!();
    };
    addEventListener("keydown", close);
    return () => removeEventListener("keydown", close);
  }, []);
  return (
    <aside class="panel" aria-label={props.title}>
      <header>
        <div>
          <h2>{props.title}</h2>
          <p class="muted small">{props.subtitle}</p>
        </div>
        <button type="button" class="push" onClick={props.onClose} aria-label="Close">
          ✕
        </button>
      </header>
      {props.children as never}
    </aside>
  );
}

/** Too long for its column, it breaks before the port: half a port is another port. */
function endpoint(end: EdgeEnd): Child {
  if (end.endpoint === null) return "nobody knows one";
  const [, address, port] = /^(.*)(:\d+)$/.exec(end.endpoint) ?? ["", end.endpoint, ""];
  return (
    <>
      {address}
      <wbr />
      <span class="nowrap">{port}</span>
      {end.nat ? " (NAT)" : ""}
    </>
  );
}

/** A large segment's node and its lines are drawn in place of the links between its hosts: the manager stores none of them. */
function hasHistory(edge: TopologyEdge): boolean {
  return ![edge.a, edge.b].some(({ node }) => node.startsWith("segment:"));
}

export function EdgePanel({
  picture,
  edge,
  now,
  past,
  onClose,
}: {
  picture: Picture;
  edge: TopologyEdge;
  now: number;
  past: boolean;
  onClose(): void;
}) {
  // A minute's grain: the sparkline needs no more, and the manager is asked no oftener.
  const history = useAsked<EdgeHistory>(
    hasHistory(edge) ? `/status/edges/${encodeURIComponent(edge.id)}/history` : null,
    Math.floor(now / 60_000),
  );
  const ends = [edge.a, edge.b];
  const row = (name: string, of: (end: EdgeEnd) => Child, mono = false) => (
    <tr>
      <th scope="row">{name}</th>
      {ends.map((end, i) => (
        <td key={i} class={mono ? "mono" : ""}>
          {of(end) ?? UNKNOWN}
        </td>
      ))}
    </tr>
  );
  const wireguard = edge.layer === "wireguard";
  return (
    <Panel
      title={picture.edgeLabel(edge)}
      subtitle={`${LAYER_WORDS[edge.layer]}${edge.network === null ? "" : ` · ${picture.networks.get(edge.network)?.name ?? ""}`}`}
      onClose={onClose}
    >
      <section>
        <p>
          <StateWord state={edge.state} />{" "}
          <span class="muted">
            since {clock(edge.changed_at, now)} ({ago(edge.changed_at, now)})
          </span>
        </p>
        {edge.reason === null ? null : <p>{edge.reason}</p>}
        {isProblem(edge) && edge.a.interface !== null ? (
          <Command text={on(picture.label(edge.a.node))`wg show ${edge.a.interface}`} />
        ) : null}
        <p class="small" style={{ "margin-top": "8px" }}>
          <a href={href("path", { from: edge.a.node, to: edge.b.node })}>Trace the path between the two</a>
        </p>
      </section>
      <section>
        <h3>Both ends' views</h3>
        <table>
          <thead>
            <tr>
              <th>
                <span class="hidden-text">Fact</span>
              </th>
              {ends.map((end, i) => (
                <th key={i} scope="col">
                  <NodeLink picture={picture} id={end.node} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {row("Interface", (end) => end.interface, true)}
            {wireguard ? row("Handshake", (end) => ago(end.latest_handshake_at, now)) : null}
            {row("Endpoint", endpoint, true)}
            {wireguard
              ? row(
                  "AllowedIPs for the other",
                  (end) => (end.allowed_ips === null ? "does not list it" : end.allowed_ips.join(", ") || "none"),
                  true,
                )
              : null}
            {wireguard
              ? row("Keepalive", (end) =>
                  end.persistent_keepalive_s === null ? "off" : `${end.persistent_keepalive_s} s`,
                )
              : null}
            {row("Received", (end) => bytes(end.rx_bytes))}
            {row("Sent", (end) => bytes(end.tx_bytes))}
            {wireguard
              ? row("Public key", (end) => (end.public_key === null ? null : shortKey(end.public_key)), true)
              : null}
            {row("Reported", (end) => ago(end.reported_at, now))}
          </tbody>
        </table>
      </section>
      <section>
        <h3>Traffic</h3>
        <table>
          <tbody>
            <Traffic
              from={picture.label(edge.a.node)}
              to={picture.label(edge.b.node)}
              bps={edge.a_to_b_bps}
              loss={edge.a_to_b_loss}
            />
            <Traffic
              from={picture.label(edge.b.node)}
              to={picture.label(edge.a.node)}
              bps={edge.b_to_a_bps}
              loss={edge.b_to_a_loss}
            />
          </tbody>
        </table>
        {!hasHistory(edge) ? (
          <p class="muted small">No history is kept of a host's line to its segment.</p>
        ) : history.is === "there" ? (
          <Sparkline samples={history.value.samples} now={now} />
        ) : (
          <p class="muted small">{history.is === "failed" ? history.why : "Asking for its history …"}</p>
        )}
      </section>
      <section>
        <h3>Rides on</h3>
        {edge.rides_on.length === 0 ? (
          <p class="muted small">{UNKNOWN}</p>
        ) : (
          <ul class="small">
            {edge.rides_on.map((item) => (
              <li key={`${item.node} ${item.interface}`}>
                {picture.label(item.node)} <span class="mono">{item.interface}</span>
                {item.edge === null || !picture.edges.has(item.edge) ? (
                  ", beyond what agents see"
                ) : (
                  <>
                    {" on "}
                    <EdgeLink picture={picture} edge={picture.edges.get(item.edge)!} />
                  </>
                )}
              </li>
            ))}
          </ul>
        )}
        <p class="muted small">
          Seen by {edge.observed_by.map((id) => picture.label(id)).join(", ") || "nobody"}; first seen{" "}
          {clock(edge.first_seen_at, now)}
        </p>
      </section>
      {history.is === "there" ? <States history={history.value} now={now} /> : null}
      {wireguard && !past ? <WgLines picture={picture} edge={edge} now={now} /> : null}
    </Panel>
  );
}

function Traffic({ from, to, bps, loss }: { from: string; to: string; bps: number | null; loss: number | null }) {
  return (
    <tr>
      <th scope="row">
        {from} → {to}
      </th>
      <td class="number nowrap">{rate(bps)}</td>
      <td class="number nowrap">{loss === null ? <span class="muted">loss unknown</span> : `${percent(loss)} lost`}</td>
    </tr>
  );
}

/** Newest first; a link that flaps has hundreds. */
const STATES_SHOWN = 12;

function States({ history, now }: { history: EdgeHistory; now: number }) {
  const states = [...history.states].reverse();
  return (
    <section>
      <h3>History, last 24 hours</h3>
      <ul class="small">
        {states.slice(0, STATES_SHOWN).map((span) => (
          <li key={span.from_at}>
            <span class="muted">
              {clock(span.from_at, now)} – {span.until_at === null ? "now" : clock(span.until_at, now)}
            </span>{" "}
            <StateWord state={span.state} /> {span.reason ?? ""}{" "}
            <a href={href("timeline", { at: span.from_at })} aria-label={`The network at ${clock(span.from_at, now)}`}>
              look
            </a>
          </li>
        ))}
        {history.events.slice(0, 8).map((event) => (
          <li key={event.id}>
            <span class="muted">
              {clock(event.at, now)} {codeWords(event.code)}
            </span>{" "}
            {localTimes(event.message, now)}
          </li>
        ))}
      </ul>
      {states.length > STATES_SHOWN ? <p class="muted small">and {states.length - STATES_SHOWN} earlier</p> : null}
    </section>
  );
}

function WgLines({ picture, edge, now }: { picture: Picture; edge: TopologyEdge; now: number }) {
  const sides = [
    { self: edge.a, other: edge.b },
    { self: edge.b, other: edge.a },
  ].filter(({ self }) => self.reported_at !== null);
  if (sides.length === 0) return null;
  return (
    <section>
      <h3>As wg show prints it</h3>
      {sides.map(({ self, other }) => {
        const text = wgShow(self, other, now);
        return (
          <div key={self.node}>
            <div class="row">
              <span class="small">on {picture.label(self.node)}</span>
              <span class="push">
                <Copy text={text} />
              </span>
            </div>
            <pre tabIndex={0}>{text}</pre>
          </div>
        );
      })}
    </section>
  );
}

/** Links of a hub that are listed at once. */
const LINKS_SHOWN = 60;

/** Whether somebody expects a foreign peer to be there; the stream brings what was changed. */
function Expected({ node, client }: { node: TopologyNode; client: Client }) {
  const [problem, complain] = useState<Hindrance | null>(null);
  const expected = node.expected === true;
  const mark = async () => {
    try {
      await client.expectPeer(node.wireguard_keys[0]!, !expected);
      complain(null);
    } catch (error) {
      complain(onlyAdmin(error, "mark it"));
    }
  };
  return (
    <>
      <p class="row">
        <span>
          {expected ? "Expected to be there: its silence is a warning." : "Its silence is an info: nobody expects it."}
        </span>
        <button type="button" class="push" onClick={() => void mark()}>
          {expected ? "Expect no longer" : "Expect it"}
        </button>
      </p>
      <Complaint problem={problem} client={client} />
    </>
  );
}

export function NodePanel({
  picture,
  node,
  agent,
  client,
  now,
  past,
  onClose,
}: {
  picture: Picture;
  node: TopologyNode;
  agent: AgentSummary | null;
  client: Client;
  now: number;
  past: boolean;
  onClose(): void;
}) {
  const detail = useAsked<AgentResponse>(
    node.kind === "agent" ? `/status/agents/${encodeURIComponent(node.id)}` : null,
    Math.floor(now / 30_000),
  );
  const rank = (edge: TopologyEdge) => (isProblem(edge) ? 0 : edge.state === "late" ? 1 : 2);
  const edges = [...picture.edgesOf(node.id)].sort((x, y) => rank(x) - rank(y));
  const report = detail.is === "there" ? detail.value.report : null;
  const kind =
    node.kind === "foreign"
      ? "foreign peer: a key that no agent owns"
      : node.kind === "segment"
        ? "network segment"
        : "agent";
  return (
    <Panel title={picture.label(node.id)} subtitle={kind} onClose={onClose}>
      <section>
        <p>
          {node.kind === "segment" ? null : <StatusWord status={node.status} />}{" "}
          <span class="muted">
            {agent === null ? "" : `last seen ${ago(agent.last_seen_at, now)}`}
            {node.nat ? " · behind NAT" : ""}
            {node.exit ? " · exit" : ""}
          </span>
        </p>
        {node.reason === null ? null : <p>{node.reason}</p>}
        {node.kind === "foreign" && !past ? <Expected node={node} client={client} /> : null}
        {node.kind === "agent" && node.status !== "online" ? (
          <Command text={on(picture.label(node.id))`systemctl status kattila-agent`} />
        ) : null}
        <p class="small" style={{ "margin-top": "8px" }}>
          {node.kind === "agent" ? <a href={href("path", { from: node.id })}>Trace a path from here</a> : null}
        </p>
      </section>
      <section>
        <h3>Facts</h3>
        <table>
          <tbody>
            <Fact name="Addresses" value={node.addresses.join(", ") || "none"} mono />
            {node.attached.length === 0 ? null : (
              <Fact name="Routes for others" value={node.attached.join(", ")} mono />
            )}
            <Fact
              name="Networks"
              value={node.networks.map((id) => picture.networks.get(id)?.name ?? id).join(", ") || "none"}
              mono
            />
            {node.wireguard_keys.map((key) => (
              <Fact key={key} name="Public key" value={key} mono />
            ))}
            {agent === null ? null : (
              <>
                <Fact
                  name="Reports"
                  value={
                    agent.via === null
                      ? "none yet"
                      : agent.via === "direct"
                        ? "directly"
                        : `by relay: ${agent.relay_path.map((id) => picture.label(id)).join(" → ")}`
                  }
                />
                <Fact
                  name="Agent"
                  value={`${agent.agent_version}, every ${agent.interval_s ?? "?"} s, report ${agent.tick ?? "none"}`}
                />
                <Fact
                  name="Load"
                  value={agent.load === null ? UNKNOWN : agent.load.map((value) => value.toFixed(2)).join("  ")}
                />
                <Fact name="Clock" value={skew(agent.skew_ms)} />
              </>
            )}
            {report?.system == null ? null : (
              <>
                <Fact name="Kernel" value={`${report.system.kernel} ${report.system.arch}`} />
                <Fact
                  name="Up for"
                  value={report.system.uptime_s === null ? UNKNOWN : duration(report.system.uptime_s * 1000)}
                />
                <Fact
                  name="Memory free"
                  value={`${bytes(report.system.memory_available_bytes)} of ${bytes(report.system.memory_total_bytes)}`}
                />
              </>
            )}
            <Fact name="Id" value={node.id} mono />
          </tbody>
        </table>
      </section>
      <section>
        <h3>{count(edges.length, "link")}</h3>
        <ul class="small">
          {edges.slice(0, LINKS_SHOWN).map((edge) => (
            <li key={edge.id}>
              <StateWord state={edge.state} />{" "}
              <a href={href("map", { edge: edge.id })}>
                {picture.label(edge.a.node === node.id ? edge.b.node : edge.a.node)}
              </a>{" "}
              <span class="muted">
                {edge.layer === "wireguard"
                  ? edge.a.node === node.id
                    ? edge.a.interface
                    : edge.b.interface
                  : LAYER_WORDS[edge.layer]}
                {edge.reason === null ? "" : ` · ${edge.reason}`}
              </span>
            </li>
          ))}
        </ul>
        {edges.length > LINKS_SHOWN ? (
          <p class="muted small">and {edges.length - LINKS_SHOWN} more: see the matrix</p>
        ) : null}
      </section>
    </Panel>
  );
}

function Fact({ name, value, mono = false }: { name: string; value: string; mono?: boolean }) {
  return (
    <tr>
      <th scope="row" class="nowrap">
        {name}
      </th>
      <td class={mono ? "mono" : ""}>{value}</td>
    </tr>
  );
}
