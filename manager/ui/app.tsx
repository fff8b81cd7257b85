// Owns the dashboard's start: the store, the client, the address in the URL, and which view stands on the page.
import { render, useEffect, useState } from "hono/jsx/dom";
import { AgentsView } from "./agents_view.tsx";
import { AlarmsView } from "./alarms_view.tsx";
import { type Client, startClient } from "./client.ts";
import { EmptyState, Frame, Login } from "./frame.tsx";
import { MapView } from "./map_view.tsx";
import { MatrixView } from "./matrix_view.tsx";
import { NowView } from "./now_view.tsx";
import { PathView } from "./path_view.tsx";
import { href, parseRoute } from "./route.ts";
import { isDense } from "./scene.ts";
import { TimelineView } from "./timeline_view.tsx";
import { createStore, initialState, type State, type Store } from "./store.ts";

function App({ store, client }: { store: Store; client: Client }) {
  const [state, setState] = useState<State>(store.get());
  useEffect(() => store.subscribe(() => setState(store.get())), []);
  if (state.phase === "login") return <Login client={client} />;
  if (state.phase === "failed" || state.phase === "loading") {
    return (
      <main class="login" role="status">
        <h1 class="title">kattila.status</h1>
        <p class="muted">{state.phase === "loading" ? "Asking the manager …" : `${state.problem}. Trying again …`}</p>
      </main>
    );
  }
  return (
    <Frame state={state} client={client}>
      <CurrentView state={state} store={store} client={client} />
    </Frame>
  );
}

function CurrentView({ state, store, client }: { state: State; store: Store; client: Client }) {
  const now = store.now();
  if (state.agents.length === 0 && state.picture.nodes.size === 0) return <EmptyState />;
  switch (state.route.view) {
    case "map":
      // Too dense for lines: the matrix, unless somebody asked for a map in so many words.
      if (Object.keys(state.route.query).length === 0 && isDense(state.picture.nodes.size, state.picture.edges.size)) {
        location.replace(href("matrix"));
        return null;
      }
      return <MapView state={state} client={client} now={now} />;
    case "matrix":
      return <MatrixView state={state} now={now} />;
    case "agents":
      return <AgentsView state={state} now={now} />;
    case "alarms":
      return <AlarmsView state={state} client={client} now={now} />;
    case "timeline":
      return <TimelineView state={state} client={client} now={now} />;
    case "path":
      return <PathView state={state} now={now} />;
    case "now":
      return <NowView state={state} now={now} />;
  }
}

const store = createStore(initialState(location.hash));
const client = startClient(store);
addEventListener("hashchange", () => store.set({ route: parseRoute(location.hash) }));
render(<App store={store} client={client} />, document.getElementById("app")!);
