// Owns what the manager serves as the dashboard: three files with their headers, made when the manager is transpiled or
// compiled.
import { bundle } from "./bundle.ts" with { type: "macro" };

export type Asset = { body: Uint8Array<ArrayBuffer>; headers: Record<string, string> };

const FILES = bundle();

// Everything from the manager itself; styles by class and by the DOM alone, so neither inline script nor inline style.
// blob: and data: are the map's own exports and its icon.
const CONTENT_SECURITY_POLICY = [
  "default-src 'self'",
  "img-src 'self' blob: data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "object-src 'none'",
].join("; ");

/** The dashboard's files by path. The page names the others with their hash, so they may be kept for ever. */
export async function uiAssets(): Promise<ReadonlyMap<string, Asset>> {
  const asset = (type: string, text: string, cache: string): Asset => {
    const body = new TextEncoder().encode(text);
    return {
      body,
      headers: {
        "Content-Type": `${type}; charset=utf-8`,
        ETag: `"${hash(text)}"`,
        "Cache-Control": cache,
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
      },
    };
  };
  const html = FILES.html
    .replace("/assets/app.js", `/assets/app.js?${hash(FILES.script)}`)
    .replace("/assets/app.css", `/assets/app.css?${hash(FILES.style)}`);
  const forEver = "public, max-age=31536000, immutable";
  return new Map([
    ["/", asset("text/html", html, "no-cache")],
    ["/assets/app.js", asset("text/javascript", FILES.script, forEver)],
    ["/assets/app.css", asset("text/css", FILES.style, forEver)],
  ]);
}

/** Bytes of all files together: as they are, and gzipped one by one as a browser would take them. */
export function uiSize(): { bytes: number; gzippedBytes: number } {
  const bodies = Object.values(FILES).map((text) => new TextEncoder().encode(text));
  return {
    bytes: bodies.reduce((sum, body) => sum + body.byteLength, 0),
    gzippedBytes: bodies.reduce((sum, body) => sum + Bun.gzipSync(body, { level: 9 }).byteLength, 0),
  };
}

function hash(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 16);
}
