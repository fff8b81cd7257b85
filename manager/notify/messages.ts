// Owns what receivers are told: transitions gathered into one message per fault, and each receiver's format of it. Pure.
import type { Severity } from "../../shared/api.ts";
import type { AlarmRow, AlarmTransition } from "../model.ts";
import type { Receiver } from "./receivers.ts";

export type Told = AlarmTransition & { sequence: number };

/** One fault: the alarm that stands first, what changed, and what hangs beneath it now. */
export type Message = {
  /** Of the first and the last transition in it: the same when it is sent again, another when it says more by then. */
  key: string;
  alarm: AlarmRow;
  transitions: Told[];
  /** Open alarms beneath it. */
  effects: AlarmRow[];
};

/** Effects named in a message; the others are counted. */
const NAMED_EFFECTS = 20;
/** An alert that Alertmanager does not hear of again ends after this: five of our repetitions. */
const ALERT_LIFE_MS = 5 * 60_000;

/** The key by which a receiver recognises a transition that it has already. */
function transitionKey({ alarm_id, sequence }: Told): string {
  return `${alarm_id}-${sequence}`;
}

function messageKey(transitions: readonly Told[]): string {
  const first = transitionKey(transitions[0]!);
  return transitions.length === 1 ? first : `${first}-${transitions.at(-1)!.sequence}`;
}

/**
 * Messages for transitions, in their order. An alarm whose cause is open now is told with its cause if that is told in
 * the same breath.
 * @param alarms every alarm of the transitions and every open one, by id
 */
export function gather(transitions: readonly Told[], alarms: ReadonlyMap<string, AlarmRow>): Message[] {
  const told = new Set(transitions.map((transition) => transition.alarm_id));
  const groups = new Map<string, Told[]>();
  for (const transition of transitions) {
    const root = rootOf(transition.alarm_id, alarms);
    const group = root !== null && told.has(root) ? root : transition.alarm_id;
    groups.set(group, [...(groups.get(group) ?? []), transition]);
  }
  const messages: Message[] = [];
  for (const [id, of] of groups) {
    const alarm = alarms.get(id);
    // Its row is gone (the fleet was reset): there is nothing left to say about it.
    if (alarm === undefined) continue;
    const effects = [...alarms.values()].filter(
      (other) =>
        other.id !== id &&
        (other.state === "open" || other.state === "acknowledged") &&
        rootOf(other.id, alarms) === id,
    );
    messages.push({ key: messageKey(of), alarm, transitions: of, effects });
  }
  return messages;
}

/** The alarm at the end of its causes; null: it is unknown. */
function rootOf(id: string, alarms: ReadonlyMap<string, AlarmRow>): string | null {
  let row = alarms.get(id);
  // No chain of causes is longer than this.
  for (let depth = 0; row !== undefined && depth < 8; depth++) {
    const up = row.depends_on.find((cause) => alarms.has(cause));
    if (up === undefined) return row.id;
    row = alarms.get(up);
  }
  return row?.id ?? null;
}

function isOver({ alarm }: Message): boolean {
  return alarm.state === "resolved";
}

/** `[critical] agent_down` or `[resolved] agent_down`. */
function titleOf(message: Message): string {
  return `[${isOver(message) ? "resolved" : message.alarm.severity}] ${message.alarm.code}`;
}

/** Effects in words: `takes down: 19 peer_stale, 1 partition`. */
function effectsInWords(effects: readonly AlarmRow[]): string | null {
  if (effects.length === 0) return null;
  const counts = new Map<string, number>();
  for (const { code } of effects) counts.set(code, (counts.get(code) ?? 0) + 1);
  return `beneath it: ${[...counts].map(([code, count]) => `${count} ${code}`).join(", ")}`;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** The body for people, a few lines. */
function textOf(message: Message): string {
  const { alarm, transitions, effects } = message;
  const note = transitions.at(-1)!.note;
  const lines = [
    alarm.message,
    effectsInWords(effects),
    isOver(message) ? null : text(alarm.details["look_at"]),
    isOver(message) ? null : text(alarm.details["command"]),
    note,
    `since ${new Date(alarm.since_at).toISOString()}${isOver(message) ? `, until ${new Date(alarm.resolved_at!).toISOString()}` : ""}`,
    `alarm ${alarm.id.slice(0, 8)} #${transitions[0]!.sequence}`,
  ];
  return lines.filter((line) => line !== null).join("\n");
}

function publicAlarm({ since_at: _since, memory: _memory, ...alarm }: AlarmRow): Record<string, unknown> {
  return alarm;
}

/** What is POSTed: JSON, and the headers beside Content-Type. */
export type Body = { json: unknown; headers: Record<string, string> };

/** The webhook's own format; see README. */
function webhookBody(message: Message, now: number): Body {
  return {
    headers: { "Idempotency-Key": message.key },
    json: {
      version: 1,
      key: message.key,
      sent_at: now,
      title: titleOf(message),
      text: textOf(message),
      alarm: publicAlarm(message.alarm),
      transitions: message.transitions.map((transition) => ({
        key: transitionKey(transition),
        alarm_id: transition.alarm_id,
        at: transition.at,
        from: transition.from,
        to: transition.to,
        severity: transition.severity,
        note: transition.note,
        report: transition.report,
      })),
      effects: message.effects.slice(0, NAMED_EFFECTS).map(({ id, code, severity, subject, message: said }) => ({
        id,
        code,
        severity,
        subject,
        message: said,
      })),
      effects_total: message.effects.length,
    },
  };
}

const NTFY_PRIORITY: Record<Severity, number> = { critical: 5, warning: 4, info: 2 };
const NTFY_TAG: Record<Severity, string> = {
  critical: "rotating_light",
  warning: "warning",
  info: "information_source",
};
/** ntfy's own limit is 4,096 bytes; beyond it makes an attachment of the message. */
const NTFY_TEXT_CHARACTERS = 1000;

/** ntfy's "publish as JSON": https://docs.ntfy.sh/publish/#publish-as-json */
function ntfyBody(message: Message, topic: string): Body {
  const over = isOver(message);
  return {
    headers: {},
    json: {
      topic,
      title: titleOf(message),
      message: textOf(message).slice(0, NTFY_TEXT_CHARACTERS),
      priority: over ? 3 : NTFY_PRIORITY[message.alarm.severity],
      tags: [over ? "white_check_mark" : NTFY_TAG[message.alarm.severity]],
    },
  };
}

export type Alert = {
  labels: Record<string, string>;
  annotations: Record<string, string>;
  startsAt: string;
  endsAt: string;
};

/** An alarm as Alertmanager v2 takes it. Its labels are its identity there, so they never change but for the severity. */
export function alertOf(alarm: AlarmRow, now: number, effects: readonly AlarmRow[] = []): Alert {
  const annotations: Record<string, string> = { summary: alarm.message };
  const look = [text(alarm.details["look_at"]), text(alarm.details["command"]), effectsInWords(effects)];
  const description = look.filter((line) => line !== null).join("\n");
  if (description !== "") annotations["description"] = description;
  return {
    labels: {
      alertname: alarm.code,
      severity: alarm.severity,
      subject: alarm.subject,
      alarm_id: alarm.id,
      job: "kattila",
      ...(alarm.agent_id === null ? {} : { agent_id: alarm.agent_id }),
    },
    annotations,
    startsAt: new Date(alarm.opened_at).toISOString(),
    endsAt: new Date(alarm.resolved_at ?? now + ALERT_LIFE_MS).toISOString(),
  };
}

const RANK: readonly Severity[] = ["info", "warning", "critical"];

/** The alerts of a message; one whose severity rose ends under its former label. */
function alertsOf(message: Message, now: number): Alert[] {
  const { alarm } = message;
  const alerts = [alertOf(alarm, now, message.effects)];
  const rose = message.transitions.some((transition) => transition.note?.includes("→") === true);
  if (rose || isOver(message)) {
    for (const severity of RANK.slice(0, RANK.indexOf(alarm.severity))) {
      alerts.push(alertOf({ ...alarm, severity, resolved_at: alarm.resolved_at ?? now }, now));
    }
  }
  return alerts;
}

export function bodyOf(receiver: Receiver, message: Message, now: number): Body {
  switch (receiver.kind) {
    case "webhook":
      return webhookBody(message, now);
    case "ntfy":
      return ntfyBody(message, receiver.topic!);
    case "alertmanager":
      return { json: alertsOf(message, now), headers: {} };
  }
}
