// Owns the map's filter as it stands in the URL. Pure.
import type { Layer } from "../../shared/api.ts";
import type { Filter } from "./scene.ts";

const LAYERS: readonly Layer[] = ["wireguard", "physical", "tunnel", "relay"];
export const LAYERS_ALL: ReadonlySet<Layer> = new Set(LAYERS);

/** `layers=wireguard.tunnel`, `network=…`, `foreign=0`, `edges=all|problems`; what is absent is the default. */
export function filterOf(query: Readonly<Record<string, string>>): Filter {
  const { layers, network, foreign, edges } = query;
  return {
    layers: layers === undefined ? LAYERS_ALL : new Set(LAYERS.filter((layer) => layers.split(".").includes(layer))),
    network: network ?? null,
    foreign: foreign !== "0",
    edges: edges === "all" || edges === "problems" ? edges : "auto",
  };
}

/** The parameter that switches one layer; null: all are on. "none" keeps an empty choice apart from the default. */
export function toggleLayer(filter: Filter, layer: Layer): string | null {
  const chosen = LAYERS.filter((item) => filter.layers.has(item) !== (item === layer));
  return chosen.length === LAYERS.length ? null : chosen.join(".") || "none";
}
