// Owns the path's view: from, to, the hops both ways with what decided each, and the hop that fails with its reason in words.
import { useState } from "hono/jsx/dom";
import type { PathHop, PathResponse, PathTrace, Verdict } from "../../shared/api.ts";
import { LAYERS_ALL } from "./filter.ts";
import type { Tone } from "./look.ts";
import { NO_FOCUS } from "./paint_map.ts";
import { useAsked } from "./panel.tsx";
import { MapCanvas, NodeLink, StateWord } from "./parts.tsx";
import type { Picture } from "./picture.ts";
import { href } from "./route.ts";
import type { State } from "./store.ts";
import { shortKey } from "./words.ts";

export const VERDICT_WORDS: Record<Verdict, string> = {
  delivered: "delivered",
  blocked: "blocked by a route",
  not_forwarding: "a host does not forward",
  no_route: "no route",
  no_peer: "no peer takes this address",
  source_filtered: "the receiver refuses the source",
  rp_filtered: "the reverse path filter drops it",
  edge_down: "a link on the way is broken",
  foreign: "it leaves what agents see",
  loop: "it goes round in circles",
  ttl: "too many hops",
  unknown: "cannot be told",
};

export function verdictTone(verdict: Verdict): Tone {
  if (verdict === "delivered") return "good";
  return verdict === "unknown" || verdict === "foreign" ? "warn" : "bad";
}

const BROKEN: ReadonlySet<string> = new Set(["stale", "never", "lossy", "down", "one_sided", "key_mismatch"]);

/** Index of the hop where it ends: the broken edge's, else the last; null: it arrives. Pure. */
export function failedHop(trace: PathTrace): number | null {
  if (trace.verdict === "delivered") return null;
  if (trace.verdict === "edge_down") {
    const index = trace.hops.findIndex(({ state }) => state !== null && BROKEN.has(state));
    if (index >= 0) return index;
  }
  return trace.hops.length - 1;
}

/** Nodes that the map of a path shows: where it was to begin and end, its hops, and both ends of each link it takes. Pure. */
export function placesOf(trace: PathTrace, ends: readonly string[], picture: Picture): string[] {
  const links = trace.hops.flatMap(({ edge }) => (edge === null ? [] : (picture.edges.get(edge) ?? [])));
  const ids = [...ends, ...trace.hops.map(({ node }) => node), ...links.flatMap(({ a, b }) => [a.node, b.node])];
  return [...new Set(ids)].filter((id) => picture.nodes.has(id));
}

/** What a person typed, as the API wants it: an agent's id by its name, else the address as it is. Pure. */
export function endpointOf(picture: Picture, text: string): string {
  const wanted = text.trim().toLowerCase();
  for (const node of picture.nodes.values()) {
    if (node.kind !== "agent") continue;
    if (node.label.toLowerCase() === wanted || node.id === wanted) return node.id;
  }
  return text.trim();
}

export function PathView({ state, now }: { state: State; now: number }) {
  const { picture, route } = state;
  const { query } = route;
  // A bookmark may name hosts as a person does.
  const [from, to] = [endpointOf(picture, query["from"] ?? ""), endpointOf(picture, query["to"] ?? "")];
  const isKnown = picture.nodes.get(from)?.kind === "agent";
  const [round, setRound] = useState(0);
  const asked = useAsked<PathResponse>(
    !isKnown || to === "" ? null : `/status/path?from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`,
    round,
  );
  const submit = (event: Event) => {
    event.preventDefault();
    const value = (id: string) => endpointOf(picture, (document.getElementById(id) as HTMLInputElement).value);
    location.hash = href("path", { from: value("path-from"), to: value("path-to") });
    setRound(round + 1);
  };
  const named = (id: string) => (picture.nodes.has(id) ? picture.label(id) : id);
  const hosts = [...picture.nodes.values()].filter(({ kind }) => kind === "agent");
  return (
    <div class="page">
      <h1 class="title">Can it get there, and how?</h1>
      <form class="row ask" onSubmit={submit}>
        <label for="path-from">From</label>
        <input key={`from ${from}`} id="path-from" list="path-hosts" required value={named(from)} placeholder="host" />
        <label for="path-to">to</label>
        <input
          key={`to ${to}`}
          id="path-to"
          list="path-hosts"
          required
          value={named(to)}
          placeholder="host or address"
        />
        <datalist id="path-hosts">
          {hosts.map((node) => (
            <option key={node.id} value={picture.label(node.id)} />
          ))}
        </datalist>
        <button type="submit" class="primary">
          Trace
        </button>
        {from !== "" && to !== "" && picture.nodes.has(to) ? (
          <a class="button" href={href("path", { from: to, to: from })}>
            Turn round
          </a>
        ) : null}
      </form>
      {from === "" || to === "" ? (
        <p class="muted">
          The manager follows rules, routes and AllowedIPs of every host on the way, as last reported; no packet is
          sent.
        </p>
      ) : !isKnown ? (
        <p class="bad" role="alert">
          No agent is called {from}: a path begins at one.
        </p>
      ) : asked.is === "waiting" ? (
        <p class="muted">Asking …</p>
      ) : asked.is === "failed" ? (
        <p class="bad" role="alert">
          {asked.why}
        </p>
      ) : (
        <Traced answer={asked.value} picture={picture} now={now} />
      )}
    </div>
  );
}

function Traced({ answer, picture }: { answer: PathResponse; picture: Picture; now: number }) {
  const [index, choose] = useState(0);
  const [direction, setDirection] = useState<"there" | "back">("there");
  const pairs = answer.traces.length > 0 ? answer.traces : [{ there: answer as PathTrace, back: answer.back }];
  const pair = pairs[Math.min(index, pairs.length - 1)]!;
  const drawn = pair[direction];
  const failed = failedHop(drawn);
  const edges = drawn.hops.flatMap(({ edge }) => edge ?? []);
  const nodes = placesOf(drawn, direction === "there" ? [answer.from, answer.to] : [answer.to, answer.from], picture);
  return (
    <>
      {pairs.length > 1 ? (
        <p class="row">
          <label for="trace-pair" class="muted">
            By address
          </label>
          <select
            id="trace-pair"
            onChange={(event: Event) => choose(Number((event.target as HTMLSelectElement).value))}
          >
            {pairs.map(({ there }, i) => (
              <option key={i} value={i} selected={i === index}>
                {there.destination}: {VERDICT_WORDS[there.verdict]}
              </option>
            ))}
          </select>
        </p>
      ) : null}
      <section class="card" aria-label="Map of the path">
        <header>
          <h2>On the map</h2>
          <span class="group push" role="group" aria-label="Direction">
            <button
              type="button"
              aria-pressed={direction === "there" ? "true" : "false"}
              onClick={() => setDirection("there")}
            >
              There
            </button>
            <button
              type="button"
              aria-pressed={direction === "back" ? "true" : "false"}
              onClick={() => setDirection("back")}
            >
              Back
            </button>
          </span>
        </header>
        <div class="figure">
          <MapCanvas
            picture={picture}
            filter={{ layers: LAYERS_ALL, network: null, foreign: true, edges: "auto" }}
            focus={{
              ...NO_FOCUS,
              path: edges,
              hops: nodes,
              failed: failed === null ? null : (drawn.hops[failed]?.edge ?? null),
            }}
            label={`Map with the path drawn: ${VERDICT_WORDS[drawn.verdict]}. The hops below say the same.`}
            onSelect={(id) => {
              if (id !== null) location.hash = href("map", picture.edges.has(id) ? { edge: id } : { node: id });
            }}
          />
        </div>
      </section>
      <div class="pair">
        <Trace title="There" trace={pair.there} picture={picture} />
        <Trace title="Back" trace={pair.back} picture={picture} />
      </div>
    </>
  );
}

function Trace({ title, trace, picture }: { title: string; trace: PathTrace; picture: Picture }) {
  const tone = verdictTone(trace.verdict);
  const failed = failedHop(trace);
  return (
    <section class="card" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <span class={`state ${tone}`}>
          {tone === "good" ? "● " : tone === "warn" ? "? " : "✕ "}
          {VERDICT_WORDS[trace.verdict]}
        </span>
        <span class="push muted small mono">
          {trace.source ?? "?"} → {trace.destination}
          {trace.path_mtu === null ? "" : `, MTU ${trace.path_mtu}`}
        </span>
      </header>
      {trace.reason === null ? null : <p class="body">{trace.reason}</p>}
      <ol class="hops">
        {trace.hops.map((hop, i) => (
          <Hop key={i} hop={hop} index={i} failed={i === failed ? tone : null} picture={picture} />
        ))}
      </ol>
    </section>
  );
}

function Hop({ hop, index, failed, picture }: { hop: PathHop; index: number; failed: Tone | null; picture: Picture }) {
  return (
    <li class={failed === null ? "" : `failed ${failed}`}>
      <span class="dot" aria-hidden="true">
        {failed === null ? index + 1 : failed === "bad" ? "✕" : "?"}
      </span>
      <p>
        <strong>
          <NodeLink picture={picture} id={hop.node} />
        </strong>{" "}
        {hop.interface === null ? null : <span class="mono">{hop.interface}</span>}{" "}
        {hop.state === null ? null : <StateWord state={hop.state} />}
        {failed === null ? null : <span class="hidden-text">It ends here.</span>}
      </p>
      {hop.note === null ? null : <p class={failed ?? ""}>{hop.note}</p>}
      {hop.route === null ? null : <p class="small mono muted">{hop.route}</p>}
      {hop.rule === null ? null : <p class="small mono muted">rule {hop.rule}</p>}
      {hop.peer === null ? null : (
        <p class="small muted">
          peer <span class="mono">{shortKey(hop.peer)}</span>
          {hop.allowed_ip === null ? null : (
            <>
              {" "}
              by AllowedIPs <span class="mono">{hop.allowed_ip}</span>
            </>
          )}
        </p>
      )}
    </li>
  );
}
