// Owns what a change of a host's routes is: the default route, and all others, as events tell them. Pure.
import type { Report, Route } from "../../shared/report.ts";
import { isMain } from "./prefixes.ts";

/** So many routes of a change are named in its event; the rest are counted. */
const NAMED_ROUTES = 20;

/** Whether two reports have the same routes in the same order, as far as they say which interface a packet leaves by. */
export function sameRoutes(a: Report["routes"], b: Report["routes"]): boolean {
  if (a === b) return true;
  if (a === null || b === null || a.length !== b.length) return false;
  return a.every((route, i) => {
    const other = b[i]!;
    return (
      route.destination === other.destination &&
      route.interface === other.interface &&
      route.gateway === other.gateway &&
      route.metric === other.metric &&
      route.table === other.table
    );
  });
}

/** The main table's default route of IPv4, which has an event of its own. */
function isDefault(route: Route): boolean {
  return route.destination === "0.0.0.0/0" && isMain(route);
}

/** Interface and gateway of the best default route of the main table; null: none. */
export function defaultRouteOf(report: Report): string | null {
  let best: { metric: number; text: string } | null = null;
  for (const route of report.routes ?? []) {
    if (!isDefault(route)) continue;
    const metric = route.metric ?? 0;
    if (best === null || metric < best.metric)
      best = { metric, text: `${route.gateway ?? "on link"} by ${route.interface ?? "several"}` };
  }
  return best?.text ?? null;
}

/** A route as `ip route` writes it, without what does not say where packets go. */
function written(route: Route): string {
  const { destination, gateway, interface: device, metric, table, type, nexthops } = route;
  const hops = (nexthops ?? []).map((hop) => `nexthop${via(hop.gateway)}${dev(hop.interface)}`);
  return [
    `${type === undefined || type === "unicast" ? "" : `${type} `}${destination}${via(gateway)}${dev(device)}`,
    ...hops,
    ...(isMain(route) ? [] : [`table ${table}`]),
    ...(metric === null || metric === 0 ? [] : [`metric ${metric}`]),
  ].join(" ");
}
const via = (gateway: string | null) => (gateway === null ? "" : ` via ${gateway}`);
const dev = (name: string | null) => (name === null ? "" : ` dev ${name}`);

/** What of a host's routes, the default route left out, came and went between two of its reports. */
export type RoutesChange = {
  /** As `ip route` writes them, 20 at most. */
  added: string[];
  removed: string[];
  words: string;
};

/** null: nothing, or it cannot be told (not read, or cut: a BGP host has 100,000). */
export function routesChange(before: Report, report: Report): RoutesChange | null {
  if (before.routes === null || report.routes === null) return null;
  if ((before.routes_truncated ?? 0) + (report.routes_truncated ?? 0) > 0) return null;
  const was = new Set(before.routes.filter((route) => !isDefault(route)).map(written));
  const is = new Set(report.routes.filter((route) => !isDefault(route)).map(written));
  const [added, removed] = [[...is.difference(was)], [...was.difference(is)]];
  if (added.length + removed.length === 0) return null;
  const say = (routes: readonly string[], what: string) =>
    routes.length === 0
      ? []
      : [`${routes.length === 1 ? "route" : `${routes.length} routes`} ${what}: ${named(routes)}`];
  return {
    added: added.slice(0, NAMED_ROUTES),
    removed: removed.slice(0, NAMED_ROUTES),
    words: [...say(added, "added"), ...say(removed, "gone")].join("; "),
  };
}

function named(routes: readonly string[]): string {
  const [first, second, ...others] = routes;
  if (second === undefined) return first!;
  return `${first}, ${second}${others.length === 0 ? "" : ` and ${others.length} more`}`;
}
