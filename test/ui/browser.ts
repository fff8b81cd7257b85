// Owns the browser of the dashboard's tests: Debian's chromium through Bun.WebView, with everything that the page says, asks
// for or throws written down.
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** Screenshots, kept as CI output. */
export const OUTPUT = join(import.meta.dir, "..", "output", "ui");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export type Browser = {
  view: Bun.WebView;
  /** console.error and console.warn, uncaught errors, refusals of the content security policy. */
  complaints: string[];
  /** URLs asked for. */
  requests: string[];
  open(hash: string): Promise<void>;
  /** The page's value of an expression. */
  value<T>(script: string): Promise<T>;
  /** Waits until an expression is true. @throws Error that names it, and what the page shows. */
  until(script: string, what: string, milliseconds?: number): Promise<void>;
  text(): Promise<string>;
  theme(scheme: "light" | "dark"): Promise<void>;
  /** A phone's screen: narrower than the least window that Chrome opens. */
  phone(): Promise<void>;
  screenshot(name: string): Promise<Uint8Array>;
  /** A real click of the mouse at CSS pixels. */
  clickAt(x: number, y: number): Promise<void>;
  /** A real click in the middle of the first element that fits. */
  click(selector: string): Promise<void>;
  /** The keyboard, into what has the focus. */
  type(text: string): Promise<void>;
  press(key: string): Promise<void>;
  close(): void;
};

/** Opens a page at `url`. One chromium serves all pages of this process. */
export async function openBrowser(url: string, width = 1440, height = 900): Promise<Browser> {
  const complaints: string[] = [];
  const requests: string[] = [];
  const view = new Bun.WebView({
    width,
    height,
    backend: { type: "chrome", path: Bun.which("chromium")!, argv: FLAGS },
    console: (type: string, ...parts: unknown[]) => {
      if (type === "error" || type === "warn" || type === "warning")
        complaints.push(`${type}: ${parts.map(String).join(" ")}`);
    },
  });
  await view.navigate("about:blank");
  type Params = {
    request?: { url: string };
    entry?: { level: string; text: string };
    exceptionDetails?: { text: string; exception?: { description?: string } };
  };
  const on = (name: `${string}.${string}`, take: (params: Params) => void) =>
    view.addEventListener<Params>(name, (event) => take((event as unknown as { data: Params }).data));
  on("Network.requestWillBeSent", ({ request }) => void requests.push(request?.url ?? ""));
  on("Log.entryAdded", ({ entry }) => {
    if (entry?.level === "error") complaints.push(`log: ${entry.text}`);
  });
  on(
    "Runtime.exceptionThrown",
    ({ exceptionDetails: details }) =>
      void complaints.push(`thrown: ${details?.exception?.description ?? details?.text}`),
  );
  for (const domain of ["Network", "Log", "Runtime"]) await view.cdp(`${domain}.enable`);

  const value = <T>(script: string) => view.evaluate<T>(script);
  const until = async (script: string, what: string, milliseconds = 20_000) => {
    const deadline = Date.now() + milliseconds;
    while (!(await value<boolean>(`Boolean(${script})`))) {
      if (Date.now() > deadline)
        throw new Error(
          `${what} did not come about. The page shows: ${(await value<string>("document.body.innerText")).slice(0, 600)}`,
        );
      await Bun.sleep(40);
    }
  };
  const mouse = (type: string, x: number, y: number) =>
    view.cdp("Input.dispatchMouseEvent", {
      type,
      x,
      y,
      button: type === "mouseMoved" ? "none" : "left",
      clickCount: type === "mouseMoved" ? 0 : 1,
    });
  const clickAt = async (x: number, y: number) => {
    await mouse("mouseMoved", x, y);
    await mouse("mousePressed", x, y);
    await mouse("mouseReleased", x, y);
  };
  const browser: Browser = {
    view,
    complaints,
    requests,
    value,
    until,
    clickAt,
    async open(hash) {
      if (!view.url.startsWith(url)) await view.navigate(`${url}/${hash}`);
      // Until the page has drawn it: what stood there before may look the same to a selector.
      else
        await value(`new Promise((done) => {
          const drawn = () => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)));
          addEventListener("hashchange", drawn, { once: true });
          const before = location.href;
          location.hash = ${JSON.stringify(hash)};
          if (location.href !== before) return;
          removeEventListener("hashchange", drawn);
          drawn();
        })`);
    },
    text: () => value<string>("document.body.innerText"),
    theme: (scheme) =>
      view
        .cdp("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] })
        .then(() => {}),
    phone: () =>
      view
        .cdp("Emulation.setDeviceMetricsOverride", { width: 390, height: 844, deviceScaleFactor: 1, mobile: true })
        .then(() => {}),
    async screenshot(name) {
      mkdirSync(OUTPUT, { recursive: true });
      const { data } = await view.cdp<{ data: string }>("Page.captureScreenshot", { format: "png" });
      const bytes = Uint8Array.fromBase64(data);
      await Bun.write(join(OUTPUT, `${name}.png`), bytes);
      return bytes;
    },
    async click(selector) {
      const place = `(() => { const element = document.querySelector(${JSON.stringify(selector)}); if (!element) return null;
        element.scrollIntoView({ block: "nearest" }); const box = element.getBoundingClientRect();
        return { x: box.x + box.width / 2, y: box.y + box.height / 2 }; })()`;
      await until(`${place} !== null`, selector);
      const at = await value<{ x: number; y: number }>(place);
      await clickAt(at.x, at.y);
    },
    type: (text) => view.cdp("Input.insertText", { text }).then(() => {}),
    async press(key) {
      const codes: Record<string, number> = {
        Enter: 13,
        Escape: 27,
        Tab: 9,
        ArrowLeft: 37,
        ArrowUp: 38,
        ArrowRight: 39,
        ArrowDown: 40,
        Home: 36,
        End: 35,
      };
      const code = codes[key] ?? key.charCodeAt(0);
      const event = {
        key,
        windowsVirtualKeyCode: code,
        ...(key === "Enter" ? { text: "\r" } : key.length === 1 ? { text: key } : {}),
      };
      await view.cdp("Input.dispatchKeyEvent", { type: event.text === undefined ? "rawKeyDown" : "keyDown", ...event });
      await view.cdp("Input.dispatchKeyEvent", { type: "keyUp", ...event });
    },
    close: () => view.close(),
  };
  return browser;
}
