// Owns the matrix's view: for a network too dense for lines. Row is from, column is to; every broken cell is in the table too.
import { useEffect, useMemo, useRef, useState } from "hono/jsx/dom";
import type { Point } from "./camera.ts";
import { filterOf } from "./filter.ts";
import { FilterTools, Search } from "./map_view.tsx";
import { createMatrix, type Matrix } from "./matrix.ts";
import { type CellAt, MatrixStage } from "./matrix_stage.ts";
import { EdgePanel } from "./panel.tsx";
import { StateWord } from "./parts.tsx";
import { isProblem } from "./picture.ts";
import { href, withQuery } from "./route.ts";
import type { State } from "./store.ts";
import { ago, count, STATE_WORDS } from "./words.ts";

/** Rows of the table of broken links that are made at once. */
const ROWS = 300;

/** A cell in words: `web-1 to web-2: stale, nothing comes back`. Pure. */
export function cellWords(matrix: Matrix, cell: CellAt): string {
  const [from, to] = [matrix.nodes[cell.row], matrix.nodes[cell.column]];
  if (from === undefined || to === undefined) return "";
  if (from === to) return from.label;
  const found = matrix.at(cell.row, cell.column);
  const words = found === null ? "no link" : STATE_WORDS[found.state];
  const reason = found?.edge.reason == null || found.state === "up" ? "" : `, ${found.edge.reason}`;
  return `${from.label} to ${to.label}: ${words}${reason}`;
}

export function MatrixView({ state, now }: { state: State; now: number }) {
  const { picture, route } = state;
  const [tip, setTip] = useState<{ cell: CellAt; at: Point } | null>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const stage = useRef<MatrixStage | null>(null);
  const { layers, network, foreign, edges } = route.query;
  const matrix = useMemo(
    () => createMatrix(picture, filterOf({ ...(layers === undefined ? { layers: "wireguard" } : {}), ...route.query })),
    [picture, picture.version, layers, network, foreign, edges],
  );
  const latest = useRef({ matrix, route });
  latest.current = { matrix, route };
  useEffect(() => {
    const made = new MatrixStage(canvas.current!, {
      open({ row, column }) {
        const { matrix: shown, route: at } = latest.current!;
        const found = shown.at(row, column);
        location.hash = withQuery(at, { edge: found?.edge.id ?? null });
      },
      point: (cell, at) => setTip(cell === null || at === null ? null : { cell, at }),
    });
    stage.current = made;
    made.show(latest.current!.matrix);
    return () => made.stop();
  }, []);
  // Not `show(matrix)`: closures of one render share their scope, and the stage keeps one of the first render as long as the
  // view is open. It would hold the first matrix, and with it every link as it was then.
  useEffect(() => stage.current?.show(latest.current!.matrix));
  const selected = picture.edges.get(route.query["edge"] ?? "");
  const broken = [...picture.edges.values()].filter(isProblem);
  return (
    <>
      <div class="tools row">
        <Search picture={picture} route={route} />
        <FilterTools
          picture={picture}
          route={layers === undefined ? { ...route, query: { ...route.query, layers: "wireguard" } } : route}
        />
        <a class="button push" href={href("map", { ...route.query, edges: edges ?? "auto" })}>
          As a map
        </a>
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
      </div>
      <div class="split">
        <div class="stage">
          <canvas
            ref={canvas}
            role="img"
            tabIndex={0}
            aria-label={`Matrix of ${count(matrix.nodes.length, "node")}: row is from, column is to. Arrows move from cell to cell, Enter opens one. The table of broken links follows.`}
          />
          {matrix.nodes.length > 0 ? null : (
            <p class="lack" role="status">
              {picture.edges.size === 0 ? "No link is known yet." : "No link fits what is chosen above."}
            </p>
          )}
          {tip === null ? null : (
            <div class="tip" role="status" style={{ left: `${tip.at.x + 14}px`, top: `${tip.at.y + 14}px` }}>
              {cellWords(matrix, tip.cell)}
            </div>
          )}
        </div>
        <aside aria-label="Broken links">
          <table>
            <thead>
              <tr>
                <th scope="col">{broken.length === 0 ? "No broken link" : count(broken.length, "broken link")}</th>
                <th scope="col">State</th>
              </tr>
            </thead>
            <tbody>
              {broken.slice(0, ROWS).map((edge) => (
                <tr key={edge.id}>
                  <td>
                    <a href={withQuery(route, { edge: edge.id })}>{picture.edgeLabel(edge)}</a>
                    <br />
                    <span class="muted small">{edge.reason ?? ""}</span>
                  </td>
                  <td class="nowrap">
                    <StateWord state={edge.state} />
                    <br />
                    <span class="muted small">{ago(edge.changed_at, now)}</span>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </aside>
        {selected === undefined ? null : (
          <EdgePanel
            key={selected.id}
            picture={picture}
            edge={selected}
            now={now}
            past={false}
            onClose={() => (location.hash = withQuery(route, { edge: null }))}
          />
        )}
      </div>
    </>
  );
}
