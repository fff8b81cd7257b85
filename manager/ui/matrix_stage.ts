// Owns the canvas of the matrix: cells that are in sight, names along both sides, a cursor for the pointer and the keys.
import { zoomAt, type Camera, type Point } from "./camera.ts";
import { STATE_TONE, STATUS_TONE, type Tone } from "./look.ts";
import { EDGE_ORDER, type Matrix } from "./matrix.ts";
import { type Palette, readPalette } from "./paint_map.ts";
import { STATE_SIGN } from "./words.ts";

/** From this size of a cell on, names can be read, and a sign told from another; the signs of what is not broken, which may
 * stand in every cell, only where there are fewer. */
const NAMED_PX = 9;
const SIGNED_PX = 8;
const ALL_SIGNED_PX = 11;
/** Up to so many nodes a cell of the bitmap has FINE² pixels, room for a shape: smaller cells have no sign, and colour alone
 * tells nothing to some. Beyond, making it anew at every update takes too long, and all cells at once have a pixel or two each. */
const FINE_NODES = 600;
const FINE = 2;
/** A cell is never larger than this when all are shown. */
const MAX_CELL = 26;
const NAMES_PX = 150;
const NARROW_NAMES_PX = 84;

const TONE_AT: readonly Tone[] = EDGE_ORDER.map((state) => STATE_TONE[state]);

export type CellAt = { row: number; column: number };
export type MatrixEvents = {
  open(cell: CellAt): void;
  point(cell: CellAt | null, at: Point | null): void;
};

export class MatrixStage {
  matrix: Matrix = { nodes: [], sites: [], states: new Uint8Array(), at: () => null };
  camera: Camera = { x: 0, y: 0, scale: 10 };
  cursor: CellAt | null = null;
  /** The healthy cells, which a frame only has to stretch: `up` fills its cell, what is quiet two quarters of it. */
  readonly #bitmap = document.createElement("canvas");
  readonly #context: CanvasRenderingContext2D;
  #palette: Palette;
  #frame = 0;
  #size = { width: 0, height: 0 };
  #moved = false;
  readonly #stops: (() => void)[] = [];

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly events: MatrixEvents,
  ) {
    this.#context = canvas.getContext("2d", { alpha: false })!;
    this.#palette = readPalette(canvas);
    const observer = new ResizeObserver(() => this.#resize());
    observer.observe(canvas);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const retheme = () => {
      this.#palette = readPalette(canvas);
      this.#stretch();
      this.repaint();
    };
    dark.addEventListener("change", retheme);
    this.#stops.push(
      () => observer.disconnect(),
      () => dark.removeEventListener("change", retheme),
    );
    this.#listen();
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    for (const stop of this.#stops) stop();
  }

  show(matrix: Matrix): void {
    if (matrix === this.matrix) return;
    const same = matrix.nodes.length === this.matrix.nodes.length;
    this.matrix = matrix;
    this.#stretch();
    if (!same) this.cursor = null;
    if (!this.#moved || !same) this.fit();
    else this.repaint();
  }

  get #names(): number {
    return this.#size.width < 640 ? NARROW_NAMES_PX : NAMES_PX;
  }

  fit(): void {
    const { width, height } = this.#size;
    const names = this.#names;
    const room = Math.min(width, height) - names - 12;
    const scale = Math.max(1, Math.min(MAX_CELL, room / Math.max(1, this.matrix.nodes.length)));
    this.camera = { scale, x: names, y: names };
    this.#moved = false;
    this.repaint();
  }

  zoom(factor: number): void {
    this.#zoomAt({ x: this.#size.width / 2, y: this.#size.height / 2 }, factor);
  }

  repaint(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #zoomAt(about: Point, factor: number): void {
    const scale = Math.min(48, Math.max(1, this.camera.scale * factor));
    this.camera = zoomAt(this.camera, about, scale / this.camera.scale);
    // The camera of the map stops at its own limit; the matrix goes closer.
    this.camera.scale = scale;
    this.#moved = true;
    this.repaint();
  }

  #panBy(dx: number, dy: number): void {
    this.camera = { ...this.camera, x: this.camera.x + dx, y: this.camera.y + dy };
    this.#moved = true;
    this.repaint();
  }

  #resize(): void {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.#size = { width, height };
    if (this.#moved) this.repaint();
    else this.fit();
  }

  cellAt({ x, y }: Point): CellAt | null {
    const names = this.#names;
    if (x < names || y < names) return null;
    const column = Math.floor((x - this.camera.x) / this.camera.scale);
    const row = Math.floor((y - this.camera.y) / this.camera.scale);
    const { length } = this.matrix.nodes;
    return column >= 0 && row >= 0 && column < length && row < length ? { row, column } : null;
  }

  #paint(): void {
    const { width, height } = this.#size;
    const { nodes, sites, states } = this.matrix;
    const context = this.#context;
    const palette = this.#palette;
    const { x: left, y: top, scale: cell } = this.camera;
    const ratio = this.canvas.width / width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = palette.ground;
    context.fillRect(0, 0, width, height);
    const count = nodes.length;
    if (count === 0) return;
    const names = this.#names;
    const clamp = (index: number) => Math.max(0, Math.min(count, index));
    const [column0, column1] = [clamp(Math.floor((names - left) / cell)), clamp(Math.ceil((width - left) / cell))];
    const [row0, row1] = [clamp(Math.floor((names - top) / cell)), clamp(Math.ceil((height - top) / cell))];
    context.save();
    context.beginPath();
    context.rect(names, names, width - names, height - names);
    context.clip();
    context.fillStyle = palette.raised;
    context.fillRect(left, top, count * cell, count * cell);
    const gap = cell >= 6 ? 1 : 0;
    const side = cell - gap;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#bitmap, left, top, count * cell, count * cell);
    if (gap > 0) {
      context.strokeStyle = palette.raised;
      context.lineWidth = gap;
      context.beginPath();
      for (let i = column0; i <= column1; i++) {
        context.moveTo(left + i * cell - gap / 2, top);
        context.lineTo(left + i * cell - gap / 2, top + count * cell);
      }
      for (let i = row0; i <= row1; i++) {
        context.moveTo(left, top + i * cell - gap / 2);
        context.lineTo(left + count * cell, top + i * cell - gap / 2);
      }
      context.stroke();
    }
    const signed = cell >= SIGNED_PX;
    const signs: [x: number, y: number, sign: string][] = [];
    for (const tone of ["warn", "bad"] as const) {
      context.fillStyle = palette[tone];
      context.beginPath();
      // Three pixels at least: one among 40,000 must not vanish. Without signs broken is a square, what may break a triangle.
      const drawn = Math.max(3, side);
      const whole = signed || tone === "bad";
      for (let row = row0; row < row1; row++) {
        for (let column = column0; column < column1; column++) {
          const place = states[row * count + column]!;
          if (place === 0 || TONE_AT[place - 1] !== tone) continue;
          const [x, y] = [left + column * cell, top + row * cell];
          if (whole) context.rect(x, y, drawn, drawn);
          else {
            context.moveTo(x, y);
            context.lineTo(x + drawn, y + drawn);
            context.lineTo(x, y + drawn);
            context.closePath();
          }
          if (signed) signs.push([x, y, STATE_SIGN[EDGE_ORDER[place - 1]!]]);
        }
      }
      context.fill();
    }
    context.font = `700 ${Math.min(13, cell * 0.72)}px ${palette.font}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    if (cell >= ALL_SIGNED_PX) this.#signQuiet(row0, row1, column0, column1, side);
    context.fillStyle = palette.raised;
    for (const [x, y, sign] of signs) context.fillText(sign, x + side / 2, y + side / 2 + 0.5);
    // Nobody talks to himself.
    context.fillStyle = palette.line;
    for (let i = Math.max(row0, column0); i < Math.min(row1, column1); i++)
      context.fillRect(left + i * cell, top + i * cell, side, side);
    context.strokeStyle = palette.muted;
    context.globalAlpha = 0.5;
    context.lineWidth = 1;
    context.beginPath();
    for (let i = 1; i < count; i++) {
      if (sites[i] === sites[i - 1]) continue;
      const [x, y] = [Math.round(left + i * cell) - 0.5, Math.round(top + i * cell) - 0.5];
      context.moveTo(x, top);
      context.lineTo(x, top + count * cell);
      context.moveTo(left, y);
      context.lineTo(left + count * cell, y);
    }
    if (cell >= 6) context.stroke();
    context.globalAlpha = 1;
    const { cursor } = this;
    if (cursor !== null) {
      const [x, y] = [left + cursor.column * cell, top + cursor.row * cell];
      context.fillStyle = palette.accent;
      context.globalAlpha = 0.13;
      context.fillRect(left, y, count * cell, side);
      context.fillRect(x, top, side, count * cell);
      context.globalAlpha = 1;
      context.strokeStyle = palette.accent;
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, side + 2, side + 2);
    }
    context.restore();
    this.#paintNames(row0, row1, column0, column1);
  }

  /** Idle, unused and unknown links have their signs too, but none of the weight. */
  #signQuiet(row0: number, row1: number, column0: number, column1: number, side: number): void {
    const { states, nodes } = this.matrix;
    const { x: left, y: top, scale: cell } = this.camera;
    const context = this.#context;
    const ground = this.#mix("quiet", 0.25);
    for (let row = row0; row < row1; row++)
      for (let column = column0; column < column1; column++) {
        const place = states[row * nodes.length + column]!;
        if (place === 0 || TONE_AT[place - 1] !== "quiet") continue;
        const [x, y] = [left + column * cell, top + row * cell];
        // Over the quarters that stand for it where there are no signs.
        context.fillStyle = ground;
        context.fillRect(x, y, side, side);
        context.fillStyle = this.#palette.muted;
        context.fillText(STATE_SIGN[EDGE_ORDER[place - 1]!], x + side / 2, y + side / 2 + 0.5);
      }
  }

  /** A share of a tone's colour over the cells' ground, `#rrggbb`. */
  #mix(tone: Tone, share: number): string {
    const [over, under] = [this.#palette[tone], this.#palette.raised].map((text) => Number.parseInt(text.slice(1), 16));
    const channel = (shift: number) =>
      Math.round(((over! >> shift) & 255) * share + ((under! >> shift) & 255) * (1 - share)) << shift;
    return `#${(channel(16) | channel(8) | channel(0)).toString(16).padStart(6, "0")}`;
  }

  /** Makes the bitmap of the matrix and the theme. */
  #stretch(): void {
    const { states, nodes } = this.matrix;
    const count = nodes.length;
    const fine = count <= FINE_NODES ? FINE : 1;
    this.#bitmap.width = Math.max(1, count * fine);
    this.#bitmap.height = this.#bitmap.width;
    const image = new ImageData(this.#bitmap.width, this.#bitmap.height);
    const pixels = new Uint32Array(image.data.buffer);
    const pixel = (colour: string) => {
      const rgb = Number.parseInt(colour.slice(1), 16);
      // Bytes lie as red, green, blue, alpha; every browser's machine is little-endian.
      return ((255 << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
    };
    const good = pixel(this.#mix("good", 0.3));
    const quiet = pixel(this.#mix("quiet", fine === 1 ? 0.25 : 0.5));
    for (let i = 0; i < states.length; i++) {
      const tone = states[i] === 0 ? null : TONE_AT[states[i]! - 1]!;
      if (tone !== "good" && tone !== "quiet") continue;
      const corner = (Math.floor(i / count) * image.width + (i % count)) * fine;
      for (let row = 0; row < fine; row++)
        for (let column = 0; column < fine; column++)
          if (tone === "good" || row === column)
            pixels[corner + row * image.width + column] = tone === "good" ? good : quiet;
    }
    this.#bitmap.getContext("2d")!.putImageData(image, 0, 0);
  }

  #paintNames(row0: number, row1: number, column0: number, column1: number): void {
    const context = this.#context;
    const palette = this.#palette;
    const { nodes } = this.matrix;
    const { x: left, y: top, scale: cell } = this.camera;
    const names = this.#names;
    const every = cell >= NAMED_PX ? 1 : 0;
    const size = Math.min(12, Math.max(9, cell * 0.8));
    const shorten = (text: string) => {
      const most = Math.floor((names - 14) / (size * 0.56));
      return text.length > most ? `${text.slice(0, most - 1)}…` : text;
    };
    context.textBaseline = "middle";
    const put = (index: number, turned: boolean, marked: boolean) => {
      const node = nodes[index]!;
      const at = (turned ? left : top) + (index + 0.5) * cell;
      if (at < names) return;
      context.save();
      if (turned) {
        context.translate(at, names - 6);
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
      } else {
        context.translate(names - 6, at);
        context.textAlign = "right";
      }
      context.font = `${marked ? 600 : 400} ${marked ? Math.max(11, size) : size}px ${palette.font}`;
      context.fillStyle = marked ? palette.accent : node.status === "down" ? palette[STATUS_TONE.down] : palette.text;
      context.fillText(shorten(node.label), 0, 0);
      context.restore();
    };
    if (every === 1) {
      for (let i = row0; i < row1; i++) if (i !== this.cursor?.row) put(i, false, false);
      for (let i = column0; i < column1; i++) if (i !== this.cursor?.column) put(i, true, false);
    }
    if (this.cursor !== null) {
      put(this.cursor.row, false, true);
      put(this.cursor.column, true, true);
    }
    context.fillStyle = palette.muted;
    context.font = `11px ${palette.font}`;
    context.textAlign = "left";
    context.fillText("from ↓   to →", 12, names - 12);
  }

  #point(cell: CellAt | null, at: Point | null): void {
    const same = cell?.row === this.cursor?.row && cell?.column === this.cursor?.column;
    this.events.point(cell, at);
    if (same) return;
    this.cursor = cell;
    this.repaint();
  }

  /** Keys move the cursor; the view follows it. */
  #step(rows: number, columns: number): void {
    const { length } = this.matrix.nodes;
    if (length === 0) return;
    const limit = (value: number) => Math.max(0, Math.min(length - 1, value));
    const from = this.cursor ?? { row: 0, column: 0 };
    const cell = { row: limit(from.row + rows), column: limit(from.column + columns) };
    const { scale, x, y } = this.camera;
    const names = this.#names;
    const [cx, cy] = [x + cell.column * scale, y + cell.row * scale];
    const dx = cx < names ? names - cx : Math.min(0, this.#size.width - scale - cx);
    const dy = cy < names ? names - cy : Math.min(0, this.#size.height - scale - cy);
    if (dx !== 0 || dy !== 0) this.#panBy(dx, dy);
    this.#point(cell, { x: cx + dx + scale, y: cy + dy + scale });
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
    let before: Point | null = null;
    let travelled = 0;
    on("pointerdown", (event) => {
      before = at(event);
      travelled = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    on("pointermove", (event) => {
      const point = at(event);
      if (before === null) return this.#point(this.cellAt(point), point);
      travelled += Math.hypot(point.x - before.x, point.y - before.y);
      if (travelled >= 4) this.#panBy(point.x - before.x, point.y - before.y);
      before = point;
    });
    on("pointerup", (event) => {
      const cell = travelled < 4 ? this.cellAt(at(event)) : null;
      before = null;
      if (cell === null) return;
      this.#point(cell, at(event));
      this.events.open(cell);
    });
    on("pointercancel", () => (before = null));
    on("pointerleave", () => this.#point(null, null));
    on(
      "wheel",
      (event) => {
        event.preventDefault();
        this.#zoomAt(at(event), Math.exp(-event.deltaY * (event.deltaMode === 1 ? 20 : 1) * 0.0015));
      },
      { passive: false },
    );
    on("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = event.shiftKey ? 10 : 1;
      const keys: Record<string, () => void> = {
        ArrowLeft: () => this.#step(0, -step),
        ArrowRight: () => this.#step(0, step),
        ArrowUp: () => this.#step(-step, 0),
        ArrowDown: () => this.#step(step, 0),
        "+": () => this.zoom(1.25),
        "=": () => this.zoom(1.25),
        "-": () => this.zoom(0.8),
        "0": () => this.fit(),
        Enter: () => this.cursor !== null && this.events.open(this.cursor),
      };
      const act = keys[event.key];
      if (act === undefined) return;
      event.preventDefault();
      act();
    });
  }
}
