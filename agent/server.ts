// Owns the agent's own endpoints: health, what it tells its peers, relay and reset; and who may ask. Four routes: no
// framework is loaded for them, for the agent's memory is somebody's router's.
import { readEnvelope, seal, verifyMac, verifySignature } from "../shared/envelope.ts";
import { BODY_RETRY_AFTER_S, BodySpace } from "../shared/body_space.ts";
import { firstIssue, parseObject } from "../shared/json.ts";
import { DATA_VERSION, MAX_BODY_BYTES, NO_BODY_LIMIT } from "../shared/limits.ts";
import { forgetBody } from "../shared/linger.ts";
import { listening } from "../shared/listen.ts";
import { type Log, reason } from "../shared/log.ts";
import { canonicalAddress, contains, isLoopback, parseAddress, type Prefix } from "../shared/net.ts";
import type { PskSource } from "../shared/psk_source.ts";
import type { Ack, Report } from "../shared/report.ts";
import { VERSION } from "../shared/version.ts";
import { trustedPrefixes } from "./candidates.ts";
import type { Delivery } from "./deliver.ts";
import type { Identity } from "./identity.ts";
import type { Outbox } from "./outbox.ts";
import type { Relay } from "./relay.ts";

/** A reset is good for this long (1-protocol.md, Agent API). */
const RESET_SKEW_MS = 60_000;
const IDLE_TIMEOUT_S = 15;
/** Of bodies over 64 KiB that are still arriving: two of the largest. This is somebody's router. */
const BODY_SPACE_BYTES = 8 * 1024 * 1024;

export type ServerOptions = {
  listen: string | null;
  port: number;
  allow: readonly Prefix[];
  identity: Identity;
  outbox: Outbox;
  psk: PskSource;
  delivery: Delivery;
  relay: Relay;
  /** The newest collected sections; null before the first. */
  sections(): Pick<Report, "wireguard" | "interfaces" | "routes"> | null;
  hostname(): string;
  /** Wipes identity, key, tick and outbox, and takes a new id. */
  reset(): Promise<void>;
  startedAt: number;
  log: Log;
  now?: () => number;
};

function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  const text = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  return new Response(text as BodyInit, {
    status,
    headers: { "Content-Type": "application/json", "Cache-Control": "no-store", ...headers },
  });
}

function refuse(status: number, error: string, message: string, headers: Record<string, string> = {}): Response {
  return json(status, { error, message }, headers);
}

/** Whether this address may ask for more than health: loopback, AGENT_ALLOW, or inside a WireGuard peer's AllowedIPs. */
export function mayAsk(
  remote: string,
  allow: readonly Prefix[],
  sections: Pick<Report, "wireguard" | "interfaces"> | null,
): boolean {
  const address = parseAddress(remote);
  if (address === null) return false;
  if (isLoopback(address) || allow.some((prefix) => contains(prefix, address))) return true;
  return sections !== null && trustedPrefixes(sections).some((prefix) => contains(prefix, address));
}

/** Whether the request came to an address, or to a name that only this host can mean. */
function isByAddress(hostname: string): boolean {
  return (
    hostname === "localhost" ||
    hostname.endsWith(".localhost") ||
    parseAddress(hostname.replace(/^\[|\]$/g, "")) !== null
  );
}

/** Bun joins repeated headers, and lets equal lengths and two Hosts through; without a usable Host the URL is none. */
function badFraming({ headers, url }: Request): string | null {
  const length = headers.get("content-length");
  if (length !== null && !/^[0-9]+$/.test(length)) return "Content-Length: send one number, once";
  if (headers.get("host")?.includes(",") === true || !URL.canParse(url))
    return "Host: send one host name or address, once";
  return null;
}

/** Ends the connection: what still comes of the body is not read. */
function tooLarge(): Response {
  return refuse(413, "too_large", `the body may have at most ${MAX_BODY_BYTES} bytes`, { Connection: "close" });
}

async function readBody(request: Request, space: BodySpace): Promise<Uint8Array | Response> {
  const length = request.headers.get("content-length");
  // What is not there has no type.
  if (request.body === null || Number(length ?? 1) === 0) return refuse(400, "malformed", "the body is empty");
  // Chunks have no end that anybody promised.
  const unread: Record<string, string> = length === null ? { Connection: "close" } : {};
  if (!/^application\/json\s*(;|$)/i.test(request.headers.get("content-type") ?? "")) {
    return refuse(415, "unsupported_media_type", "send Content-Type: application/json", unread);
  }
  if ((request.headers.get("content-encoding") ?? "identity") !== "identity")
    return refuse(415, "unsupported_media_type", "send the body uncompressed", unread);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const own = space.open();
  try {
    for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
      size += chunk.byteLength;
      if (size > MAX_BODY_BYTES) return tooLarge();
      if (!own.grow(chunk.byteLength))
        return refuse(503, "busy", "too many large bodies are on their way: try again", {
          Connection: "close",
          "Retry-After": String(BODY_RETRY_AFTER_S),
        });
      chunks.push(chunk);
    }
  } catch {
    return refuse(400, "malformed", "the body broke off");
  } finally {
    own.close();
  }
  return size === 0 ? refuse(400, "malformed", "the body is empty") : Buffer.concat(chunks);
}

const METHODS: Record<string, "GET" | "POST"> = {
  "/status/healthcheck": "GET",
  "/status/peer": "GET",
  "/status/relay": "POST",
  "/status/reset": "POST",
};

/** The agent's answers as a function of a request and who asks: tests call it without a port. */
export function createAgentApp(options: ServerOptions): (request: Request, remote: string) => Promise<Response> {
  const { identity, outbox, psk, delivery, relay, log } = options;
  const now = options.now ?? Date.now;
  const bodies = new BodySpace(BODY_SPACE_BYTES);

  const health = (trusted: boolean) => {
    if (!trusted) return { status: "ok" };
    const reached = delivery.reached;
    return {
      status: "ok",
      agent_id: identity.agentId,
      version: VERSION,
      uptime_s: Math.round((now() - options.startedAt) / 1000),
      tick: identity.lastTick,
      manager: {
        reachable: delivery.isReaching(),
        via: reached?.via ?? null,
        relay: reached?.address ?? null,
        last_delivery_at: reached?.at ?? null,
      },
      outbox: {
        reports: outbox.length,
        bytes: outbox.bytes,
        limit_bytes: outbox.limit,
        dropped: outbox.dropped,
        oldest_at: outbox.oldestAt,
      },
      psk_error: psk.status.error?.message ?? null,
    };
  };

  const peer = () => {
    const sections = options.sections();
    const addresses = new Set<string>();
    for (const item of sections?.wireguard ?? []) {
      for (const { allowed_ips: allowed } of item.peers ?? []) {
        for (const text of allowed) {
          const [address, length] = text.split("/");
          if (length === (address!.includes(":") ? "128" : "32")) addresses.add(address!);
        }
      }
    }
    return {
      agent_id: identity.agentId,
      hostname: options.hostname(),
      version: VERSION,
      interfaces: (sections?.interfaces ?? [])
        .filter((item) => item.addresses.length > 0)
        .map(({ name, kind, addresses: own }) => ({ name, kind, addresses: own })),
      routes: (sections?.routes ?? []).slice(0, 100).map(({ destination, gateway, interface: name, metric }) => ({
        destination,
        gateway,
        interface: name,
        metric,
      })),
      peers: [...addresses].slice(0, 256),
      manager: { reachable: delivery.isReaching(), hops: delivery.hops },
    };
  };

  const resetBy = async (body: Uint8Array, loopback: boolean): Promise<Response> => {
    if (psk.psks.length === 0) return refuse(503, "no_psk", "this agent has no PSK yet", { "Retry-After": "10" });
    const read = readEnvelope(body);
    if (!read.ok) return refuse(400, "malformed", read.message);
    const index = await verifyMac(read.envelope, psk.psks);
    if (index < 0) {
      psk.refreshSoon();
      return refuse(401, "unauthenticated", "the MAC does not hold");
    }
    const parsed = parseObject(read.envelope.data);
    const value = parsed.ok ? parsed.value : {};
    const answer = async (status: number, code: string, message: string, extra: Partial<Ack> = {}) => {
      const nonce = typeof value["nonce"] === "string" ? value["nonce"].slice(0, 64) : null;
      const ack: Ack = {
        v: 1,
        type: "ack",
        code,
        message,
        nonce,
        agent_id: identity.agentId,
        tick: null,
        server_time_at: now(),
        ...extra,
      };
      return json(status, await seal(JSON.stringify(ack), psk.psks[index]!, identity.key));
    };
    if (!parsed.ok) return answer(400, "malformed", `data: ${parsed.message}`);
    if (value["type"] !== "reset") return answer(403, "wrong_type", "this endpoint takes reset");
    if (typeof value["v"] === "number" && Number.isInteger(value["v"]) && value["v"] > DATA_VERSION)
      return answer(422, "version", `v: this agent reads data up to version ${DATA_VERSION}`, { field: "v" });
    const { resetSchema } = await import("../shared/report.ts");
    const checked = resetSchema.safeParse(value);
    if (!checked.success) {
      const { field, message } = firstIssue(checked.error);
      return answer(422, "schema", `${field}: ${message}`, { field });
    }
    if (Math.abs(checked.data.sent_at - now()) > RESET_SKEW_MS)
      return answer(401, "clock_skew", "a reset is good for 60 s");
    if (checked.data.agent_id !== identity.agentId) return answer(404, "unknown_agent", "this agent has another id");
    const byManager =
      identity.managerKey !== null &&
      (await verifySignature(identity.managerKey, read.envelope.data, read.envelope.sig));
    if (!loopback && !byManager)
      return answer(401, "bad_signature", "only the manager may reset this agent from elsewhere");
    const before = identity.agentId;
    await options.reset();
    log.error("reset", { old_agent_id: before, agent_id: identity.agentId, by: byManager ? "manager" : "loopback" });
    return answer(200, "reset", "a new identity is taken");
  };

  return async (request, remote) => {
    const bad = badFraming(request);
    // What follows on this connection may be the rest of the body, or a request: nobody can tell.
    if (bad !== null) return refuse(400, "malformed", bad, { Connection: "close" });
    const sections = options.sections();
    const trusted = mayAsk(remote, options.allow, sections);
    if (Number(request.headers.get("content-length")) > MAX_BODY_BYTES) {
      if (trusted) await forgetBody(request);
      return tooLarge();
    }
    const { pathname, hostname } = new URL(request.url);
    const method = METHODS[pathname];
    if (method === undefined)
      return refuse(
        404,
        "not_found",
        "this agent serves /status/healthcheck, /status/peer, /status/relay and /status/reset",
      );
    if (request.method !== method && !(method === "GET" && request.method === "HEAD")) {
      const allow = method === "GET" ? "GET, HEAD" : method;
      return refuse(405, "method_not_allowed", `use ${allow}`, { Allow: allow });
    }
    // A page elsewhere may give its own name this address, and so read by a browser on this host or in the mesh what is
    // for neither. Agents ask by address; what is POSTed proves itself.
    const byAddress = isByAddress(hostname);
    if (pathname === "/status/healthcheck") return json(200, health(trusted && byAddress));
    if (!trusted)
      return refuse(
        403,
        "forbidden",
        "only loopback, AGENT_ALLOW and addresses inside a WireGuard peer's AllowedIPs may ask this",
      );
    if (pathname === "/status/peer")
      return byAddress
        ? json(200, peer())
        : refuse(421, "misdirected", "ask by this agent's address: it tells this to no page under a name");
    const body = await readBody(request, bodies);
    if (body instanceof Response) return body;
    if (pathname === "/status/reset") {
      const address = parseAddress(remote);
      return resetBy(body, address !== null && isLoopback(address));
    }
    const answer = await relay.take(body);
    return json(
      answer.status,
      answer.body,
      answer.retryAfterSeconds == null ? {} : { "Retry-After": String(answer.retryAfterSeconds) },
    );
  };
}

export type AgentServer = { port: number; stop(force: boolean): Promise<void> };

/** @throws Error of one line that names the setting. */
export function serveAgent(options: ServerOptions): AgentServer {
  const answer = createAgentApp(options);
  const serve = (hostname: string) =>
    Bun.serve({
      hostname,
      port: options.port,
      development: false,
      // Else Bun shares the port with every program that does the same: of two, each would get some of the messages.
      reusePort: false,
      idleTimeout: IDLE_TIMEOUT_S,
      maxRequestBodySize: NO_BODY_LIMIT,
      fetch: (request, server) => {
        const address = server.requestIP(request)?.address ?? "";
        return answer(request, canonicalAddress(address.split("%")[0]!) ?? address);
      },
      error: (error) => {
        options.log.error("request_failed", { reason: reason(error) });
        return refuse(500, "internal", "this is a bug: the log has the reason");
      },
    });
  const server = listening("AGENT", options.listen, options.port, serve);
  return { port: server.port!, stop: (force) => server.stop(force) };
}
