// Owns the dashboard's addresses: everything after `#` in the URL, so that a view can be bookmarked and sent. Pure.

export const VIEWS = ["now", "map", "matrix", "agents", "alarms", "timeline", "path"] as const;
export type View = (typeof VIEWS)[number];
export type Route = { view: View; query: Readonly<Record<string, string>> };

/** Reads `#/map?edge=…`; anything else is the first screen. */
export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#\/?/, "");
  const mark = text.indexOf("?");
  const name = mark < 0 ? text : text.slice(0, mark);
  const view = VIEWS.find((item) => item === name) ?? "now";
  const query: Record<string, string> = {};
  if (mark >= 0) for (const [key, value] of new URLSearchParams(text.slice(mark + 1))) query[key] = value;
  return { view, query };
}

/** The address of a view; parameters that are null, undefined or empty are left out. */
export function href(view: View, query: Readonly<Record<string, string | number | null | undefined>> = {}): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "") parameters.set(key, String(value));
  const text = parameters.toString();
  return `#/${view}${text === "" ? "" : `?${text}`}`;
}

/** The same view with some parameters set, or taken away by null. */
export function withQuery(route: Route, change: Readonly<Record<string, string | number | null>>): string {
  return href(route.view, { ...route.query, ...change });
}

/** A moment in Unix milliseconds from a parameter; null: none, or no number. */
export function instant(text: string | undefined): number | null {
  return text !== undefined && /^[0-9]{1,16}$/.test(text) ? Number(text) : null;
}
