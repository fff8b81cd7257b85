// Owns the small parts that views share: states as sign and word, links, commands to copy, the map on its canvas.
import { useEffect, useRef, useState } from "hono/jsx/dom";
import type { EdgeState, Event, NodeStatus, Severity, TopologyEdge } from "../../shared/api.ts";
import { SEVERITY_TONE, STATE_TONE, STATUS_TONE } from "./look.ts";
import { MapStage } from "./map_stage.ts";
import type { Point } from "./camera.ts";
import type { Client, Hindrance } from "./client.ts";
import type { Focus } from "./paint_map.ts";
import type { Picture } from "./picture.ts";
import { href } from "./route.ts";
import type { Filter } from "./scene.ts";
import {
  ago,
  clock,
  codeWords,
  localTimes,
  SEVERITY_SIGN,
  STATE_MEANS,
  STATE_SIGN,
  STATE_WORDS,
  STATUS_SIGN,
} from "./words.ts";

export function StateWord({ state }: { state: EdgeState }) {
  return (
    <span class={`state ${STATE_TONE[state]}`} title={STATE_MEANS[state]}>
      <span aria-hidden="true">{STATE_SIGN[state]} </span>
      {STATE_WORDS[state]}
    </span>
  );
}

export function StatusWord({ status }: { status: NodeStatus }) {
  return (
    <span class={`state ${STATUS_TONE[status]}`}>
      <span aria-hidden="true">{STATUS_SIGN[status]} </span>
      {status}
    </span>
  );
}

export function SeverityWord({ severity }: { severity: Severity }) {
  return (
    <span class={`state ${SEVERITY_TONE[severity]}`}>
      <span aria-hidden="true">{SEVERITY_SIGN[severity]} </span>
      {severity}
    </span>
  );
}

/** A command to run next, with a button that copies it without the words before it (`on host: `). */
export function Command({ text }: { text: string }) {
  const place = /^on ([^:]+): /.exec(text);
  const command = place === null ? text : text.slice(place[0].length);
  return (
    <div class="command">
      {place === null ? null : <span class="muted small nowrap">{place[1]} $</span>}
      <code tabIndex={0}>{command}</code>
      <Copy text={command} />
    </div>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [said, say] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      // Browsers give the clipboard to https and loopback only.
      say("Select and copy by hand");
    }
    setTimeout(() => say(""), 2000);
  };
  return (
    <button type="button" onClick={() => void copy()} aria-live="polite">
      {said === "" ? label : said}
    </button>
  );
}

export function EdgeLink({ picture, edge }: { picture: Picture; edge: TopologyEdge }) {
  return <a href={href("map", { edge: edge.id })}>{picture.edgeLabel(edge)}</a>;
}

export function NodeLink({ picture, id }: { picture: Picture; id: string }) {
  return picture.nodes.has(id) ? <a href={href("map", { node: id })}>{picture.label(id)}</a> : <span>{id}</span>;
}

/** Where an alarm's or event's subject can be seen; null: nowhere on the map. */
export function subjectHref(picture: Picture, subject: string): string | null {
  const rest = subject.slice(subject.indexOf(":") + 1);
  if (subject.startsWith("edge:") && picture.edges.has(rest)) return href("map", { edge: rest });
  if (subject.startsWith("network:")) return href("map", { network: rest });
  const node = subject.startsWith("agent:") || subject.startsWith("node:") ? rest : rest.split("/")[0]!;
  return picture.nodes.has(node) ? href("map", { node }) : null;
}

/** `more`: so many others of its code, which are not listed. */
export function EventRow(props: { event: Event; now: number; picture: Picture; more?: number }) {
  const { event, now, picture, more = 0 } = props;
  const to = subjectHref(picture, event.subject);
  const said = localTimes(event.message, now);
  return (
    <li>
      <time class="muted" dateTime={new Date(event.at).toISOString()}>
        {clock(event.at, now)} <span class="small nowrap">{ago(event.at, now)}</span>
      </time>
      <span>
        <span class="muted">{codeWords(event.code)} </span>
        {to === null ? said : <a href={to}>{said}</a>}
        {more > 0 ? <span class="muted"> and {more} more of the kind</span> : null}
      </span>
    </li>
  );
}

/** The map. `onStage` hands out the stage itself, for zoom buttons and export. */
export function MapCanvas(props: {
  picture: Picture;
  filter: Filter;
  focus: Focus;
  label: string;
  interactive?: boolean;
  /** CSS pixels on the right under a panel. */
  inset?: number;
  onSelect(id: string | null): void;
  onHover?(id: string | null, at: Point | null): void;
  onStage?(stage: MapStage): void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const stage = useRef<MapStage | null>(null);
  const latest = useRef(props);
  latest.current = props;
  useEffect(() => {
    const made = new MapStage(
      canvas.current!,
      {
        select: (id) => latest.current!.onSelect(id),
        hover: (id, at) => latest.current!.onHover?.(id, at),
      },
      props.interactive !== false,
    );
    stage.current = made;
    props.onStage?.(made);
    made.inset = latest.current!.inset ?? 0;
    made.show(latest.current!.picture, latest.current!.filter, latest.current!.focus);
    return () => made.stop();
  }, []);
  useEffect(() => {
    if (stage.current === null) return;
    stage.current.inset = props.inset ?? 0;
    stage.current.show(props.picture, props.filter, props.focus);
  });
  return <canvas ref={canvas} role="img" aria-label={props.label} tabIndex={props.interactive === false ? -1 : 0} />;
}

/** Why what an operator wanted did not happen; null: it did. */
export function Complaint({ problem, client }: { problem: Hindrance | null; client: Client }) {
  if (problem === null) return null;
  return (
    <p class="row small" role="alert">
      <span class="bad">{problem.words}.</span>
      {problem.login ? (
        <button type="button" onClick={() => client.askForLogin()}>
          Log in
        </button>
      ) : null}
    </p>
  );
}
