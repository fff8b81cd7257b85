// Owns where the PSK comes from (PSK, PSK_FILE, DNS, kattila.psk), its refresh, and the ring in the state directory.
// Used alike by manager and agent; only the manager creates a key.
import { promises as fs } from "node:fs";
import { join } from "node:path";
import { SettingError, type Settings } from "./config.ts";
import { readPrivate, setAside, StateError, writePrivate } from "./files.ts";
import { type Log, reason } from "./log.ts";
import { checkPsk, RING_SIZE, selectPsk, withPsk } from "./psk.ts";

/** Hourly (1-protocol.md), spread by ±10 % so that a fleet does not ask at once. */
const REFRESH_MS = 3_600_000;
const REFRESH_SPREAD = 0.1;
/** A lookup's timeout and tries: node:dns would wait 24 s for an answer that never comes. */
const DNS_TIMEOUT_MS = 2000;
const DNS_TRIES = 2;
/** A start waits this long for its source: a resolver that is silent must keep nobody from serving, or from ending. */
const START_WAIT_MS = 1000;
/** After a MAC that no key verifies, at most one refresh in this time: strangers must not make us ask DNS. */
const FORCED_REFRESH_GAP_MS = 60_000;
/** Without any key, ask again after 1 s, doubling to 60 s. */
const RETRY_FIRST_MS = 1000;
const RETRY_LAST_MS = 60_000;

export type PskOrigin =
  | { kind: "value"; psk: string }
  | { kind: "file"; path: string }
  | { kind: "dns"; name: string; servers: string[] | null }
  | { kind: "default"; path: string; create: boolean };

export type PskError = { reason: "unavailable" | "none" | "ambiguous" | "unusable"; message: string };

export type PskStatus = {
  origin: PskOrigin["kind"];
  has_key: boolean;
  /** When the source last confirmed the current key; null: not since the start. */
  confirmed_at: number | null;
  /** When the current key became current, as far as this process or the ring's file knows; null: no key. */
  changed_at: number | null;
  /** What is wrong with the source now, and since when; null: nothing. */
  error: PskError | null;
  error_since_at: number | null;
};

/** PSK, else PSK_FILE, else DNS, else `kattila.psk` in the state directory. @throws SettingError */
export function pskOrigin(setting: Settings, stateDirectory: string, create: boolean): PskOrigin {
  const name = setting.hostname("DNS");
  const servers = setting.resolvers("DNS_SERVERS");
  const value = setting.text("PSK");
  if (value !== null) {
    const checked = checkPsk(value);
    if (!checked.ok) throw new SettingError("PSK", null, checked.message);
    return { kind: "value", psk: checked.psk };
  }
  const path = setting.text("PSK_FILE");
  if (path !== null) return { kind: "file", path };
  if (name !== null) return { kind: "dns", name, servers };
  return { kind: "default", path: join(stateDirectory, "kattila.psk"), create };
}

type Fetched = { ok: true; psk: string; weak: boolean } | { ok: false; error: PskError };

async function fetchFile(path: string): Promise<Fetched> {
  const failed = (reason: PskError["reason"], message: string): Fetched => ({ ok: false, error: { reason, message } });
  let text: string;
  try {
    const stat = await fs.stat(path);
    if (!stat.isFile()) return failed("unusable", `${path} is not a file`);
    if ((stat.mode & 0o077) !== 0) return failed("unusable", `${path} can be read by others: chmod 600 ${path}`);
    text = await fs.readFile(path, "utf8");
  } catch (error) {
    return failed("unavailable", `cannot read ${path} (${(error as { code?: string }).code ?? "error"})`);
  }
  const checked = checkPsk(text);
  return checked.ok ? checked : failed("unusable", `${path}: ${checked.message}`);
}

/** A resolver that cannot say: the next may (RFC 1035, 7.2). node:dns passes over the silent alone. */
const LAME = new Set(["ESERVFAIL", "EREFUSED", "ENOTIMP"]);

/** The strings of the name's TXT records. @throws Error with a `code` of node:dns */
async function resolveTxt(name: string, servers: string[] | null): Promise<string[]> {
  // Loaded by who asks: it is 3 MB of a router's memory.
  const { Resolver } = await import("node:dns/promises");
  for (let asked = servers; ;) {
    const resolver = new Resolver({ timeout: DNS_TIMEOUT_MS, tries: DNS_TRIES });
    try {
      if (asked !== null) resolver.setServers(asked);
      // The resolver's own timeout is not always kept (retries over several servers): this bound is.
      const records = await Promise.race([
        resolver.resolveTxt(name),
        Bun.sleep(DNS_TIMEOUT_MS * DNS_TRIES * Math.max(1, asked?.length ?? 2) + 1000).then(() => {
          resolver.cancel();
          throw Object.assign(new Error("no answer in time"), { code: "ETIMEOUT" });
        }),
      ]);
      return records.flat();
    } catch (error) {
      asked = (asked ?? resolver.getServers()).slice(1);
      if (asked.length === 0 || !LAME.has((error as { code?: string }).code ?? "")) throw error;
    }
  }
}

async function fetchDns(name: string, servers: string[] | null): Promise<Fetched> {
  try {
    const selected = selectPsk(await resolveTxt(name, servers));
    if (selected.ok) return selected;
    return { ok: false, error: { reason: selected.reason, message: `TXT ${name}: ${selected.message}` } };
  } catch (error) {
    const code = (error as { code?: string }).code ?? "error";
    // Bun says ENOTFOUND for "no TXT" as well as for "no such name".
    const none = code === "ENOTFOUND" || code === "ENODATA";
    return {
      ok: false,
      error: { reason: none ? "none" : "unavailable", message: `TXT ${name}: ${none ? "no record" : code}` },
    };
  }
}

/** `kattila.psk`. With `create`, an absent file is written: with the ring's key, so that no agent is cut off, else a new one. */
async function fetchDefault(
  path: string,
  create: boolean,
  current: string | null,
  onMended: (path: string) => void,
): Promise<Fetched & { created?: boolean }> {
  try {
    const text = readPrivate(path, onMended);
    if (text === null) {
      if (create) {
        const psk =
          current ?? crypto.getRandomValues(new Uint8Array(32)).toBase64({ alphabet: "base64url", omitPadding: true });
        writePrivate(path, `${psk}\n`);
        return { ok: true, psk, weak: false, created: true };
      }
      return {
        ok: false,
        error: { reason: "none", message: `no PSK: set PSK_FILE or DNS, or copy the manager's kattila.psk to ${path}` },
      };
    }
    const checked = checkPsk(text);
    return checked.ok ? checked : { ok: false, error: { reason: "unusable", message: `${path}: ${checked.message}` } };
  } catch (error) {
    return { ok: false, error: { reason: "unavailable", message: reason(error) } };
  }
}

type RingFile = { v: 1; psks: string[]; changed_at: number | null };

export type PskSourceOptions = {
  origin: PskOrigin;
  /** `agent_psk_ring` or `manager_psk_ring`, with its directory. */
  ringPath: string;
  log: Log;
  now?: () => number;
};

/** The PSK ring with its source behind it. `start` loads, fetches once and then refreshes until `stop`. */
export class PskSource {
  #ring: string[] = [];
  #changedAt: number | null = null;
  #confirmedAt: number | null = null;
  #error: PskError | null = null;
  #errorSinceAt: number | null = null;
  #timer: Timer | null = null;
  #inFlight: Promise<void> | null = null;
  #forcedAt = Number.NEGATIVE_INFINITY;
  #retryMs = RETRY_FIRST_MS;
  #stopped = false;
  #created = false;
  readonly #now: () => number;

  constructor(private readonly options: PskSourceOptions) {
    this.#now = options.now ?? Date.now;
  }

  /** Newest first; empty: there is no key at all. Sign with the first, verify with any. */
  get psks(): readonly string[] {
    return this.#ring;
  }

  get current(): string | null {
    return this.#ring[0] ?? null;
  }

  /** Whether this start made `kattila.psk`. */
  get created(): boolean {
    return this.#created;
  }

  get status(): PskStatus {
    return {
      origin: this.options.origin.kind,
      has_key: this.#ring.length > 0,
      confirmed_at: this.#confirmedAt,
      changed_at: this.#changedAt,
      error: this.#error,
      error_since_at: this.#errorSinceAt,
    };
  }

  /**
   * Loads the ring, asks the source, and keeps asking. A source that is down is no error here: the ring serves. What it says
   * after the first second counts when it comes.
   * @throws SettingError where there is no key, and PSK_FILE names what only an operator can mend.
   */
  async start(): Promise<void> {
    this.#load();
    await Promise.race([this.refresh(), Bun.sleep(START_WAIT_MS)]);
    this.#refuseUnusable();
  }

  /** Loads and asks once, without a timer: for the command-line's single shots. @throws SettingError as start */
  async once(): Promise<void> {
    this.#load();
    this.#stopped = true;
    await this.refresh();
    this.#refuseUnusable();
  }

  /** A file that is not there yet is waited for; one that is there and no key's is a wrong setting. */
  #refuseUnusable(): void {
    const { origin } = this.options;
    if (origin.kind !== "file" || this.#ring.length > 0 || this.#error?.reason !== "unusable") return;
    this.stop();
    throw new SettingError("PSK_FILE", origin.path, this.#error.message);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Asks the source now; calls while one is under way share it. Never rejects. */
  refresh(): Promise<void> {
    this.#inFlight ??= this.#refresh().finally(() => {
      this.#inFlight = null;
      this.#schedule();
    });
    return this.#inFlight;
  }

  /** A MAC that no key verifies, or a 401: one refresh in the background, at most every 60 s. */
  refreshSoon(): void {
    void this.refreshAfterFailure();
  }

  /** As refreshSoon, for who wants to wait for it; resolves at once when it is not due. */
  async refreshAfterFailure(): Promise<void> {
    const now = this.#now();
    const sinceForcedMs = now - this.#forcedAt;
    // A clock that was set back must not keep us from asking until it has caught up.
    const recent = sinceForcedMs >= 0 && sinceForcedMs < FORCED_REFRESH_GAP_MS;
    if (this.#inFlight === null && recent) return;
    this.#forcedAt = now;
    await this.refresh();
  }

  readonly #mended = (path: string): void => this.options.log.warning("state_file_mended", { path, mode: "0600" });

  #load(): void {
    const { ringPath, log } = this.options;
    const text = readPrivate(ringPath, this.#mended);
    if (text === null) return;
    try {
      const file = JSON.parse(text) as RingFile;
      if (
        file.v !== 1 ||
        !Array.isArray(file.psks) ||
        !file.psks.every((psk) => typeof psk === "string" && checkPsk(psk).ok)
      ) {
        throw new Error("not a ring of PSKs");
      }
      this.#ring = file.psks.slice(0, RING_SIZE);
      this.#changedAt = typeof file.changed_at === "number" ? file.changed_at : null;
    } catch {
      log.error("psk_ring_broken", {
        path: ringPath,
        moved_to: setAside(ringPath, this.#now()),
        effect: "previous PSKs are forgotten",
      });
    }
  }

  async #fetch(): Promise<Fetched & { created?: boolean }> {
    const { origin } = this.options;
    switch (origin.kind) {
      case "value":
        return { ok: true, psk: origin.psk, weak: new TextEncoder().encode(origin.psk).length < 32 };
      case "file":
        return fetchFile(origin.path);
      case "dns":
        return fetchDns(origin.name, origin.servers);
      case "default":
        return fetchDefault(origin.path, origin.create, this.current, this.#mended);
    }
  }

  async #refresh(): Promise<void> {
    const { log } = this.options;
    const fetched = await this.#fetch();
    const now = this.#now();
    if (!fetched.ok) {
      if (this.#error?.message !== fetched.error.message) {
        log.warning("psk_fetch_failed", { ...fetched.error, serving_from_ring: this.#ring.length > 0 });
      }
      this.#errorSinceAt ??= now;
      this.#error = fetched.error;
      return;
    }
    if (this.#error !== null) log.info("psk_fetch_recovered", {});
    this.#error = null;
    this.#errorSinceAt = null;
    this.#confirmedAt = now;
    this.#created ||= fetched.created === true;
    this.#retryMs = RETRY_FIRST_MS;
    if (fetched.psk === this.#ring[0]) return;
    if (fetched.weak)
      log.warning("psk_weak", { remedy: "use 32 bytes or more, for instance: openssl rand -base64 32" });
    const before = this.#ring.length;
    this.#ring = withPsk(this.#ring, fetched.psk);
    this.#changedAt = now;
    const file: RingFile = { v: 1, psks: this.#ring, changed_at: now };
    try {
      writePrivate(this.options.ringPath, `${JSON.stringify(file)}\n`);
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      log.error("psk_ring_not_saved", { reason: reason(error) });
    }
    if (before > 0) log.info("psk_changed", { keys_in_ring: this.#ring.length });
  }

  #schedule(): void {
    if (this.#stopped) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    let delay: number;
    if (this.#ring.length === 0) {
      delay = this.#retryMs;
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_LAST_MS);
    } else {
      delay = REFRESH_MS * (1 + REFRESH_SPREAD * (2 * Math.random() - 1));
    }
    this.#timer = setTimeout(() => void this.refresh(), delay);
    this.#timer.unref();
  }
}
