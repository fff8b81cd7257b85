// Owns one canvas with the map on it: size, layout in slices, painting, pan and zoom by pointer, wheel, touch and keys. While
// it moves, a large picture is a bitmap that is pushed about; it is painted anew once it stands still.
import { type Camera, distanceSquared, fit, pan, type Point, roomBeside, toScreen, toWorld, zoomAt } from "./camera.ts";
import { dumpPositions, type Layout, layOut, loadPositions, type Positions, ring } from "./layout.ts";
import { type Focus, line, NO_FOCUS, paintMap, type Palette, readPalette } from "./paint_map.ts";
import type { Picture } from "./picture.ts";
import { bySite, type Filter, type Scene, sceneOf } from "./scene.ts";

/** Work of ours in one frame of 16.7 ms; the rest is the browser's. */
const SLICE_MS = 8;
/** Up to so many edges a whole painting fits into a frame. */
const SMALL = 1200;
/** Stillness after which a moved bitmap is painted anew. */
const STILL_MS = 90;
/** What is revealed stands at least so far from the border. */
const EDGE_ROOM = 60;
const NODE_REACH = 12;
const EDGE_REACH = 6;

const FORCE_KEY = "kattila.positions";
const RING_KEY = "kattila.ring";

function kept(key: string): Positions {
  try {
    return loadPositions(localStorage.getItem(key));
  } catch {
    return new Map(); // storage is forbidden: positions last as long as the page
  }
}
// One set of positions for every map on the page, and one layout under way: a map that goes hands it to the next.
let forced: Positions | null = null;
let ringed: Positions | null = null;
let underWay: Layout | null = null;

export type StageEvents = { select(id: string | null): void; hover(id: string | null, at: Point | null): void };

export class MapStage {
  camera: Camera = { x: 0, y: 0, scale: 1 };
  scene: Scene = { nodes: [], edges: [], dense: false, problems: 0 };
  positions: Positions = new Map();
  palette: Palette;
  /** Full paintings so far and the last one's time: for the bench. */
  paintings = 0;
  /** CSS pixels on the right that a panel covers. */
  inset = 0;
  readonly #context: CanvasRenderingContext2D;
  /** The bitmap that is shown, and the one that is being painted. */
  #front = document.createElement("canvas");
  #back = document.createElement("canvas");
  #buffered: Camera | null = null;
  #painting: Generator<void, void> | null = null;
  #paintingCamera: Camera | null = null;
  #focus: Focus = NO_FOCUS;
  #frame = 0;
  #dirty = true;
  #moved = false;
  #movedAt = 0;
  #size = { width: 0, height: 0 };
  #seen: unknown[] = [];
  #asked = "";
  #hovered: string | null = null;
  readonly #stops: (() => void)[] = [];

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly events: StageEvents,
    private readonly interactive: boolean,
  ) {
    forced ??= kept(FORCE_KEY);
    ringed ??= kept(RING_KEY);
    this.#context = canvas.getContext("2d", { alpha: false })!;
    this.palette = readPalette(canvas);
    const observer = new ResizeObserver(() => this.#resize());
    observer.observe(canvas);
    this.#stops.push(() => observer.disconnect());
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const retheme = () => {
      this.palette = readPalette(canvas);
      this.repaint();
    };
    dark.addEventListener("change", retheme);
    this.#stops.push(() => dark.removeEventListener("change", retheme));
    this.#listen();
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    for (const stop of this.#stops) stop();
  }

  /** Shows a picture through a filter; does nothing that is not needed. */
  show(picture: Picture, filter: Filter, focus: Focus): void {
    const key = [picture, picture.version, filter.network, filter.foreign, filter.edges, [...filter.layers].join()];
    if (!key.every((item, i) => item === this.#seen[i])) {
      this.#seen = key;
      this.scene = sceneOf(picture, filter);
      this.#place(picture);
      this.repaint();
    }
    const asked = JSON.stringify({ ...focus, marks: [...focus.marks] });
    if (asked === this.#asked) return;
    this.#asked = asked;
    const framed = this.#focus.hops.join() !== focus.hops.join();
    this.#focus = { ...focus, hovered: this.#hovered };
    if (framed && !this.#moved) this.fit();
    else this.repaint();
  }

  #place(picture: Picture): void {
    const ids = this.scene.nodes.map(({ id }) => id);
    if (this.scene.dense) {
      this.positions = ringed!;
      if (ids.some((id) => !ringed!.has(id))) {
        ring(
          bySite(picture, this.scene.nodes).map(({ id }) => id),
          ringed!,
        );
        this.#keep(RING_KEY, ringed!);
      }
      if (!this.#moved) this.fit();
      return;
    }
    this.positions = forced!;
    if (ids.some((id) => !forced!.has(id))) {
      // Every edge holds, also those that this filter hides: else a filter would move what it shows.
      const links = [...picture.edges.values()].map(({ a, b }) => ({ source: a.node, target: b.node }));
      underWay = layOut([...picture.nodes.keys()], links, forced!);
    }
    if (!this.#moved) this.fit();
  }

  #keep(key: string, positions: Positions): void {
    try {
      localStorage.setItem(key, dumpPositions(positions));
    } catch {
      // full or forbidden: the next visit lays out anew
    }
  }

  /** What no panel covers. */
  get #room(): { width: number; height: number } {
    return roomBeside(this.#size, this.inset);
  }

  /** Shows everything. */
  fit(): void {
    // A traced path is what its map is about.
    const ids = this.#focus.hops.length > 0 ? this.#focus.hops : this.scene.nodes.map(({ id }) => id);
    const points = ids.flatMap((id) => this.positions.get(id) ?? []);
    const { width, height } = this.#room;
    // A ring's names stand outside it.
    const margin = Math.min(this.scene.dense ? 110 : 70, Math.min(width, height) * 0.14);
    this.camera = fit(points, width, height, margin);
    this.repaint();
  }

  /** Brings a node or an edge into the middle when it is not in sight. */
  reveal(nodes: readonly string[]): void {
    const points = nodes.flatMap((id) => this.positions.get(id) ?? []);
    if (points.length === 0) return;
    const { width, height } = this.#room;
    // Far away, it comes nearer; then no further than needed.
    const near =
      this.camera.scale < 0.5
        ? zoomAt(this.camera, { x: width / 2, y: height / 2 }, 0.8 / this.camera.scale)
        : this.camera;
    const shift = (low: number, high: number, room: number) => {
      if (high - low > room - 2 * EDGE_ROOM) return room / 2 - (low + high) / 2;
      return low < EDGE_ROOM ? EDGE_ROOM - low : high > room - EDGE_ROOM ? room - EDGE_ROOM - high : 0;
    };
    const [x, y] = (["x", "y"] as const).map((axis) => points.map((point) => toScreen(near, point)[axis]));
    const dx = shift(Math.min(...x!), Math.max(...x!), width);
    const dy = shift(Math.min(...y!), Math.max(...y!), height);
    if (dx !== 0 || dy !== 0) this.#move(pan(near, dx, dy));
  }

  zoom(factor: number): void {
    this.#move(zoomAt(this.camera, { x: this.#size.width / 2, y: this.#size.height / 2 }, factor));
  }

  panBy(dx: number, dy: number): void {
    this.#move(pan(this.camera, dx, dy));
  }

  repaint(): void {
    this.#dirty = true;
    this.#wake();
  }

  #move(camera: Camera): void {
    this.camera = camera;
    this.#moved = true;
    this.#movedAt = performance.now();
    this.#wake();
  }

  #resize(): void {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    for (const canvas of [this.canvas, this.#front, this.#back]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.#size = { width, height };
    this.#buffered = null;
    if (this.#moved) this.repaint();
    else this.fit();
  }

  #wake(): void {
    this.#frame ||= requestAnimationFrame(() => this.#onFrame());
  }

  #onFrame(): void {
    this.#frame = 0;
    const { width, height } = this.#size;
    if (width === 0) return;
    const began = performance.now();
    const inTime = () => performance.now() - began < SLICE_MS;
    const laysOut = underWay !== null && !this.scene.dense;
    if (laysOut) {
      if (underWay!.work(inTime)) {
        underWay = null;
        this.#keep(FORCE_KEY, this.positions);
      }
      if (!this.#moved) this.fit();
      this.#dirty = true;
    }
    if (this.scene.edges.filter(({ onDemand }) => !onDemand).length <= SMALL) {
      if (this.#dirty || this.#buffered !== this.camera) {
        for (const _ of this.#paint(this.#context)) void _;
        this.#buffered = this.camera;
        this.#dirty = false;
        this.paintings++;
      }
      if (underWay !== null && laysOut) this.#wake();
      return;
    }
    // A large picture: the bitmap moves at once, the painting follows.
    const still = began - this.#movedAt > STILL_MS;
    if (this.#dirty || (this.#buffered !== this.camera && still && this.#paintingCamera !== this.camera)) {
      this.#dirty = false;
      this.#painting = this.#paint(this.#back.getContext("2d", { alpha: false })!);
      this.#paintingCamera = this.camera;
    }
    if (this.#painting !== null && still) {
      let done = false;
      while (inTime() && !done) done = this.#painting.next().done === true;
      if (done) {
        this.#painting = null;
        [this.#front, this.#back] = [this.#back, this.#front];
        this.#buffered = this.#paintingCamera;
        this.paintings++;
      }
    }
    this.#blit();
    if (this.#painting !== null || (underWay !== null && laysOut) || this.#buffered !== this.camera) this.#wake();
  }

  #paint(context: CanvasRenderingContext2D): Generator<void, void> {
    const ratio = this.canvas.width / this.#size.width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return paintMap(context, this.scene, this.positions, this.camera, this.#size, this.palette, this.#focus);
  }

  #blit(): void {
    const from = this.#buffered;
    if (from === null) return;
    const { canvas, camera } = this;
    const ratio = canvas.width / this.#size.width;
    const scale = camera.scale / from.scale;
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.fillStyle = this.palette.ground;
    this.#context.fillRect(0, 0, canvas.width, canvas.height);
    this.#context.setTransform(
      scale,
      0,
      0,
      scale,
      (camera.x - from.x * scale) * ratio,
      (camera.y - from.y * scale) * ratio,
    );
    this.#context.drawImage(this.#front, 0, 0);
  }

  /** What lies under a point of the screen: a node first, else an edge. */
  hit(at: Point): string | null {
    let found: string | null = null;
    let nearest = NODE_REACH * NODE_REACH;
    for (const { id } of this.scene.nodes) {
      const position = this.positions.get(id);
      if (position === undefined) continue;
      const { x, y } = toScreen(this.camera, position);
      const distance = (x - at.x) ** 2 + (y - at.y) ** 2;
      if (distance < nearest) [nearest, found] = [distance, id];
    }
    if (found !== null) return found;
    nearest = EDGE_REACH * EDGE_REACH;
    const near = this.#focus.hovered ?? this.#focus.selected;
    for (const item of this.scene.edges) {
      if (item.onDemand && item.edge.a.node !== near && item.edge.b.node !== near) continue;
      const segment = line(item, this.positions, this.camera);
      if (segment === null) continue;
      const [x1, y1, x2, y2] = segment;
      const distance = distanceSquared(at, { x: x1, y: y1 }, { x: x2, y: y2 });
      if (distance < nearest) [nearest, found] = [distance, item.edge.id];
    }
    return found;
  }

  #hover(id: string | null, at: Point | null): void {
    this.events.hover(id, at);
    if (id === this.#hovered) return;
    this.#hovered = id;
    this.#focus = { ...this.#focus, hovered: id };
    this.repaint();
  }

  #listen(): void {
    const { canvas } = this;
    const on = <Name extends keyof HTMLElementEventMap>(
      name: Name,
      take: (event: HTMLElementEventMap[Name]) => void,
      options?: AddEventListenerOptions,
    ) => {
      canvas.addEventListener(name, take, options);
      this.#stops.push(() => canvas.removeEventListener(name, take));
    };
    const at = (event: MouseEvent): Point => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const pointers = new Map<number, Point>();
    let travelled = 0;
    let dragged: string | null = null;
    on("pointerdown", (event) => {
      if (pointers.size === 0) travelled = 0;
      const point = at(event);
      pointers.set(event.pointerId, point);
      canvas.setPointerCapture(event.pointerId);
      const hit = this.interactive && event.pointerType === "mouse" ? this.hit(point) : null;
      dragged = hit !== null && this.positions.has(hit) ? hit : null;
    });
    on("pointermove", (event) => {
      const point = at(event);
      const before = pointers.get(event.pointerId);
      if (before === undefined) {
        const hit = this.hit(point);
        canvas.style.cursor = hit === null ? "" : "pointer";
        return this.#hover(hit, point);
      }
      travelled += Math.hypot(point.x - before.x, point.y - before.y);
      if (!this.interactive || travelled < 4) return;
      pointers.set(event.pointerId, point);
      if (pointers.size === 1) {
        // A node that is taken by the hand goes with it, and stays where it is put.
        if (dragged !== null) {
          this.positions.set(dragged, toWorld(this.camera, point));
          this.#moved = true;
          return this.repaint();
        }
        return this.#move(pan(this.camera, point.x - before.x, point.y - before.y));
      }
      const other = [...pointers].find(([pointer]) => pointer !== event.pointerId)![1];
      const [was, is] = [
        Math.hypot(before.x - other.x, before.y - other.y),
        Math.hypot(point.x - other.x, point.y - other.y),
      ];
      const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 };
      const shifted = pan(this.camera, (point.x - before.x) / 2, (point.y - before.y) / 2);
      this.#move(was > 0 ? zoomAt(shifted, middle, is / was) : shifted);
    });
    const end = (event: PointerEvent) => {
      if (!pointers.delete(event.pointerId)) return;
      if (dragged !== null && travelled >= 4) this.#keep(this.scene.dense ? RING_KEY : FORCE_KEY, this.positions);
      if (event.type === "pointerup" && travelled < 4 && pointers.size === 0) this.events.select(this.hit(at(event)));
      dragged = null;
    };
    on("pointerup", end);
    on("pointercancel", end);
    on("pointerleave", () => this.#hover(null, null));
    if (!this.interactive) return;
    on(
      "wheel",
      (event) => {
        event.preventDefault();
        // deltaMode 1 is lines, some 20 px each.
        const delta = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
        this.#move(zoomAt(this.camera, at(event), Math.exp(-delta * 0.0015)));
      },
      { passive: false },
    );
    on("keydown", (event) => {
      const step = event.shiftKey ? 200 : 60;
      const moves: Record<string, () => void> = {
        ArrowLeft: () => this.panBy(step, 0),
        ArrowRight: () => this.panBy(-step, 0),
        ArrowUp: () => this.panBy(0, step),
        ArrowDown: () => this.panBy(0, -step),
        "+": () => this.zoom(1.25),
        "=": () => this.zoom(1.25),
        "-": () => this.zoom(0.8),
        "0": () => {
          this.#moved = false;
          this.fit();
        },
      };
      const move = event.ctrlKey || event.metaKey || event.altKey ? undefined : moves[event.key];
      if (move === undefined) return;
      event.preventDefault();
      move();
    });
  }
}
