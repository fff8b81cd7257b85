// Owns the alarms' view: open ones with each cause above its effects, acknowledging, and those that are over.
import { useState } from "hono/jsx/dom";
import type { Alarm, AlarmsResponse } from "../../shared/api.ts";
import { type Client, type Hindrance, onlyAdmin } from "./client.ts";
import { SEVERITY_TONE } from "./look.ts";
import { useAsked } from "./panel.tsx";
import { Command, Complaint, SeverityWord, subjectHref } from "./parts.tsx";
import type { Picture } from "./picture.ts";
import { href } from "./route.ts";
import { causesOf, sinceOf } from "./situation.ts";
import type { State } from "./store.ts";
import { ago, clock, codeWords, count, duration, localTimes } from "./words.ts";

/** Causes and effects made at once. */
const CAUSES = 100;
const EFFECTS = 50;

export function AlarmsView({ state, client, now }: { state: State; client: Client; now: number }) {
  const { picture, route, alarms } = state;
  const over = route.query["state"] === "resolved";
  const causes = causesOf(alarms.values());
  return (
    <div class="page">
      <div class="row" style={{ "margin-bottom": "12px" }}>
        <h1 class="title">Alarms</h1>
        <span class="group" role="group" aria-label="Which alarms">
          <button type="button" aria-pressed={over ? "false" : "true"} onClick={() => (location.hash = href("alarms"))}>
            Open, {alarms.size}
          </button>
          <button
            type="button"
            aria-pressed={over ? "true" : "false"}
            onClick={() => (location.hash = href("alarms", { state: "resolved" }))}
          >
            Resolved
          </button>
        </span>
      </div>
      {over ? (
        <Resolved picture={picture} now={now} />
      ) : causes.length === 0 ? (
        <p class="muted">Nothing is open.</p>
      ) : (
        <div class="card">
          {causes.slice(0, CAUSES).map(({ alarm, effects }) => (
            <article key={alarm.id} class={`cause ${SEVERITY_TONE[alarm.severity]}`}>
              <AlarmText alarm={alarm} picture={picture} client={client} now={now} heading />
              {effects.length === 0 ? null : (
                <ul class="under" aria-label="Its effects">
                  {effects.slice(0, EFFECTS).map((effect) => (
                    <li key={effect.id}>
                      <AlarmText alarm={effect} picture={picture} client={client} now={now} />
                    </li>
                  ))}
                  {effects.length > EFFECTS ? <li class="muted">and {effects.length - EFFECTS} more</li> : null}
                </ul>
              )}
            </article>
          ))}
          {causes.length > CAUSES ? <p class="body muted">and {causes.length - CAUSES} more</p> : null}
        </div>
      )}
    </div>
  );
}

function AlarmText(props: { alarm: Alarm; picture: Picture; client: Client; now: number; heading?: boolean }) {
  const { alarm, picture, client, now } = props;
  const [problem, complain] = useState<Hindrance | null>(null);
  const to = subjectHref(picture, alarm.subject);
  const said = localTimes(alarm.message, now);
  const message = to === null ? said : <a href={to}>{said}</a>;
  const { look_at: lookAt, command, seen_by: seenBy } = alarm.details;
  const acknowledge = async () => {
    try {
      await client.acknowledge(alarm);
      complain(null);
    } catch (error) {
      complain(onlyAdmin(error, "acknowledge"));
    }
  };
  return (
    <>
      <div class="row alarm">
        {props.heading === true ? <h3>{message}</h3> : <p>{message}</p>}
        {alarm.state === "open" ? (
          <button
            type="button"
            class="push"
            onClick={() => void acknowledge()}
            aria-label={`Acknowledge: ${alarm.message}`}
          >
            Acknowledge
          </button>
        ) : null}
      </div>
      <Complaint problem={problem} client={client} />
      <p class="facts">
        <SeverityWord severity={alarm.severity} /> · {codeWords(alarm.code)} · since {clock(sinceOf(alarm), now)} (
        {ago(sinceOf(alarm), now)})
        {alarm.state === "acknowledged" ? ` · acknowledged ${ago(alarm.acknowledged_at, now)}` : ""}
        {alarm.flapping ? " · flapping" : ""}
        {alarm.silenced ? " · silenced" : ""}
        {Array.isArray(seenBy) && seenBy.length > 0 ? ` · seen by ${seenBy.slice(0, 5).join(", ")}` : ""}
      </p>
      {props.heading === true ? (
        <>
          {typeof lookAt === "string" ? <p class="small">Check: {lookAt}</p> : null}
          {typeof command === "string" ? <Command text={command} /> : null}
        </>
      ) : null}
    </>
  );
}

function Resolved({ picture, now }: { picture: Picture; now: number }) {
  const asked = useAsked<AlarmsResponse>("/status/alarms?state=resolved&limit=200", Math.floor(now / 60_000));
  if (asked.is === "waiting") return <p class="muted">Asking …</p>;
  if (asked.is === "failed") return <p class="bad">{asked.why}</p>;
  const { alarms } = asked.value;
  if (alarms.length === 0) return <p class="muted">No alarm has been resolved yet.</p>;
  return (
    <div class="card scroll" tabIndex={0} role="region" aria-label="Resolved alarms">
      <table class="stack" role="table">
        <caption class="hidden-text">{count(alarms.length, "resolved alarm")}, newest first</caption>
        <thead role="rowgroup">
          <tr role="row">
            <th scope="col" role="columnheader">
              Resolved
            </th>
            <th scope="col" role="columnheader">
              Lasted
            </th>
            <th scope="col" role="columnheader">
              Severity
            </th>
            <th scope="col" role="columnheader">
              What
            </th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {alarms.map((alarm) => {
            const to = subjectHref(picture, alarm.subject);
            const said = localTimes(alarm.message, now);
            return (
              <tr key={alarm.id} role="row">
                <td role="cell" data-name="Resolved" class="nowrap">
                  {alarm.resolved_at === null ? "" : clock(alarm.resolved_at, now)}
                </td>
                <td role="cell" data-name="Lasted" class="nowrap">
                  {duration((alarm.resolved_at ?? now) - sinceOf(alarm))}
                </td>
                <td role="cell">
                  <SeverityWord severity={alarm.severity} />
                </td>
                <td role="cell" class="wide">
                  {to === null ? said : <a href={to}>{said}</a>} <span class="muted">·</span>{" "}
                  <a class="small nowrap" href={href("timeline", { at: sinceOf(alarm) })}>
                    the network then
                  </a>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
