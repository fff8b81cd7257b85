// Owns the map's view: what is shown (layers, networks, search), the canvas, its legend, the side panel, and the exports.
import { useMemo, useRef, useState } from "hono/jsx/dom";
import type { EdgeState, Layer } from "../../shared/api.ts";
import { mapPng, mapSvg, save } from "./export_map.ts";
import { filterOf, toggleLayer } from "./filter.ts";
import type { Point } from "./camera.ts";
import { STATE_DASH, STATE_TONE } from "./look.ts";
import type { MapStage } from "./map_stage.ts";
import { MARK_SIGN, MARK_WORDS, MARKS } from "./difference.ts";
import { type Focus, MARK_LOOK, NO_FOCUS } from "./paint_map.ts";
import { MapCanvas } from "./parts.tsx";
import type { Client } from "./client.ts";
import { EdgePanel, NodePanel } from "./panel.tsx";
import { type Picture, search } from "./picture.ts";
import { href, type Route, withQuery } from "./route.ts";
import { LAYER_DASH, sceneOf } from "./scene.ts";
import type { State } from "./store.ts";
import { count, LAYER_WORDS, STATE_SIGN, STATE_WORDS } from "./words.ts";

const LAYERS: readonly Layer[] = ["wireguard", "physical", "tunnel", "relay"];
/** Width of the side panel with its margins (app.css). */
const PANEL_PX = 464;
const go = (to: string) => void (location.hash = to);

/** What stands under the pointer, in a few words. */
export function tipOf(picture: Picture, id: string): string {
  const edge = picture.edges.get(id);
  if (edge !== undefined)
    return `${picture.edgeLabel(edge)}: ${STATE_WORDS[edge.state]}${edge.reason === null ? "" : `, ${edge.reason}`}`;
  const node = picture.nodes.get(id);
  if (node === undefined) return id;
  return `${picture.label(id)}: ${node.status}, ${count(picture.edgesOf(id).length, "link")}${node.reason === null ? "" : `, ${node.reason}`}`;
}

export function Search({ picture, route }: { picture: Picture; route: Route }) {
  const [text, setText] = useState("");
  const found = useMemo(() => search(picture, text, 12), [text, picture.version]);
  const pick = (query: Record<string, string>) => {
    setText("");
    go(href("map", { ...route.query, node: null, edge: null, ...query }));
  };
  const first = found.nodes[0];
  return (
    <div class="search" role="search">
      <input
        type="search"
        placeholder="Name, address or key"
        aria-label="Search by name, address or key"
        value={text}
        onInput={(event: Event) => setText((event.target as HTMLInputElement).value)}
        onKeyDown={(event: KeyboardEvent) => {
          if (event.key === "Enter" && first !== undefined) pick({ node: first.id });
          if (event.key === "Escape") setText("");
        }}
      />
      {text.trim() === "" ? null : (
        <div class="results" role="listbox" aria-label="Found">
          {found.nodes.map((node) => (
            <a
              key={node.id}
              role="option"
              href={href("map", { ...route.query, edge: null, node: node.id })}
              onClick={() => setText("")}
            >
              {picture.label(node.id)} <span class="muted small">{node.addresses[0] ?? ""}</span>
            </a>
          ))}
          {found.edges.map((edge) => (
            <a
              key={edge.id}
              role="option"
              href={href("map", { ...route.query, node: null, edge: edge.id })}
              onClick={() => setText("")}
            >
              {picture.edgeLabel(edge)} <span class="muted small">{edge.b.endpoint ?? edge.a.endpoint ?? ""}</span>
            </a>
          ))}
          {found.nodes.length + found.edges.length === 0 ? <p class="body muted">Nothing is called so.</p> : null}
        </div>
      )}
    </div>
  );
}

/** Layer, network and edge choices of map and timeline. */
export function FilterTools({ picture, route }: { picture: Picture; route: Route }) {
  const filter = filterOf(route.query);
  const networks = [...picture.networks.values()];
  return (
    <>
      <span class="group" role="group" aria-label="Layers">
        {LAYERS.map((layer) => (
          <button
            key={layer}
            type="button"
            aria-pressed={filter.layers.has(layer) ? "true" : "false"}
            onClick={() => go(withQuery(route, { layers: toggleLayer(filter, layer) }))}
          >
            {LAYER_WORDS[layer]}
          </button>
        ))}
      </span>
      <select
        aria-label="Network"
        onChange={(event: Event) =>
          go(withQuery(route, { network: (event.target as HTMLSelectElement).value || null }))
        }
      >
        <option value="">All networks</option>
        {filter.network === null || picture.at === 0 || picture.networks.has(filter.network) ? null : (
          <option value={filter.network} selected>
            A network that is not there
          </option>
        )}
        {networks.map((network) => (
          <option key={network.id} value={network.id} selected={filter.network === network.id}>
            {network.name} ({network.nodes}
            {network.parts > 1 ? `, in ${network.parts} parts` : ""})
          </option>
        ))}
      </select>
      <select
        aria-label="Links"
        onChange={(event: Event) => go(withQuery(route, { edges: (event.target as HTMLSelectElement).value || null }))}
      >
        <option value="">Links as it fits</option>
        <option value="all" selected={filter.edges === "all"}>
          All links
        </option>
        <option value="problems" selected={filter.edges === "problems"}>
          Broken links
        </option>
      </select>
      <label class="row nowrap">
        <input
          type="checkbox"
          style={{ "min-height": "0" }}
          checked={filter.foreign}
          onChange={() => go(withQuery(route, { foreign: filter.foreign ? "0" : null }))}
        />
        foreign peers
      </label>
    </>
  );
}

/** Why the map shows less than its address asks for; null: it shows all, or waits for its picture. Pure. */
export function lackOf(picture: Picture, route: Route, nodes: number): string | null {
  const { node, edge, network } = route.query;
  if (picture.at === 0) return null;
  if (network !== undefined && !picture.networks.has(network))
    return "This network is gone, or was not there yet. Choose another.";
  if (nodes === 0)
    return picture.nodes.size === 0 ? "Nothing is known of this moment." : "Nothing fits what is chosen above.";
  if (edge !== undefined && !picture.edges.has(edge)) return "This link is gone, or was not there yet.";
  if (node !== undefined && !picture.nodes.has(node)) return "This host is gone, or was not there yet.";
  return null;
}

/** Canvas, legend, tip and panel of a picture: the map's view shows it, and the timeline's. */
export function MapStageView(props: {
  picture: Picture;
  state: State;
  client: Client;
  now: number;
  past: boolean;
  focus?: Partial<Focus>;
  onStage?(stage: MapStage): void;
}) {
  const { picture, state, now } = props;
  const { route } = state;
  const [tip, setTip] = useState<{ id: string; at: Point } | null>(null);
  const filter = filterOf(route.query);
  const edge = picture.edges.get(route.query["edge"] ?? "");
  const node = picture.nodes.get(route.query["node"] ?? "");
  const focus: Focus = { ...NO_FOCUS, ...props.focus, selected: edge?.id ?? node?.id ?? null };
  const scene = sceneOf(picture, filter);
  const present = new Set(scene.edges.map((item) => item.edge.state));
  const layers = new Set(scene.edges.map((item) => item.edge.layer));
  const marked = new Set(focus.marks.values());
  const states = (Object.keys(STATE_WORDS) as EdgeState[]).filter((item) => present.has(item));
  const lack = lackOf(picture, route, scene.nodes.length);
  const close = () => go(withQuery(state.route, { node: null, edge: null }));
  const revealed = useRef<string | null>(null);
  const stage = useRef<MapStage | null>(null);
  if (focus.selected !== revealed.current) {
    revealed.current = focus.selected;
    if (focus.selected !== null && stage.current !== null) {
      stage.current.inset = PANEL_PX;
      stage.current.reveal(edge === undefined ? [focus.selected] : [edge.a.node, edge.b.node]);
    }
  }
  return (
    <div class="stage">
      <MapCanvas
        picture={picture}
        filter={filter}
        focus={focus}
        inset={focus.selected === null ? 0 : PANEL_PX}
        label={`Map of ${count(scene.nodes.length, "node")} and ${count(scene.edges.length, "link")}, ${scene.problems} broken. Arrows move it, plus and minus zoom, 0 shows all. The agents' and alarms' views say the same in tables.`}
        onSelect={(id) =>
          go(
            withQuery(state.route, {
              node: id !== null && picture.nodes.has(id) ? id : null,
              edge: id !== null && picture.edges.has(id) ? id : null,
            }),
          )
        }
        onHover={(id, at) => setTip(id === null || at === null ? null : { id, at })}
        onStage={(made) => {
          stage.current = made;
          props.onStage?.(made);
        }}
      />
      {tip === null ? null : (
        <div class="tip" style={{ left: `${tip.at.x + 14}px`, top: `${tip.at.y + 14}px` }}>
          {tipOf(picture, tip.id)}
        </div>
      )}
      {lack === null ? null : (
        <p class="lack" role="status">
          {lack}
        </p>
      )}
      <div class="legend" aria-label="Legend" hidden={scene.edges.length === 0 && marked.size === 0}>
        {scene.dense ? (
          <p class="muted">
            {count(scene.edges.length, "link")} are a carpet: only the {scene.problems} broken ones are drawn, and those
            of the node you point at. <a href={href("matrix", route.query)}>The matrix shows all</a>
          </p>
        ) : null}
        <ul>
          {states.map((item) => (
            <li key={item} class={STATE_TONE[item]}>
              <LegendLine dash={STATE_DASH[item]} />
              <span aria-hidden="true">{STATE_SIGN[item]}</span> {STATE_WORDS[item]}
            </li>
          ))}
          {LAYERS.filter((layer) => layer !== "wireguard" && layers.has(layer)).map((layer) => (
            <li key={layer} class="quiet">
              <LegendLine dash={LAYER_DASH[layer] ?? []} /> {LAYER_WORDS[layer]}
            </li>
          ))}
          {MARKS.filter((mark) => marked.has(mark)).map((mark) => (
            <li key={mark} class={MARK_LOOK[mark].colour}>
              <LegendLine dash={MARK_LOOK[mark].dash} wide />
              <span aria-hidden="true">{MARK_SIGN[mark]}</span> {MARK_WORDS[mark]}
            </li>
          ))}
        </ul>
      </div>
      {edge !== undefined ? (
        <EdgePanel key={edge.id} picture={picture} edge={edge} now={now} past={props.past} onClose={close} />
      ) : node !== undefined ? (
        <NodePanel
          key={node.id}
          picture={picture}
          node={node}
          agent={state.agents.find(({ agent_id: id }) => id === node.id) ?? null}
          client={props.client}
          now={now}
          past={props.past}
          onClose={close}
        />
      ) : null}
    </div>
  );
}

function LegendLine({ dash, wide = false }: { dash: readonly number[]; wide?: boolean }) {
  return (
    <svg width="26" height="6" aria-hidden="true">
      <path
        d="M0 3H26"
        stroke="currentColor"
        stroke-width={wide ? "6" : "2"}
        stroke-opacity={wide ? "0.45" : "1"}
        stroke-dasharray={dash.join(" ")}
      />
    </svg>
  );
}

export function MapView({ state, client, now }: { state: State; client: Client; now: number }) {
  const { picture, route } = state;
  const stage = useRef<MapStage | null>(null);
  const name = `kattila-${new Date(now).toISOString().slice(0, 16).replace(/[:T]/g, "-")}`;
  const svg = () => {
    const { scene, positions, palette } = stage.current!;
    save(`${name}.svg`, new Blob([mapSvg(scene, positions, palette)], { type: "image/svg+xml" }));
  };
  const png = async () => {
    const { scene, positions, palette, camera, canvas } = stage.current!;
    const { width, height } = canvas.getBoundingClientRect();
    const made = await mapPng(scene, positions, palette, camera, { width, height }, NO_FOCUS);
    if (made !== null) save(`${name}.png`, made);
  };
  return (
    <>
      <div class="tools row">
        <Search picture={picture} route={route} />
        <FilterTools picture={picture} route={route} />
        <span class="push row">
          <span class="group" role="group" aria-label="Zoom">
            <button type="button" aria-label="Zoom out" onClick={() => stage.current?.zoom(0.8)}>
              −
            </button>
            <button type="button" onClick={() => stage.current?.fit()}>
              Fit
            </button>
            <button type="button" aria-label="Zoom in" onClick={() => stage.current?.zoom(1.25)}>
              +
            </button>
          </span>
          <details class="search">
            <summary class="button">Export</summary>
            <div class="results" style={{ right: "0", "min-width": "150px" }}>
              <a href="#" onClick={(event: Event) => (event.preventDefault(), svg())}>
                Picture, SVG
              </a>
              <a href="#" onClick={(event: Event) => (event.preventDefault(), void png())}>
                Picture, PNG
              </a>
              <a href="/status/topology.json" download="kattila.netjson">
                NetJSON
              </a>
              <a href="/status/topology.dot" download="kattila.dot">
                GraphViz DOT
              </a>
              <a href="/status/topology.mmd" download="kattila.mmd">
                Mermaid
              </a>
            </div>
          </details>
        </span>
      </div>
      <MapStageView
        picture={picture}
        state={state}
        client={client}
        now={now}
        past={false}
        onStage={(made) => (stage.current = made)}
      />
    </>
  );
}
