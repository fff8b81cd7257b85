// Owns commands that an operator copies: `on HOST: …`. Names in them come from reports, and who copies them is root. Pure.
import { shownText } from "./text.ts";

/** One word of a shell's command, whatever a report put there. */
function word(text: string): string {
  return /^[A-Za-z0-9_.:/=+@-]+$/.test(text) ? text : `'${shownText(text).replaceAll("'", "'\\''")}'`;
}

/** A command on a host: each value is one word of it, and the host has nothing that could end the part before it. */
export function on(host: string): (parts: TemplateStringsArray, ...values: (string | number)[]) => string {
  const place = host.replace(/[^\p{L}\p{N} ._-]/gu, "\ufffd");
  return (parts, ...values) =>
    `on ${place}: ${String.raw({ raw: parts }, ...values.map((value) => word(String(value))))}`;
}
