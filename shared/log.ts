// Owns the log: one JSON line an event, to stderr. Callers never pass a secret; strings travel as JSON, and what JSON leaves
// as it is but a terminal or a viewer obeys is escaped too, so a hostile name can forge no line, nor turn one around.
import { shownText } from "./text.ts";

export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type Fields = { [name: string]: string | number | boolean | null | undefined | readonly string[] };
export type Log = { [Level in LogLevel]: (event: string, fields?: Fields) => void };

/** One character as JSON's escapes. */
function escaped(character: string): string {
  const units = [...Array(character.length).keys()].map((i) => character.charCodeAt(i).toString(16).padStart(4, "0"));
  return units.map((unit) => `\\u${unit}`).join("");
}

/** A logger that writes events of `level` and above. `write` gets whole lines without the newline. */
export function createLog(
  level: LogLevel,
  write: (line: string) => void = (line) => process.stderr.write(`${line}\n`),
): Log {
  const threshold = LOG_LEVELS.indexOf(level);
  const at =
    (name: LogLevel) =>
    (event: string, fields: Fields = {}): void => {
      if (LOG_LEVELS.indexOf(name) < threshold) return;
      write(shownText(JSON.stringify({ at: new Date().toISOString(), level: name, event, ...fields }), escaped));
    };
  return { debug: at("debug"), info: at("info"), warning: at("warning"), error: at("error") };
}

/** The message of anything thrown, with its causes: one line. */
export function reason(error: unknown): string {
  const parts: string[] = [];
  for (
    let e: unknown = error;
    e !== undefined && e !== null && parts.length < 4;
    e = (e as { cause?: unknown }).cause
  ) {
    parts.push(e instanceof Error ? e.message : String(e));
  }
  return parts.join(": ").replaceAll("\n", " ");
}
