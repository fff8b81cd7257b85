// Owns the map's camera: world to screen and back, zoom about a point, fitting. Pure.

export type Point = { x: number; y: number };
/** Screen = world × scale + (x, y), in CSS pixels. */
export type Camera = { x: number; y: number; scale: number };

const MIN_SCALE = 0.02;
const MAX_SCALE = 8;

export function toScreen(camera: Camera, point: Point): Point {
  return { x: point.x * camera.scale + camera.x, y: point.y * camera.scale + camera.y };
}

export function toWorld(camera: Camera, point: Point): Point {
  return { x: (point.x - camera.x) / camera.scale, y: (point.y - camera.y) / camera.scale };
}

/** Zooms so that what is under `about` (screen) stays there. */
export function zoomAt(camera: Camera, about: Point, factor: number): Camera {
  const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, camera.scale * factor));
  const ratio = scale / camera.scale;
  return { scale, x: about.x - (about.x - camera.x) * ratio, y: about.y - (about.y - camera.y) * ratio };
}

export function pan(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x + dx, y: camera.y + dy };
}

/** The camera that shows all points with a margin; never closer than `closest`. */
export function fit(points: Iterable<Point>, width: number, height: number, margin = 48, closest = 1.6): Camera {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  if (left > right) return { x: width / 2, y: height / 2, scale: 1 };
  const scale = Math.min(
    closest,
    Math.max(1, width - 2 * margin) / Math.max(1, right - left),
    Math.max(1, height - 2 * margin) / Math.max(1, bottom - top),
  );
  return { scale, x: width / 2 - ((left + right) / 2) * scale, y: height / 2 - ((top + bottom) / 2) * scale };
}

/** As in app.css: up to this width a panel comes from below, and covers at most so much of the height. */
const PHONE_PX = 640;
const PANEL_SHARE = 0.6;

/** What of a stage is free beside a panel of that width; 0: there is none. */
export function roomBeside(
  stage: { width: number; height: number },
  panelPx: number,
): { width: number; height: number } {
  const { width, height } = stage;
  if (panelPx === 0) return { width, height };
  return width > PHONE_PX ? { width: width - panelPx, height } : { width, height: height * (1 - PANEL_SHARE) };
}

/** Square of the distance from a point to a segment. */
export function distanceSquared(point: Point, from: Point, to: Point): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = dx * dx + dy * dy;
  const share =
    length === 0 ? 0 : Math.max(0, Math.min(1, ((point.x - from.x) * dx + (point.y - from.y) * dy) / length));
  const [x, y] = [point.x - (from.x + share * dx), point.y - (from.y + share * dy)];
  return x * x + y * y;
}
