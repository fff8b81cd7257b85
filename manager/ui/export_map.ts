// Owns the map as files: SVG made of the same scene, positions and colours as the canvas, and PNG painted by the same code.
import { type Camera, fit, toScreen } from "./camera.ts";
import type { Positions } from "./layout.ts";
import { STATUS_TONE } from "./look.ts";
import { type Focus, line, paintMap, type Palette } from "./paint_map.ts";
import type { Scene, Style } from "./scene.ts";
import { STATE_WORDS, STATUS_SIGN } from "./words.ts";

const MARGIN = 90;

/** Text inside SVG: the names are the hosts' own, and may hold anything. Control characters are no XML at all. */
export function escapeXml(text: string): string {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function stroke({ tone, dash, width }: Style, palette: Palette): string {
  const dashes = dash.length === 0 ? "" : ` stroke-dasharray="${dash.join(" ")}"`;
  return `stroke="${palette[tone]}" stroke-width="${width}"${dashes}`;
}

/** The whole scene, whatever part of it is on the screen. Pure. */
export function mapSvg(
  scene: Scene,
  positions: Positions,
  palette: Palette,
  size = { width: 1600, height: 1000 },
): string {
  const { width, height } = size;
  const camera = fit(
    scene.nodes.flatMap(({ id }) => positions.get(id) ?? []),
    width,
    height,
    MARGIN,
  );
  const number = (value: number) => value.toFixed(1);
  const body: string[] = [];
  for (const item of scene.edges) {
    if (item.onDemand) continue;
    const segment = line(item, positions, camera);
    if (segment === null) continue;
    const [x1, y1, x2, y2] = segment;
    const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
    const half = (fromX: number, fromY: number, style: Style) =>
      `<path d="M${number(fromX)} ${number(fromY)}L${number(x)} ${number(y)}" ${stroke(style, palette)}/>`;
    const words = `${STATE_WORDS[item.edge.state]}${item.edge.reason === null ? "" : `: ${item.edge.reason}`}`;
    body.push(`<g><title>${escapeXml(words)}</title>${half(x1, y1, item.a)}${half(x2, y2, item.b)}</g>`);
  }
  for (const node of scene.nodes) {
    const position = positions.get(node.id);
    if (position === undefined) continue;
    const { x, y } = toScreen(camera, position);
    const colour = palette[STATUS_TONE[node.status]];
    // Beside the colour, as on the screen.
    const sign = node.kind === "agent" && node.status !== "online" ? STATUS_SIGN[node.status] : "";
    body.push(
      node.kind === "agent"
        ? `<circle cx="${number(x)}" cy="${number(y)}" r="6" fill="${colour}"/>`
        : `<rect x="${number(x - 5)}" y="${number(y - 5)}" width="10" height="10" fill="${palette.ground}" stroke="${colour}"/>`,
      ...(sign === ""
        ? []
        : [
            `<text x="${number(x)}" y="${number(y + 3)}" font-size="9" text-anchor="middle" fill="${palette.ground}">${sign}</text>`,
          ]),
      `<text x="${number(x + 10)}" y="${number(y + 4)}" fill="${palette.text}">${escapeXml(node.label)}</text>`,
    );
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="${palette.ground}"/>`,
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

/** The part on the screen, at twice its size. */
export async function mapPng(
  scene: Scene,
  positions: Positions,
  palette: Palette,
  camera: Camera,
  size: { width: number; height: number },
  focus: Focus,
): Promise<Blob | null> {
  const canvas = document.createElement("canvas");
  canvas.width = size.width * 2;
  canvas.height = size.height * 2;
  const context = canvas.getContext("2d")!;
  context.scale(2, 2);
  for (const _ of paintMap(context, scene, positions, camera, size, palette, focus)) void _;
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Hands a file to the browser's downloads. */
export function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  // The download has begun by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
