// Owns NOTIFY_URL: which receivers there are, what each URL means, and a name for each that can be logged. Pure.
import { SettingError } from "../../shared/config.ts";

export type ReceiverKind = "webhook" | "ntfy" | "alertmanager";
export type Receiver = {
  kind: ReceiverKind;
  /** Kind and host: paths, topics, users and queries of such URLs are secrets. */
  name: string;
  /** Where to POST. */
  url: string;
  /** ntfy only. */
  topic: string | null;
  /** From the URL's user and password; null: none. */
  authorization: string | null;
};

const ALLOWED =
  "must be URLs, comma-separated: https://… (webhook), ntfy://host/topic or ntfy+http://host/topic, " +
  "alertmanager+http://host:9093 or alertmanager+https://…";

const SCHEMES: Record<string, { kind: ReceiverKind; protocol: "http:" | "https:" }> = {
  "https:": { kind: "webhook", protocol: "https:" },
  "http:": { kind: "webhook", protocol: "http:" },
  "ntfy:": { kind: "ntfy", protocol: "https:" },
  "ntfy+https:": { kind: "ntfy", protocol: "https:" },
  "ntfy+http:": { kind: "ntfy", protocol: "http:" },
  "alertmanager+http:": { kind: "alertmanager", protocol: "http:" },
  "alertmanager+https:": { kind: "alertmanager", protocol: "https:" },
};

/** `:token@` is a bearer token, `user:password@` basic authentication. */
function authorizationOf(url: URL): string | null {
  const user = decodeURIComponent(url.username);
  const password = decodeURIComponent(url.password);
  if (user === "" && password === "") return null;
  if (user === "") return `Bearer ${password}`;
  return `Basic ${Buffer.from(`${user}:${password}`, "utf8").toString("base64")}`;
}

/** @throws SettingError, which never holds the value: it may hold a secret. */
export function parseReceivers(urls: readonly string[]): Receiver[] {
  return urls.map((text, place) => {
    const refuse = (why: string) => new SettingError("NOTIFY_URL", null, `entry ${place + 1} ${why}; ${ALLOWED}`);
    const scheme = text.slice(0, text.indexOf(":") + 1).toLowerCase();
    const found = SCHEMES[scheme];
    if (found === undefined) throw refuse("has no scheme that is known");
    let url: URL;
    let authorization: string | null;
    try {
      // Schemes that are not the web's parse without a host: give it the one that is meant.
      url = new URL(found.protocol + text.slice(scheme.length));
      authorization = authorizationOf(url);
    } catch {
      throw refuse("is no URL");
    }
    if (url.hostname === "" || url.hash !== "") throw refuse("has no host, or a fragment");
    url.username = "";
    url.password = "";
    const receiver = { kind: found.kind, name: `${found.kind} ${url.host}`, topic: null, authorization };
    if (found.kind === "webhook") return { ...receiver, url: url.href };
    if (url.search !== "") throw refuse("has a query");
    const path = url.pathname.replace(/\/+$/, "");
    if (found.kind === "alertmanager") return { ...receiver, url: `${url.origin}${path}/api/v2/alerts` };
    const cut = path.lastIndexOf("/");
    const topic = path.slice(cut + 1);
    // As ntfy's own check: letters, digits, underscore, hyphen; 64 at most.
    if (!/^[-_A-Za-z0-9]{1,64}$/.test(topic)) throw refuse("has no ntfy topic as its last part");
    return { ...receiver, url: `${url.origin}${path.slice(0, cut)}/`, topic };
  });
}
