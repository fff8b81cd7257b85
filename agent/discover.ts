// Owns the search for agents that can relay: probes of /status/peer, few at a time, each bounded; and what they said.
import type { Report } from "../shared/report.ts";
import { type Candidate, candidates, probeFilter } from "./candidates.ts";
import { exchange } from "./wire.ts";

/** 1-protocol.md, Relay. */
const PROBES_A_ROUND = 32;
export const PROBES_BY_HAND = 256;
const PROBES_AT_ONCE = 4;
const PROBE_TIMEOUT_MS = 2000;
const MAX_PEER_BYTES = 64 * 1024;
/** What was heard longer ago is asked again before it is used. */
const KNOWN_MS = 10 * 60_000;
/** Who answered this lately is taken to be there: a relay that has gone would hold a report for its whole deadline. */
const THERE_MS = 10_000;
const MAX_NAMED = 256;

export type Found = {
  address: string;
  agentId: string;
  hostname: string;
  version: string;
  roundTripMs: number;
  /** Relays between it and the manager; null: it does not reach the manager. */
  hops: number | null;
  handshakeAt: number | null;
  /** Addresses that it names. */
  peers: string[];
  foundAt: number;
};

/** Reads the answer of /status/peer; null: it is none of ours. */
export function readPeer(body: Uint8Array): Pick<Found, "agentId" | "hostname" | "version" | "hops" | "peers"> | null {
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) as Record<string, unknown>;
  } catch {
    return null;
  }
  if (parsed === null || typeof parsed !== "object" || typeof parsed["agent_id"] !== "string") return null;
  const text = (value: unknown) => (typeof value === "string" ? value.slice(0, 255) : "");
  const manager = (typeof parsed["manager"] === "object" && parsed["manager"] !== null ? parsed["manager"] : {}) as {
    reachable?: unknown;
    hops?: unknown;
  };
  const hops =
    manager.reachable === true &&
    typeof manager.hops === "number" &&
    Number.isInteger(manager.hops) &&
    manager.hops >= 0
      ? manager.hops
      : null;
  const peers = Array.isArray(parsed["peers"])
    ? parsed["peers"].filter((item): item is string => typeof item === "string").slice(0, MAX_NAMED)
    : [];
  return {
    agentId: parsed["agent_id"].slice(0, 64),
    hostname: text(parsed["hostname"]),
    version: text(parsed["version"]),
    hops,
    peers,
  };
}

export function peerUrl(address: string, port: number, path: string): string {
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}${path}`;
}

async function probe(
  candidate: Pick<Candidate, "address" | "handshakeAt">,
  port: number,
  now: () => number,
): Promise<Found | null> {
  const began = performance.now();
  const answer = await exchange(peerUrl(candidate.address, port, "/status/peer"), {
    method: "GET",
    timeoutMs: PROBE_TIMEOUT_MS,
    maxBytes: MAX_PEER_BYTES,
  });
  if (!answer.ok || answer.status !== 200) return null;
  const peer = readPeer(answer.body);
  return peer === null
    ? null
    : {
        address: candidate.address,
        ...peer,
        roundTripMs: performance.now() - began,
        handshakeAt: candidate.handshakeAt,
        foundAt: now(),
      };
}

/** The agents that this one knows of, and the rounds that find them. */
export class Discovery {
  #found = new Map<string, Found>();
  #asked = new Map<string, number>();
  #round: Promise<void> | null = null;

  constructor(
    private readonly options: {
      port: number;
      ownId(): string;
      now?: () => number;
    },
  ) {}

  #now(): number {
    return (this.options.now ?? Date.now)();
  }

  /** One round of probes, `limit` at most, the longest unasked first; calls while one is under way share it. */
  round(kernel: Pick<Report, "wireguard" | "interfaces">, limit = PROBES_A_ROUND): Promise<void> {
    this.#round ??= this.#probe(kernel, limit).finally(() => {
      this.#round = null;
    });
    return this.#round;
  }

  async #probe(kernel: Pick<Report, "wireguard" | "interfaces">, limit: number): Promise<void> {
    let left = limit;
    const done = new Set<string>();
    // Twice: what the first answers name may be asked in the same round.
    for (let pass = 0; pass < 2 && left > 0; pass++) {
      const named = [...this.#found.values()].flatMap(({ peers }) => peers);
      const all = candidates(kernel, named).filter(({ address }) => !done.has(address));
      // Those that answered lately first, then in the candidates' order, those asked in vain last.
      const inVain = (candidate: Candidate) =>
        this.#asked.has(candidate.address) && !this.#found.has(candidate.address)
          ? this.#asked.get(candidate.address)!
          : 0;
      all.sort((a, b) => inVain(a) - inVain(b));
      const queue = all.slice(0, left);
      left -= queue.length;
      let next = 0;
      await Promise.all(
        Array.from({ length: PROBES_AT_ONCE }, async () => {
          while (next < queue.length) {
            const candidate = queue[next++]!;
            done.add(candidate.address);
            this.#asked.set(candidate.address, this.#now());
            const found = await probe(candidate, this.options.port, () => this.#now());
            if (found === null || found.agentId === this.options.ownId()) this.#found.delete(candidate.address);
            else this.#found.set(candidate.address, found);
          }
        }),
      );
    }
    if (this.#asked.size > 4096) this.#asked.clear();
  }

  /** All that answered, for -discover. */
  all(): Found[] {
    return [...this.#found.values()];
  }

  /**
   * Those that reach the manager, best first: the one that worked last, then fewest hops, then the freshest handshake.
   * Still held against what the kernel says now.
   */
  relays(kernel: Pick<Report, "wireguard" | "interfaces">, last: string | null): Found[] {
    const filter = probeFilter(kernel);
    const now = this.#now();
    return [...this.#found.values()]
      .filter(
        // Also one that itself needs all the relays that are allowed: it refuses, and the operator is told why (hop_limit).
        (found) => found.hops !== null && now - found.foundAt < KNOWN_MS && filter(found.address) !== null,
      )
      .sort(
        (a, b) =>
          Number(b.address === last) - Number(a.address === last) ||
          a.hops! - b.hops! ||
          (b.handshakeAt ?? 0) - (a.handshakeAt ?? 0),
      );
  }

  /**
   * Those of `relays` that are there and reach the manager now, in their order. Who has not answered for
   * {@link THERE_MS} is asked, all at once.
   */
  async there(relays: readonly Found[]): Promise<Found[]> {
    const answers = await Promise.all(
      relays.map(async (relay) => {
        if (this.#now() - relay.foundAt < THERE_MS) return relay;
        const found = await probe(relay, this.options.port, () => this.#now());
        if (found === null) this.#found.delete(relay.address);
        else this.#found.set(relay.address, found);
        return found;
      }),
    );
    return answers.filter((found) => found !== null && found.hops !== null) as Found[];
  }

  /** The agent that answered at this address; null: nobody has. */
  agentAt(address: string): string | null {
    return this.#found.get(address)?.agentId ?? null;
  }

  /** It did not relay: asked anew before it is tried again. */
  failed(address: string): void {
    this.#found.delete(address);
  }
}
