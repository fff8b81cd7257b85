// Owns the drawing of the map on a canvas: edges as batches of one style, nodes, labels that do not lie on each other. It works in
// slices, so that a picture of twenty thousand lines never holds the page up. Pure but for the canvas it is given.
import type { NodeStatus, TopologyNode } from "../../shared/api.ts";
import { type Camera, type Point, toScreen } from "./camera.ts";
import { type Mark, MARK_SIGN, MARKS } from "./difference.ts";
import type { Positions } from "./layout.ts";
import { sixDigits, STATUS_TONE, type Tone } from "./look.ts";
import type { Scene, SceneEdge, Style } from "./scene.ts";

/** Colours are `#rrggbb`. */
export type Palette = Record<Tone | "ground" | "raised" | "text" | "muted" | "accent" | "line", string> & {
  font: string;
};

export type Focus = {
  /** Node or edge whose panel is open. */
  selected: string | null;
  /** Node under the pointer; its edges are drawn even in a dense network. */
  hovered: string | null;
  /** Edges of a traced path, in order, and the one that fails. */
  path: readonly string[];
  failed: string | null;
  /** Nodes on the traced path. */
  hops: readonly string[];
  /** Nodes and edges that differ between two moments. */
  marks: ReadonlyMap<string, Mark>;
};
export const NO_FOCUS: Focus = { selected: null, hovered: null, path: [], hops: [], failed: null, marks: new Map() };

/** How the map marks a difference: a colour, a dash under the line, and MARK_SIGN. */
export const MARK_LOOK: Record<Mark, { colour: "accent" | Tone; dash: readonly number[] }> = {
  added: { colour: "accent", dash: [] },
  removed: { colour: "bad", dash: [4, 4] },
  changed: { colour: "warn", dash: [] },
};

/** Half-segments a slice: some milliseconds of work. */
const SLICE = 1500;
/** Labels stop where so many nodes stand on the screen that they would be a carpet. */
const MAX_LABELS = 260;
const LABEL_PX = 11.5;

type Segment = [x1: number, y1: number, x2: number, y2: number];

/** Ends of an edge's line on the screen, set off sideways where several edges join the same two nodes. */
export function line(item: SceneEdge, positions: Positions, camera: Camera): Segment | null {
  const [a, b] = [positions.get(item.edge.a.node), positions.get(item.edge.b.node)];
  if (a === undefined || b === undefined) return null;
  const [from, to] = [toScreen(camera, a), toScreen(camera, b)];
  if (item.offset === 0) return [from.x, from.y, to.x, to.y];
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const shift = item.offset * Math.min(1.5, Math.max(0.4, camera.scale));
  const [dx, dy] = [(-(to.y - from.y) / length) * shift, ((to.x - from.x) / length) * shift];
  return [from.x + dx, from.y + dy, to.x + dx, to.y + dy];
}

function outside([x1, y1, x2, y2]: Segment, width: number, height: number): boolean {
  return (x1 < 0 && x2 < 0) || (y1 < 0 && y2 < 0) || (x1 > width && x2 > width) || (y1 > height && y2 > height);
}

/** Batches halves by style, so that each style is one path and one stroke per slice; problems come last, on top. */
function batches(
  scene: Scene,
  positions: Positions,
  camera: Camera,
  width: number,
  height: number,
  wanted: (item: SceneEdge) => boolean,
): { style: Style; segments: Segment[] }[] {
  const made = new Map<string, { style: Style; segments: Segment[] }>();
  const add = (style: Style, segment: Segment) => {
    const name = `${style.width} ${style.tone} ${style.dash.join()}`;
    const batch = made.get(name);
    if (batch === undefined) made.set(name, { style, segments: [segment] });
    else batch.segments.push(segment);
  };
  for (const item of scene.edges) {
    if (!wanted(item)) continue;
    const segment = line(item, positions, camera);
    if (segment === null || outside(segment, width, height)) continue;
    const [x1, y1, x2, y2] = segment;
    if (item.a === item.b || (item.a.tone === item.b.tone && item.a.dash === item.b.dash)) {
      add(item.a, segment);
      continue;
    }
    const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
    add(item.a, [x1, y1, x, y]);
    add(item.b, [x2, y2, x, y]);
  }
  return [...made.values()].sort((x, y) => x.style.width - y.style.width);
}

const DRAWN_SIGN: Record<NodeStatus, string> = { online: "", late: "!", down: "×", unknown: "?" };

function radiusOf(node: TopologyNode, camera: Camera): number {
  const base = node.kind === "segment" ? 5 : 6.5;
  return Math.max(2.5, base * Math.min(1.4, Math.max(0.45, Math.sqrt(camera.scale))));
}

function strokeSegments(context: CanvasRenderingContext2D, segments: readonly Segment[]): void {
  context.beginPath();
  for (const [x1, y1, x2, y2] of segments) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
  context.stroke();
}

/** Paints; each `yield` is a place to let the page breathe. Sizes in CSS pixels. */
export function* paintMap(
  context: CanvasRenderingContext2D,
  scene: Scene,
  positions: Positions,
  camera: Camera,
  size: { width: number; height: number },
  palette: Palette,
  focus: Focus,
): Generator<void, void> {
  const { width, height } = size;
  context.fillStyle = palette.ground;
  context.fillRect(0, 0, width, height);
  context.lineCap = "butt";
  const thin = Math.min(1, Math.max(0.35, camera.scale));
  const many = scene.edges.length > 2000;

  const onPath = new Set(focus.path);
  const near = focus.hovered ?? focus.selected;
  const base = batches(scene, positions, camera, width, height, (item) => !item.onDemand);
  for (const { style, segments } of base) {
    context.strokeStyle = palette[style.tone];
    context.globalAlpha = style.width > 2 ? 1 : many ? 0.45 : 0.62;
    context.lineWidth = style.width * (style.width > 2 ? Math.max(0.7, thin) : thin);
    context.setLineDash(many && style.width < 2 ? [] : [...style.dash]);
    for (let i = 0; i < segments.length; i += SLICE) {
      strokeSegments(context, segments.slice(i, i + SLICE));
      yield;
    }
  }
  context.globalAlpha = 1;
  context.setLineDash([]);

  // What is pointed at, traced or different lies above the rest.
  const above = (item: SceneEdge) =>
    (near !== null && (item.edge.a.node === near || item.edge.b.node === near)) ||
    item.edge.id === focus.selected ||
    item.edge.id === focus.hovered;
  for (const { style, segments } of batches(scene, positions, camera, width, height, above)) {
    context.strokeStyle = palette[style.tone];
    context.lineWidth = style.width + 0.8;
    context.setLineDash([...style.dash]);
    strokeSegments(context, segments);
  }
  context.setLineDash([]);
  const halo = (wanted: (item: SceneEdge) => boolean, colour: string, alpha: number, dash: readonly number[] = []) => {
    const segments: Segment[] = [];
    for (const item of scene.edges) {
      const segment = wanted(item) ? line(item, positions, camera) : null;
      if (segment !== null) segments.push(segment);
    }
    context.strokeStyle = colour;
    context.globalAlpha = alpha;
    context.lineWidth = 9;
    context.lineCap = dash.length === 0 ? "round" : "butt";
    context.setLineDash([...dash]);
    strokeSegments(context, segments);
    context.setLineDash([]);
    context.globalAlpha = 1;
    context.lineCap = "butt";
  };
  if (focus.marks.size > 0)
    for (const mark of MARKS) {
      const { colour, dash } = MARK_LOOK[mark];
      halo((item) => focus.marks.get(item.edge.id) === mark, palette[colour], 0.45, dash);
    }
  if (onPath.size > 0) halo((item) => onPath.has(item.edge.id) && item.edge.id !== focus.failed, palette.accent, 0.5);
  if (focus.failed !== null) halo((item) => item.edge.id === focus.failed, palette.bad, 0.5);
  if (focus.selected !== null) halo((item) => item.edge.id === focus.selected, palette.accent, 0.35);
  yield;

  // Signs in the middle of edges that are broken or differ: colour never stands alone.
  const sign = (x: number, y: number, text: string, colour: string) => {
    context.fillStyle = palette.ground;
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = colour;
    context.fillText(text, x, y + 0.5);
  };
  context.font = `600 11px ${palette.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  let signs = 0;
  for (const item of scene.edges) {
    const mark = focus.marks.get(item.edge.id);
    if (mark === undefined && (camera.scale <= 0.5 || (item.a.width < 2 && item.b.width < 2))) continue;
    const segment = line(item, positions, camera);
    if (segment === null || outside(segment, width, height) || ++signs > 300) continue;
    const [x, y] = [(segment[0] + segment[2]) / 2, (segment[1] + segment[3]) / 2];
    const tone = item.a.tone === "good" ? item.b.tone : item.a.tone;
    if (mark !== undefined) sign(x, y, MARK_SIGN[mark], palette[MARK_LOOK[mark].colour]);
    else sign(x, y, SIGNS[item.edge.state] ?? "!", palette[tone]);
  }

  const shown: Shown[] = [];
  for (const node of scene.nodes) {
    const position = positions.get(node.id);
    if (position === undefined) continue;
    const at = toScreen(camera, position);
    if (at.x < -30 || at.y < -30 || at.x > width + 30 || at.y > height + 30) continue;
    shown.push({ node, at, radius: radiusOf(node, camera) });
  }
  for (const status of ["online", "unknown", "late", "down"] as const) {
    context.fillStyle = palette[STATUS_TONE[status]];
    context.strokeStyle = palette.ground;
    context.lineWidth = 1.6;
    context.beginPath();
    for (const { node, at, radius } of shown) {
      if (node.status !== status || node.kind !== "agent") continue;
      context.moveTo(at.x + radius, at.y);
      context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
    }
    context.fill();
    context.stroke();
  }
  // Foreign peers are hollow diamonds, segments squares: other kinds are other shapes.
  context.lineWidth = 1.6;
  for (const { node, at, radius } of shown) {
    if (node.kind === "agent") continue;
    context.fillStyle = palette.ground;
    context.strokeStyle = palette[STATUS_TONE[node.status]];
    context.beginPath();
    if (node.kind === "foreign") {
      context.moveTo(at.x, at.y - radius - 1);
      context.lineTo(at.x + radius + 1, at.y);
      context.lineTo(at.x, at.y + radius + 1);
      context.lineTo(at.x - radius - 1, at.y);
      context.closePath();
    } else context.rect(at.x - radius, at.y - radius, 2 * radius, 2 * radius);
    context.fill();
    context.stroke();
  }
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `700 10px ${palette.font}`;
  for (const { node, at, radius } of shown) {
    if (node.id === focus.selected || node.id === focus.hovered || focus.hops.includes(node.id)) {
      context.strokeStyle = palette.accent;
      context.lineWidth = 2.4;
      context.beginPath();
      context.arc(at.x, at.y, radius + 3.5, 0, 2 * Math.PI);
      context.stroke();
    }
    const inside = DRAWN_SIGN[node.status];
    if (inside !== "" && node.kind === "agent" && radius >= 4) {
      context.fillStyle = palette.ground;
      context.fillText(inside, at.x, at.y + 0.5);
    }
    const mark = focus.marks.get(node.id);
    if (mark === undefined) continue;
    const { colour, dash } = MARK_LOOK[mark];
    context.strokeStyle = palette[colour];
    context.lineWidth = 2.4;
    context.setLineDash([...dash]);
    context.beginPath();
    context.arc(at.x, at.y, radius + 3.5, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
    sign(at.x, at.y - radius - 5, MARK_SIGN[mark], palette[colour]);
  }
  yield;
  if (scene.dense) paintRingLabels(context, shown, scene, camera, palette, focus);
  else paintLabels(context, shown, scene, palette, focus, width);
}

const SIGNS: Record<string, string> = {
  stale: "✕",
  never: "∅",
  lossy: "≈",
  down: "▾",
  one_sided: "½",
  key_mismatch: "≠",
};

type Shown = { node: TopologyNode; at: Point; radius: number };

/** How much a node's name matters: pointed at, down, at a broken edge, well connected. */
function ranking(scene: Scene, focus: Focus): (item: Shown) => number {
  const weight = new Map<string, number>();
  for (const { edge, a, b } of scene.edges) {
    const add = a.width > 2 || b.width > 2 ? 1000 : 1;
    weight.set(edge.a.node, (weight.get(edge.a.node) ?? 0) + add);
    weight.set(edge.b.node, (weight.get(edge.b.node) ?? 0) + add);
  }
  return ({ node }) =>
    node.id === focus.hovered || node.id === focus.selected || focus.hops.includes(node.id)
      ? Infinity
      : (node.status === "down" ? 1e6 : 0) + (weight.get(node.id) ?? 0);
}

function shorten(label: string): string {
  return label.length > 28 ? `${label.slice(0, 27)}…` : label;
}

function nameColour(node: TopologyNode, rank: number, palette: Palette): string {
  return node.status === "down" ? palette.bad : rank >= 1000 ? palette.text : palette.muted;
}

/** Names along the spokes of the ring, outwards; where they would touch, the important ones stay. */
function paintRingLabels(
  context: CanvasRenderingContext2D,
  shown: readonly Shown[],
  scene: Scene,
  camera: Camera,
  palette: Palette,
  focus: Focus,
): void {
  const rank = ranking(scene, focus);
  const centre = toScreen(camera, { x: 0, y: 0 });
  const taken: number[] = [];
  context.font = `${LABEL_PX}px ${palette.font}`;
  context.textBaseline = "middle";
  for (const item of [...shown].sort((x, y) => rank(y) - rank(x))) {
    const [dx, dy] = [item.at.x - centre.x, item.at.y - centre.y];
    const [angle, distance] = [Math.atan2(dy, dx), Math.hypot(dx, dy)];
    const apart = LABEL_PX / Math.max(1, distance);
    const touches = taken.some((other) => {
      const turn = Math.abs(other - angle);
      return Math.min(turn, 2 * Math.PI - turn) < apart;
    });
    if (touches && rank(item) !== Infinity) continue;
    taken.push(angle);
    const left = Math.abs(angle) > Math.PI / 2;
    context.save();
    context.translate(item.at.x, item.at.y);
    context.rotate(left ? angle + Math.PI : angle);
    context.textAlign = left ? "right" : "left";
    context.fillStyle = nameColour(item.node, rank(item), palette);
    context.fillText(shorten(item.node.label), (left ? -1 : 1) * (item.radius + 5), 0);
    context.restore();
  }
}

/** Names beside their nodes, the important first; one that would lie on another is left out until there is room. */
function paintLabels(
  context: CanvasRenderingContext2D,
  shown: readonly Shown[],
  scene: Scene,
  palette: Palette,
  focus: Focus,
  width: number,
): void {
  const rank = ranking(scene, focus);
  const ordered = [...shown].sort((x, y) => rank(y) - rank(x)).slice(0, MAX_LABELS);
  context.font = `${LABEL_PX}px ${palette.font}`;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.lineWidth = 3.5;
  context.lineJoin = "round";
  const taken: [left: number, top: number, right: number, bottom: number][] = [];
  for (const item of shown)
    taken.push([item.at.x - item.radius, item.at.y - item.radius, item.at.x + item.radius, item.at.y + item.radius]);
  const free = (box: [number, number, number, number]) =>
    box[0] >= 2 &&
    box[2] <= width - 2 &&
    taken.every(([left, top, right, bottom]) => box[2] <= left || box[0] >= right || box[3] <= top || box[1] >= bottom);
  for (const item of ordered) {
    const text = shorten(item.node.label);
    const long = context.measureText(text).width;
    const { x, y } = item.at;
    const gap = item.radius + 4;
    const places: [number, number][] = [
      [x + gap, y],
      [x - gap - long, y],
      [x - long / 2, y + gap + LABEL_PX / 2],
      [x - long / 2, y - gap - LABEL_PX / 2],
    ];
    const must = rank(item) === Infinity;
    const place =
      places.find(([left, middle]) => free([left, middle - 7, left + long, middle + 7])) ??
      (must ? places[0] : undefined);
    if (place === undefined) continue;
    taken.push([place[0], place[1] - 7, place[0] + long, place[1] + 7]);
    context.strokeStyle = palette.ground;
    context.strokeText(text, place[0], place[1]);
    context.fillStyle = nameColour(item.node, rank(item), palette);
    context.fillText(text, place[0], place[1]);
  }
}

/** Reads the theme's colours from the style sheet. */
export function readPalette(element: Element): Palette {
  const style = getComputedStyle(element);
  const value = (name: string) => sixDigits(style.getPropertyValue(`--${name}`).trim());
  return {
    good: value("good"),
    warn: value("warn"),
    bad: value("bad"),
    quiet: value("quiet"),
    ground: value("ground"),
    raised: value("raised"),
    text: value("text"),
    muted: value("muted"),
    accent: value("accent"),
    line: value("line"),
    font: value("sans"),
  };
}
