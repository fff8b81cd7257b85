// Owns the first screen, for three in the morning: what is wrong, what it took down, what to run next, what changed before,
// and whether the manager itself can see.
import { useMemo } from "hono/jsx/dom";
import type { Alarm } from "../../shared/api.ts";
import { LAYERS_ALL } from "./filter.ts";
import { NO_FOCUS } from "./paint_map.ts";
import { Command, EventRow, MapCanvas, SeverityWord, StateWord, EdgeLink, subjectHref } from "./parts.tsx";
import { isProblem } from "./picture.ts";
import { href } from "./route.ts";
import { type Cause, changesBefore, sight, sinceOf, situation } from "./situation.ts";
import type { State } from "./store.ts";
import { ago, clock, codeWords, count, duration, localTimes } from "./words.ts";
import { SEVERITY_TONE } from "./look.ts";

/** Effects named at once; the rest folds away. */
const EFFECTS = 4;
/** A site down has a hundred effects, a bad day a hundred causes: the first are shown, the rest is one link away. */
const CAUSES = 12;

export function NowView({ state, now }: { state: State; now: number }) {
  const { picture, agents, alarms, events, health } = state;
  const facts = useMemo(() => situation(agents, alarms.values(), now), [agents, alarms, Math.floor(now / 60_000)]);
  const seen = sight(agents, health, now, state.live);
  const changes = changesBefore(events, facts.since, now);
  const problems = [...picture.edges.values()].filter(isProblem);
  const tone = seen.blind ? "bad" : facts.tone;
  return (
    <div class="page">
      <div class="verdict">
        <span class={`sign ${tone}`} aria-hidden="true">
          {tone === "good" ? "●" : tone === "warn" ? "◆" : "▲"}
        </span>
        <div>
          <h1 role="status">{seen.blind ? `The manager is blind: ${seen.why}` : facts.verdict}</h1>
          <p class="muted">
            {facts.since === null ? null : `The oldest has been there for ${duration(now - facts.since)}. `}
            {count(picture.edges.size, "link")}, {problems.length === 0 ? "none" : problems.length} broken
          </p>
        </div>
      </div>
      <div class="now">
        <div>
          <section class="card" aria-label="Causes">
            <header>
              <h2>Causes</h2>
              <span class="muted small">what is wrong, what it took down, what to run next</span>
            </header>
            {facts.causes.length === 0 ? (
              <p class="body muted">No open alarm asks for anything.</p>
            ) : (
              facts.causes
                .slice(0, CAUSES)
                .map((cause) => <CauseItem key={cause.alarm.id} cause={cause} state={state} now={now} />)
            )}
            {facts.causes.length > CAUSES ? (
              <p class="body">
                <a href={href("alarms")}>and {facts.causes.length - CAUSES} more</a>
              </p>
            ) : null}
          </section>
          {facts.notes.length === 0 ? null : (
            <section class="card">
              <header>
                <h2>To know</h2>
                <span class="muted small">no action needed, or silenced</span>
              </header>
              <ul class="changes">
                {facts.notes.slice(0, 8).map((alarm) => (
                  <li key={alarm.id}>
                    <span class="muted nowrap">{clock(sinceOf(alarm), now)}</span>
                    <span>
                      {alarm.silenced ? <span class="muted">silenced </span> : null}
                      {localTimes(alarm.message, now)} <span class="muted nowrap">({ago(sinceOf(alarm), now)})</span>
                    </span>
                  </li>
                ))}
              </ul>
            </section>
          )}
        </div>
        <div>
          <section class="card">
            <header>
              <h2>Broken links</h2>
              <a class="push small" href={href("map", { edges: "problems" })}>
                Open the map
              </a>
            </header>
            {problems.length === 0 ? (
              <p class="body muted">
                {picture.edges.size === 0 ? "No link is known yet." : "All links pass packets as configured."}
              </p>
            ) : (
              <>
                <div class="figure">
                  <MapCanvas
                    picture={picture}
                    filter={{ layers: LAYERS_ALL, network: null, foreign: true, edges: "problems" }}
                    focus={NO_FOCUS}
                    label={`Map of ${count(problems.length, "broken link")}; the list below says the same`}
                    interactive={false}
                    onSelect={(id) => {
                      if (id !== null) location.hash = href("map", picture.edges.has(id) ? { edge: id } : { node: id });
                    }}
                  />
                </div>
                <details class="body">
                  <summary>As a list</summary>
                  <ul class="effects">
                    {problems.slice(0, 100).map((edge) => (
                      <li key={edge.id}>
                        <StateWord state={edge.state} /> <EdgeLink picture={picture} edge={edge} />{" "}
                        <span class="muted">
                          {edge.reason ?? ""} since {clock(edge.changed_at, now)} ({ago(edge.changed_at, now)})
                        </span>
                      </li>
                    ))}
                  </ul>
                </details>
              </>
            )}
          </section>
          <section class="card">
            <header>
              <h2>What changed</h2>
              <span class="muted small">
                since an hour before {facts.since === null ? "now" : clock(facts.since, now)}
              </span>
              <a class="push small" href={href("timeline")}>
                Timeline
              </a>
            </header>
            {changes.length === 0 ? (
              <p class="body muted">Nothing: no key, endpoint, route, peer or reboot.</p>
            ) : (
              <ul class="changes">
                {changes.slice(0, 10).map(({ event, of }) => (
                  <EventRow key={event.id} event={event} now={now} picture={picture} more={of - 1} />
                ))}
              </ul>
            )}
          </section>
          <section class="card">
            <header>
              <h2>Can the manager see?</h2>
              <span class={`push state ${seen.blind ? "bad" : state.live ? "good" : "quiet"}`}>
                {seen.blind ? "✕ no" : state.live ? "● yes" : "? not known now"}
              </span>
            </header>
            <ul class="body small">
              {seen.words.map((word) => (
                <li key={word}>{word}</li>
              ))}
            </ul>
          </section>
        </div>
      </div>
    </div>
  );
}

function CauseItem({ cause: { alarm, effects }, state, now }: { cause: Cause; state: State; now: number }) {
  const command = alarm.details["command"];
  const lookAt = alarm.details["look_at"];
  const to = subjectHref(state.picture, alarm.subject);
  const said = localTimes(alarm.message, now);
  return (
    <article class={`cause ${SEVERITY_TONE[alarm.severity]}`}>
      <h3>{to === null ? said : <a href={to}>{said}</a>}</h3>
      <p class="facts">
        <SeverityWord severity={alarm.severity} /> · {codeWords(alarm.code)} · since {clock(sinceOf(alarm), now)} (
        {ago(sinceOf(alarm), now)})
        {alarm.state === "acknowledged" ? ` · acknowledged ${ago(alarm.acknowledged_at, now)}` : ""}
        {alarm.flapping ? " · flapping" : ""}
      </p>
      {typeof lookAt === "string" ? <p class="small">Check: {lookAt}</p> : null}
      {typeof command === "string" ? <Command text={command} /> : null}
      {effects.length === 0 ? null : (
        <div class="effects">
          <p class="muted small">{count(effects.length, "effect")}:</p>
          <ul>
            {effects.slice(0, EFFECTS).map((effect) => (
              <Effect key={effect.id} effect={effect} now={now} />
            ))}
          </ul>
          {effects.length <= EFFECTS ? null : (
            <details>
              <summary>{effects.length - EFFECTS} more</summary>
              <ul>
                {effects.slice(EFFECTS, 200).map((effect) => (
                  <Effect key={effect.id} effect={effect} now={now} />
                ))}
              </ul>
            </details>
          )}
        </div>
      )}
    </article>
  );
}

function Effect({ effect, now }: { effect: Alarm; now: number }) {
  return (
    <li>
      {localTimes(effect.message, now)} <span class="muted nowrap">({ago(sinceOf(effect), now)})</span>
    </li>
  );
}
