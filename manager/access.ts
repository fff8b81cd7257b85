// Owns who may read and who may administer (1-protocol.md, Manager API): tokens, sessions, loopback. Pure but for the
// hashing of secrets; the routes ask, this decides.
import { contains, parseAddress, type Prefix } from "../shared/net.ts";

export type Role = "read" | "admin";

export type AccessSettings = {
  adminToken: string;
  readToken: string | null;
  localRead: "open" | "token";
  trustedProxies: readonly Prefix[];
};

/** What a decision needs of a request. */
export type RequestFacts = {
  /** Peer address of the connection, canonical (no ::ffff:). */
  remote: string;
  header(name: string): string | null;
  method: string;
};

export type Decision =
  | { ok: true; role: Role; how: "loopback" | "token" | "session" }
  | { ok: false; status: 401 | 403 | 421; code: string; message: string };

/** A login's session: known by the hash of its cookie, bound to the token that made it. */
export type Session = { role: Role; expires_at: number; token_hash: string };

export const SESSION_COOKIE = "kattila_session";
/** A dashboard on a wall should not ask every week. */
export const SESSION_MS = 30 * 86_400_000;
/** Logins beyond this: the oldest session ends. */
const MAX_SESSIONS = 256;

// Any of these says that somebody forwarded the request: the connection's address is not the client's.
const FORWARDING_HEADERS = [
  "forwarded",
  "x-forwarded",
  "x-forwarded-for",
  "x-forwarded-by",
  "x-original-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-forwarded-port",
  "x-forwarded-server",
  "x-real-ip",
  "x-client-ip",
  "true-client-ip",
  "cf-connecting-ip",
  "fastly-client-ip",
  "x-cluster-client-ip",
  "x-envoy-external-address",
  "cdn-loop",
  "via",
];

/** Lowercase hex SHA-256: comparing hashes leaks nothing about the secret through time. */
export function sha256(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

/** Whether a Host header names this machine's loopback. */
function isLoopbackHost(host: string | null): boolean {
  if (host === null) return false;
  const name = host.replace(/:[0-9]+$/, "").toLowerCase();
  return name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127\.[0-9.]+$/.test(name);
}

function isLoopbackAddress(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

function isForwarded(facts: RequestFacts): boolean {
  return FORWARDING_HEADERS.some((name) => facts.header(name) !== null);
}

/**
 * The address to blame: the connection's, or, behind TRUSTED_PROXIES, the last one in X-Forwarded-For that is no
 * trusted proxy itself. It grants nothing.
 */
export function clientAddress(facts: RequestFacts, trustedProxies: readonly Prefix[]): string {
  const trusted = (text: string) => {
    const address = parseAddress(text);
    return address !== null && trustedProxies.some((prefix) => contains(prefix, address));
  };
  if (trustedProxies.length === 0 || !trusted(facts.remote)) return facts.remote;
  const hops = (facts.header("x-forwarded-for") ?? "").split(",").map((hop) => hop.trim());
  for (const hop of hops.reverse()) {
    if (parseAddress(hop) === null) break;
    if (!trusted(hop)) return hop;
  }
  return facts.remote;
}

export function cookie(header: string | null, name: string): string | null {
  for (const part of (header ?? "").split(";")) {
    const [key, value] = part.split("=", 2);
    if (key?.trim() === name && value !== undefined) return value.trim();
  }
  return null;
}

/** Decides on sessions, tokens and loopback. Sessions live in memory; the caller persists `dump()` when told. */
export class Access {
  readonly #adminHash: string;
  readonly #readHash: string | null;
  #sessions = new Map<string, Session>();

  constructor(
    readonly settings: AccessSettings,
    sessions: unknown,
  ) {
    this.#adminHash = sha256(settings.adminToken);
    this.#readHash = settings.readToken === null ? null : sha256(settings.readToken);
    if (typeof sessions === "object" && sessions !== null) {
      for (const [hash, session] of Object.entries(sessions as Record<string, Session>))
        this.#sessions.set(hash, session);
    }
  }

  /** What of the sessions is to be stored: hashes only, no cookie can be made from them. */
  dump(): Record<string, Session> {
    return Object.fromEntries(this.#sessions);
  }

  #roleOfHash(hash: string): Role | null {
    if (hash === this.#adminHash) return "admin";
    return hash === this.#readHash ? "read" : null;
  }

  /** The cookie's value for a login with `token`, or null when the token is none of ours. */
  login(token: string, now: number): { cookie: string; role: Role } | null {
    const tokenHash = sha256(token);
    const role = this.#roleOfHash(tokenHash);
    if (role === null) return null;
    for (const [hash, session] of this.#sessions) if (session.expires_at <= now) this.#sessions.delete(hash);
    while (this.#sessions.size >= MAX_SESSIONS) this.#sessions.delete(this.#sessions.keys().next().value!);
    const value = crypto.getRandomValues(new Uint8Array(32)).toHex();
    this.#sessions.set(sha256(value), { role, expires_at: now + SESSION_MS, token_hash: tokenHash });
    return { cookie: value, role };
  }

  /** Whether a session ended by it: only then there is something to store. */
  logout(cookieValue: string | null): boolean {
    return cookieValue !== null && this.#sessions.delete(sha256(cookieValue));
  }

  #session(facts: RequestFacts, now: number): Session | null {
    const value = cookie(facts.header("cookie"), SESSION_COOKIE);
    if (value === null) return null;
    const session = this.#sessions.get(sha256(value));
    // A changed token ends the sessions that it made.
    if (session === undefined || session.expires_at <= now || this.#roleOfHash(session.token_hash) !== session.role)
      return null;
    return session;
  }

  /** Whether the request comes with the cookie of a login that still counts. */
  hasSession(facts: RequestFacts, now: number): boolean {
    return this.#session(facts, now) !== null;
  }

  /** Whether the request may do what needs `needed`. */
  decide(facts: RequestFacts, needed: Role, now: number): Decision {
    const authorization = facts.header("authorization");
    if (authorization !== null) {
      const role = /^Bearer\s+\S+$/i.test(authorization)
        ? this.#roleOfHash(sha256(authorization.slice(7).trim()))
        : null;
      if (role === null) {
        return {
          ok: false,
          status: 401,
          code: "unauthenticated",
          message: "the bearer token is neither READ_TOKEN nor ADMIN_TOKEN",
        };
      }
      return this.#atLeast(role, needed, "token");
    }
    const session = this.#session(facts, now);
    if (session !== null) {
      if (facts.method !== "GET" && facts.method !== "HEAD" && !this.#sameOrigin(facts)) {
        return {
          ok: false,
          status: 403,
          code: "cross_origin",
          message: "this call must come from the dashboard's own page",
        };
      }
      return this.#atLeast(session.role, needed, "session");
    }
    const remedy = "send Authorization: Bearer with READ_TOKEN or ADMIN_TOKEN, or log in";
    if (isLoopbackAddress(facts.remote) && !isForwarded(facts)) {
      if (!isLoopbackHost(facts.header("host"))) {
        return {
          ok: false,
          status: 421,
          code: "misdirected",
          message: `this Host is not served without credentials: use localhost, or ${remedy}`,
        };
      }
      if (needed === "read" && this.settings.localRead === "open") return { ok: true, role: "read", how: "loopback" };
    }
    if (needed === "admin") {
      return {
        ok: false,
        status: 401,
        code: "unauthenticated",
        message: "send Authorization: Bearer with ADMIN_TOKEN (its file: admin_token in the state directory)",
      };
    }
    return { ok: false, status: 401, code: "unauthenticated", message: remedy };
  }

  #atLeast(role: Role, needed: Role, how: "token" | "session"): Decision {
    if (needed === "admin" && role !== "admin") {
      return { ok: false, status: 403, code: "forbidden", message: "this call needs the admin token" };
    }
    return { ok: true, role, how };
  }

  /** SameSite=Strict keeps other sites out; this holds for browsers that do not know it. */
  #sameOrigin(facts: RequestFacts): boolean {
    const origin = facts.header("origin");
    if (origin === null)
      return facts.header("sec-fetch-site") === null || facts.header("sec-fetch-site") === "same-origin";
    try {
      return new URL(origin).host === (facts.header("host") ?? "").toLowerCase();
    } catch {
      return false;
    }
  }
}
