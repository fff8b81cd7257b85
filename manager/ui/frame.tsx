// Owns what surrounds every view: the bar with its links, whether it is live, the login, and what to run when nobody reports yet.
import { useEffect, useState } from "hono/jsx/dom";
import type { Child } from "hono/jsx";
import { type Client, words } from "./client.ts";
import { Command } from "./parts.tsx";
import { href, type View, VIEWS } from "./route.ts";
import { causesOf } from "./situation.ts";
import type { State } from "./store.ts";
import { duration } from "./words.ts";

const TITLES: Record<View, string> = {
  now: "Now",
  map: "Map",
  matrix: "Matrix",
  agents: "Agents",
  alarms: "Alarms",
  timeline: "Timeline",
  path: "Path",
};

export function Frame({ state, client, children }: { state: State; client: Client; children: Child }) {
  const causes = causesOf(state.alarms.values()).filter(({ alarm }) => alarm.severity !== "info" && !alarm.silenced);
  const critical = causes.some(({ alarm }) => alarm.severity === "critical");
  document.title = `${causes.length > 0 ? `(${causes.length}) ` : ""}${TITLES[state.route.view]} · kattila.status`;
  // On a narrow screen the views' bar may be wider than it.
  useEffect(() => {
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [state.route.view]);
  const fills = ["map", "matrix", "timeline"].includes(state.route.view);
  return (
    <div class="frame">
      <header class="bar">
        <a class="skip" href="#main" onClick={(event: Event) => skip(event)}>
          Skip to content
        </a>
        <a class="brand" href={href("now")}>
          <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
            <path d="M3 4l5 8 5-8" fill="none" stroke="currentColor" stroke-width="1.6" />
            <circle cx="3" cy="4" r="2.2" fill="currentColor" />
            <circle cx="13" cy="4" r="2.2" fill="currentColor" />
            <circle cx="8" cy="12" r="2.2" fill="currentColor" />
          </svg>
          kattila
        </a>
        <nav aria-label="Views">
          {VIEWS.map((view) => (
            <a key={view} href={href(view)} aria-current={view === state.route.view ? "page" : undefined}>
              {TITLES[view]}
              {view === "alarms" && causes.length > 0 ? (
                <span class={`badge ${critical ? "bad" : "warn"}`}>{causes.length}</span>
              ) : null}
            </a>
          ))}
        </nav>
        <div class="live">
          <span role="status">
            {state.live ? (
              <>
                <span class="good" aria-hidden="true">
                  ●
                </span>{" "}
                live
              </>
            ) : (
              <>
                <span class="bad" aria-hidden="true">
                  ○
                </span>{" "}
                not live
              </>
            )}
          </span>
          {state.session ? (
            <button type="button" title="End this browser's session" onClick={() => void client.logout()}>
              Log out
            </button>
          ) : null}
        </div>
      </header>
      <div>
        {state.live || state.lostAt === null ? null : (
          <p class="notice bad" role="alert">
            Not live for {duration(Date.now() - state.lostAt)}: what you see is from before. It tries again by itself.
          </p>
        )}
        {state.live && state.problem !== null ? <p class="notice warn">{state.problem}</p> : null}
      </div>
      <main id="main" tabIndex={-1} class={fills ? "fills" : ""}>
        {children}
      </main>
    </div>
  );
}

// The hash is the address of the view: the skip link moves the focus by hand.
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

export function Login({ client }: { client: Client }) {
  const [problem, complain] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const field = document.getElementById("token") as HTMLInputElement;
    setBusy(true);
    try {
      await client.login(field.value.trim());
    } catch (error) {
      complain(words(error));
    }
    setBusy(false);
  };
  return (
    <main class="login">
      <h1 class="title">kattila.status</h1>
      <p class="muted">This manager shows its network to those who have a token.</p>
      <form onSubmit={submit}>
        <label for="token">READ_TOKEN or ADMIN_TOKEN</label>
        <input id="token" type="password" autocomplete="current-password" required autofocus />
        <button type="submit" class="primary" disabled={busy}>
          Log in
        </button>
        {problem === null ? null : (
          <p class="bad" role="alert">
            {problem}
          </p>
        )}
      </form>
      <p class="muted small">
        The admin token is in the file admin_token of the manager's state directory. It is exchanged for a cookie and
        kept nowhere else.
      </p>
    </main>
  );
}

/**
 * What gets the first agent in, where a browser sees the manager at `origin`: beside it, on another host, and the demo's
 * manager on a port of its own. Pure.
 */
export function firstCommands(origin: string): { here: string; elsewhere: string; demo: string } {
  const { protocol, hostname, port } = new URL(origin);
  const isLocal = /^(localhost|127\..*|\[::1\])$|\.localhost$/.test(hostname);
  // On another host, this one's loopback is that host's own.
  const address = isLocal ? `${protocol}//ADDRESS-OF-THE-MANAGER${port === "" ? "" : `:${port}`}` : origin;
  const isDefault = protocol === "http:" && port === "5086";
  return {
    here: isDefault ? "bun run agent" : `MANAGER_URL=${origin} bun run agent`,
    elsewhere: `MANAGER_URL=${address} ./agent`,
    demo: `MANAGER_PORT=${port === "5096" ? 5106 : 5096} bun run demo`,
  };
}

/** Nobody reported yet: what to run to get the first agent in. */
export function EmptyState() {
  const { here, elsewhere, demo } = firstCommands(location.origin);
  return (
    <div class="empty">
      <h1>No agent has reported yet</h1>
      <p class="muted">The manager runs and listens. Get the first host in:</p>
      <ol>
        <li>
          <h2 class="title">1. On the manager's host</h2>
          <p class="muted">In the manager's directory the agent finds the fleet key by itself.</p>
          <Command text={here} />
        </li>
        <li>
          <h2 class="title">2. On another host</h2>
          <p class="muted">
            Copy the agent and the file kattila.psk (mode 0600) into one directory there, and say where the manager is.
          </p>
          <Command text={elsewhere} />
        </li>
        <li>
          <h2 class="title">Only looking?</h2>
          <p class="muted">Fifty simulated hosts with faults that come and go, on a manager of their own:</p>
          <Command text={demo} />
        </li>
      </ol>
      <p class="muted small">This page notices the first report by itself.</p>
    </div>
  );
}
