// Owns the timeline: a slider over the past that moves the map, the events below it, and the difference of two moments.
import { useEffect, useMemo, useRef, useState } from "hono/jsx/dom";
import type {
  Event as NetworkEvent,
  EventsResponse,
  TopologyDiff,
  TopologyEdge,
  TopologyNode,
} from "../../shared/api.ts";
import { type Client, words } from "./client.ts";
import { changeWords, MARK_SIGN, MARK_WORDS, type Mark, marksOf, withBoth } from "./difference.ts";
import { FilterTools, MapStageView } from "./map_view.tsx";
import { SEVERITY_TONE } from "./look.ts";
import { MARK_LOOK, NO_FOCUS } from "./paint_map.ts";
import { useAsked } from "./panel.tsx";
import { EventRow, StateWord, StatusWord } from "./parts.tsx";
import { Picture } from "./picture.ts";
import { instant, withQuery } from "./route.ts";
import type { State } from "./store.ts";
import { clock, codeWords, count, day, seconds } from "./words.ts";

const RANGES = [
  { key: "1h", title: "1 hour", milliseconds: 3_600_000 },
  { key: "6h", title: "6 hours", milliseconds: 6 * 3_600_000 },
  { key: "1d", title: "1 day", milliseconds: 86_400_000 },
  { key: "7d", title: "7 days", milliseconds: 7 * 86_400_000 },
] as const;
/** The slider's steps: as many as pixels of a wide screen. */
const STEPS = 1000;
/** A hand on the slider asks the manager at most this often. */
const SETTLE_MS = 120;
/** What else may be compared with, looking back from the moment shown. */
const COMPARE = [
  { title: "an hour before", milliseconds: 3_600_000 },
  { title: "a day before", milliseconds: 86_400_000 },
] as const;
const LISTED = 100;
const NOTHING_YET = new Picture();

/** Moment of a step of the slider; the last step is now (null). Pure. */
export function momentOf(step: number, now: number, range: number): number | null {
  return step >= STEPS ? null : Math.round(now - range + (range * step) / STEPS);
}

/** Step of a moment, within the slider. Pure. */
export function stepOf(at: number | null, now: number, range: number): number {
  if (at === null) return STEPS;
  return Math.max(0, Math.min(STEPS, Math.round(((at - (now - range)) / range) * STEPS)));
}

/** A moment as `datetime-local` wants it, in the reader's time zone. Pure but for that zone. */
export function localText(at: number): string {
  return `${day(at)}T${seconds(at)}`;
}

export function TimelineView({ state, client, now }: { state: State; client: Client; now: number }) {
  const { route, picture, past } = state;
  const at = instant(route.query["at"]);
  const range = RANGES.find(({ key }) => key === route.query["range"]) ?? RANGES[2];
  const [dragged, setDragged] = useState<number | null>(null);
  const [problem, complain] = useState<string | null>(null);
  const settle = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => {
    client.showAt(at).then(
      () => complain(null),
      (error) => complain(words(error)),
    );
  }, [at]);
  // Leaving the view shows now again.
  useEffect(() => () => void client.showAt(null), []);

  const until = at ?? now;
  const minute = Math.floor(until / 60_000) * 60_000 + 60_000;
  const window = useAsked<EventsResponse>(
    `/status/events?limit=1000&from=${Math.max(0, minute - 60_000 - range.milliseconds)}&to=${minute}`,
  );
  const events = window.is === "there" ? window.value.events.filter((event) => event.at <= until) : [];
  const compare = instant(route.query["with"]);
  // Compared with now, a minute's grain: the manager is asked once a minute, not every second.
  const reference = at ?? Math.floor(now / 60_000) * 60_000;
  const [earlier, later] = [Math.min(compare ?? 0, reference), Math.max(compare ?? 0, reference)];
  const diff = useAsked<TopologyDiff>(compare === null ? null : `/status/topology/diff?from=${earlier}&to=${later}`);
  const changed = diff.is === "there" && compare !== null ? diff.value : null;
  // While the next moment is on its way, the one before stays; but the present is not shown as a past one.
  const base = at === null ? picture : (past ?? NOTHING_YET);
  const compared = at === null || past?.at === at ? changed : null;
  const shown = useMemo(() => (compared === null ? base : withBoth(base, compared)), [base, base.version, compared]);
  const marks = useMemo(() => (compared === null ? NO_FOCUS.marks : marksOf(compared)), [compared]);

  const slide = (event: Event) => {
    const step = Number((event.target as HTMLInputElement).value);
    setDragged(step);
    if (settle.current !== null) clearTimeout(settle.current);
    settle.current = setTimeout(() => {
      setDragged(null);
      location.replace(withQuery(route, { at: momentOf(step, now, range.milliseconds) }));
    }, SETTLE_MS);
  };
  const step = dragged ?? stepOf(at, now, range.milliseconds);
  const moment = dragged === null ? at : momentOf(dragged, now, range.milliseconds);
  const said = moment === null ? "now" : `${day(moment)} ${seconds(moment)}`;
  return (
    <>
      <div>
        <div class="timeline">
          <div class="row">
            <strong role="status">{at === null && dragged === null ? "Now" : said}</strong>
            {problem === null ? null : (
              <span class="bad" role="alert">
                {problem}
              </span>
            )}
            <span class="push row">
              <input
                type="datetime-local"
                step="1"
                aria-label="Moment"
                value={localText(moment ?? now)}
                onChange={(event: Event) => {
                  const chosen = new Date((event.target as HTMLInputElement).value).getTime();
                  if (Number.isFinite(chosen))
                    location.hash = withQuery(route, { at: Math.min(chosen, Math.round(now)) });
                }}
              />
              <select
                aria-label="Length of the slider"
                onChange={(event: Event) =>
                  location.replace(withQuery(route, { range: (event.target as HTMLSelectElement).value }))
                }
              >
                {RANGES.map(({ key, title }) => (
                  <option key={key} value={key} selected={key === range.key}>
                    {title}
                  </option>
                ))}
              </select>
              <button
                type="button"
                disabled={at === null}
                onClick={() => (location.hash = withQuery(route, { at: null }))}
              >
                Now
              </button>
            </span>
          </div>
          <Marks events={window.is === "there" ? window.value.events : []} now={now} range={range.milliseconds} />
          <input
            type="range"
            min="0"
            max={STEPS}
            step="1"
            value={step}
            aria-label="Moment shown"
            aria-valuetext={said}
            onInput={slide}
          />
        </div>
        <div class="tools row">
          <FilterTools picture={shown} route={route} />
          <span class="push row">
            <label for="compare" class="small muted">
              Compare with
            </label>
            <select
              id="compare"
              onChange={(event: Event) => {
                const back = (event.target as HTMLSelectElement).value;
                const other = back === "" ? null : back === "now" ? Math.floor(now) : Math.floor(until - Number(back));
                location.hash = withQuery(route, { with: other });
              }}
            >
              <option value="">nothing</option>
              {at === null ? null : <option value="now">now</option>}
              {COMPARE.map(({ title, milliseconds }) => (
                <option key={title} value={milliseconds}>
                  {title}
                </option>
              ))}
              {compare === null ? null : (
                <option value={until - compare} selected>
                  {clock(compare, now)}
                </option>
              )}
            </select>
          </span>
        </div>
      </div>
      <div class="split">
        <MapStageView
          picture={shown}
          state={state}
          client={client}
          now={until}
          past={at !== null || compare !== null}
          focus={{ marks }}
        />
        <aside aria-label="Events and differences">
          {compare === null ? null : (
            <Difference
              diff={changed}
              why={diff.is === "failed" ? diff.why : null}
              picture={shown}
              route={state.route}
              now={now}
            />
          )}
          <h2>Events until {moment === null ? "now" : clock(until, now)}</h2>
          {window.is === "failed" ? <p class="bad">{window.why}</p> : null}
          {window.is === "there" && events.length === 0 ? <p class="muted">None in this time.</p> : null}
          <ul class="changes">
            {events.slice(0, LISTED).map((event) => (
              <EventRow key={event.id} event={event} now={now} picture={shown} />
            ))}
          </ul>
          {events.length > LISTED ? <p class="muted small">and {events.length - LISTED} earlier</p> : null}
        </aside>
      </div>
    </>
  );
}

/** Ticks above the slider where something happened; the worse lie on top. */
function Marks({ events, now, range }: { events: readonly NetworkEvent[]; now: number; range: number }) {
  const places = new Map<number, NetworkEvent["severity"]>();
  const worse = { info: 0, warning: 1, critical: 2 };
  for (const { at, severity } of events) {
    const step = stepOf(at, now, range);
    const before = places.get(step);
    if (before === undefined || worse[severity] > worse[before]) places.set(step, severity);
  }
  return (
    <svg
      class="marks"
      viewBox={`0 0 ${STEPS} 14`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`${count(events.length, "event")} in this time`}
    >
      {[...places].map(([step, severity]) => (
        <rect
          key={step}
          x={step - 1}
          y={severity === "info" ? 7 : 2}
          width="2"
          height={severity === "info" ? 7 : 12}
          class={SEVERITY_TONE[severity]}
        />
      ))}
    </svg>
  );
}

/** Every difference that the map marks, in words. */
function Difference(props: {
  diff: TopologyDiff | null;
  why: string | null;
  picture: Picture;
  route: State["route"];
  now: number;
}) {
  const { diff, picture, route, now } = props;
  if (diff === null) return <p class="muted">{props.why ?? "Comparing …"}</p>;
  const { edges, nodes } = diff;
  const states = edges.changed.filter(({ before, after }) => before.state !== after.state);
  const others = edges.changed.filter(({ before, after }) => before.state === after.state);
  const nothing = [edges.added, edges.removed, edges.changed, nodes.added, nodes.removed, nodes.changed].every(
    ({ length }) => length === 0,
  );
  const edge = (item: TopologyEdge) => (
    <a href={withQuery(route, { edge: item.id, node: null })}>{picture.edgeLabel(item)}</a>
  );
  const node = (item: TopologyNode) => (
    <a href={withQuery(route, { node: item.id, edge: null })}>{picture.label(item.id)}</a>
  );
  const left = [states, edges.added, edges.removed, nodes.added, nodes.removed, nodes.changed, others].reduce(
    (sum, { length }) => sum + Math.max(0, length - LISTED),
    0,
  );
  return (
    <>
      <h2>
        Between {clock(diff.from, now)} and {clock(diff.to, now)}
      </h2>
      {nothing ? <p class="muted">The same network.</p> : null}
      <ul class="diff">
        {states.slice(0, LISTED).map(({ id, before, after }) => (
          <li key={id}>
            <Marked mark="changed" /> <StateWord state={before.state} /> → <StateWord state={after.state} />{" "}
            {edge(after)}
          </li>
        ))}
        {(["added", "removed"] as const).flatMap((mark) => [
          ...edges[mark].slice(0, LISTED).map((item) => (
            <li key={item.id}>
              <Marked mark={mark} /> link {edge(item)}
            </li>
          )),
          ...nodes[mark].slice(0, LISTED).map((item) => (
            <li key={item.id}>
              <Marked mark={mark} /> {NODE_KIND[item.kind]} {node(item)}
            </li>
          )),
        ])}
        {nodes.changed.slice(0, LISTED).map(({ id, before, after, fields }) => (
          <li key={id}>
            <Marked mark="changed" /> {node(after)}{" "}
            {before.status === after.status ? (
              <span class="muted">{fields.map(codeWords).join(", ")}</span>
            ) : (
              <>
                <StatusWord status={before.status} /> → <StatusWord status={after.status} />
              </>
            )}
          </li>
        ))}
        {others.slice(0, LISTED).map((change) => (
          <li key={change.id}>
            <Marked mark="changed" /> {edge(change.after)}{" "}
            <span class="muted">{changeWords(change, (id) => picture.label(id)).join("; ")}</span>
          </li>
        ))}
      </ul>
      {left > 0 ? <p class="muted small">and {left.toLocaleString("en")} more differences</p> : null}
    </>
  );
}

const NODE_KIND: Record<TopologyNode["kind"], string> = { agent: "host", foreign: "peer", segment: "segment" };

/** The map's sign of a difference, with its word for those who hear the page. */
function Marked({ mark }: { mark: Mark }) {
  return (
    <span class={`state ${MARK_LOOK[mark].colour}`}>
      <span aria-hidden="true">{MARK_SIGN[mark]}</span>{" "}
      <span class={mark === "changed" ? "hidden-text" : ""}>{MARK_WORDS[mark]}</span>
    </span>
  );
}
