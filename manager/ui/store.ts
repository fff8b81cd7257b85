// Owns what the dashboard knows at this moment, and who is told when it changes: at most once a frame, however much arrives.
import type { AgentSummary, Alarm, Event, HealthResponse } from "../../shared/api.ts";
import { Picture } from "./picture.ts";
import { parseRoute, type Route } from "./route.ts";

/** loading: nothing is there yet; login: the manager wants a token; failed: it does not answer and never did. */
export type Phase = "loading" | "login" | "failed" | "ready";

export type State = {
  route: Route;
  phase: Phase;
  /** Why the manager was not reached, or what an action answered. */
  problem: string | null;
  /** Whether the stream is open; since when not, by this browser's clock. */
  live: boolean;
  lostAt: number | null;
  /** Whether this browser is logged in: a reader on the manager's host needs no login, and has none to end. */
  session: boolean;
  /** The network now. */
  picture: Picture;
  /** The network at `?at=`, while that is shown; null: now. */
  past: Picture | null;
  agents: readonly AgentSummary[];
  /** Open and acknowledged, by id. */
  alarms: ReadonlyMap<string, Alarm>;
  /** Newest first. */
  events: readonly Event[];
  health: HealthResponse | null;
  version: string | null;
  /** The manager's clock minus this browser's. */
  clockOffset: number;
  /** Grows every second, so that ages are true. */
  second: number;
};

export function initialState(hash: string): State {
  return {
    route: parseRoute(hash),
    phase: "loading",
    problem: null,
    live: false,
    lostAt: null,
    session: false,
    picture: new Picture(),
    past: null,
    agents: [],
    alarms: new Map(),
    events: [],
    health: null,
    version: null,
    clockOffset: 0,
    second: 0,
  };
}

export type Store = {
  get(): State;
  set(change: Partial<State>): void;
  subscribe(listener: () => void): () => void;
  /** The moment, by the manager's clock. */
  now(): number;
};

export function createStore(state: State): Store {
  const listeners = new Set<() => void>();
  let waiting = false;
  const tell = () => {
    waiting = false;
    for (const listener of listeners) listener();
  };
  return {
    get: () => state,
    set(change) {
      state = { ...state, ...change };
      if (waiting) return;
      waiting = true;
      // A hidden page has no frames; a timer still tells it.
      if (document.hidden) setTimeout(tell, 100);
      else requestAnimationFrame(tell);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    now: () => Date.now() + state.clockOffset,
  };
}
