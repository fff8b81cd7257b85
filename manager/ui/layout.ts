// Owns where nodes stand. Positions once given stay: only nodes that are new are laid out, in slices of a frame. A dense
// network stands on a ring, ordered by site; others find their place by forces. Pure but for its caller's clock.
import { type Body, forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";
import type { Point } from "./camera.ts";

export type Positions = Map<string, Point>;
export type Link = { source: string; target: string };

/** Length of a link in world units; the rest follows from it. */
const LINK = 74;
const COLLIDE = 20;
/** On the ring: world units from node to node, so that labels have room. */
const RING_STEP = 26;
/** Ticks until a layout from nothing stands: d3's own default decay reaches its minimum in 300; large ones get fewer. */
const TICKS = 260;
const LARGE = 600;
const LARGE_TICKS = 90;

/** Places all on a ring in the order given, the first at the top. */
export function ring(ids: readonly string[], positions: Positions): void {
  const radius = Math.max(60, (ids.length * RING_STEP) / (2 * Math.PI));
  ids.forEach((id, i) => {
    const angle = (i / ids.length) * 2 * Math.PI - Math.PI / 2;
    positions.set(id, { x: radius * Math.cos(angle), y: radius * Math.sin(angle) });
  });
}

/** The same for the same input: a linear congruential generator (Numerical Recipes' constants). */
function seeded(): () => number {
  let state = 1;
  return () => (state = (Math.imul(1664525, state) + 1013904223) >>> 0) / 2 ** 32;
}

export type Layout = {
  /** Works until `deadline()` says so; true: nothing is left to do. */
  work(mayGoOn: () => boolean): boolean;
};

/** Lays out those of `ids` that have no position yet; the others do not move. */
export function layOut(ids: readonly string[], links: readonly Link[], positions: Positions): Layout {
  const fresh = ids.filter((id) => !positions.has(id));
  if (fresh.length === 0) return { work: () => true };
  const neighbours = new Map<string, string[]>();
  const join = (from: string, to: string) => {
    const list = neighbours.get(from);
    if (list === undefined) neighbours.set(from, [to]);
    else list.push(to);
  };
  for (const { source, target } of links) {
    join(source, target);
    join(target, source);
  }
  const random = seeded();
  // Well connected ones first, on a sunflower; the others beside the first neighbour that stands.
  const degree = (id: string) => neighbours.get(id)?.length ?? 0;
  const order = [...fresh].sort((a, b) => degree(b) - degree(a) || (a < b ? -1 : 1));
  const golden = Math.PI * (3 - Math.sqrt(5));
  let alone = positions.size;
  for (const id of order) {
    const beside = neighbours.get(id)?.find((other) => positions.has(other));
    const near = beside === undefined ? null : positions.get(beside)!;
    const angle = near === null ? alone++ * golden : random() * 2 * Math.PI;
    const distance = near === null ? LINK * 0.9 * Math.sqrt(alone + 0.5) : LINK * (0.6 + 0.6 * random());
    positions.set(id, {
      x: (near?.x ?? 0) + distance * Math.cos(angle),
      y: (near?.y ?? 0) + distance * Math.sin(angle),
    });
  }
  const isFresh = new Set(fresh);
  const bodies: Body[] = ids.map((id) => {
    const { x, y } = positions.get(id)!;
    return isFresh.has(id) ? { id, x, y } : { id, x, y, fx: x, fy: y };
  });
  const present = new Set(ids);
  const large = ids.length > LARGE;
  const ticks = large ? LARGE_TICKS : TICKS;
  const simulation = forceSimulation(bodies)
    .stop()
    .randomSource(random)
    .alphaDecay(1 - 0.001 ** (1 / ticks))
    .force(
      "links",
      forceLink(
        links.filter(({ source, target }) => present.has(source) && present.has(target)).map((link) => ({ ...link })),
      )
        .id((body) => body.id)
        .distance(LINK),
    )
    .force(
      "apart",
      forceManyBody()
        .strength(large ? -90 : -230)
        .theta(large ? 1.2 : 0.9)
        .distanceMax(LINK * 14),
    )
    // Parts that no link holds stay in sight.
    .force("x", forceX(0).strength(0.06))
    .force("y", forceY(0).strength(0.09))
    .force("collide", forceCollide(COLLIDE));
  let done = 0;
  return {
    work(mayGoOn) {
      while (done < ticks && mayGoOn()) {
        simulation.tick();
        done++;
      }
      for (const { id, x, y } of bodies) if (isFresh.has(id)) positions.set(id, { x, y });
      return done >= ticks;
    },
  };
}

/** For localStorage: `{ id: [x, y] }`, whole units; at most as many nodes as a browser's 5 MB hold with ease. */
const MAX_KEPT = 10_000;

export function dumpPositions(positions: Positions): string {
  const kept = [...positions].slice(-MAX_KEPT).map(([id, { x, y }]) => [id, [Math.round(x), Math.round(y)]] as const);
  return JSON.stringify(Object.fromEntries(kept));
}

/** Reads what `dumpPositions` wrote; anything else is no position. */
export function loadPositions(text: string | null): Positions {
  const positions: Positions = new Map();
  if (text === null) return positions;
  try {
    for (const [id, pair] of Object.entries(JSON.parse(text) as Record<string, unknown>)) {
      if (!Array.isArray(pair) || !pair.every((item) => typeof item === "number" && Number.isFinite(item))) continue;
      positions.set(id, { x: pair[0] as number, y: pair[1] as number });
    }
  } catch {
    // Somebody else's text: laid out anew.
  }
  return positions;
}
