// Owns the shape of the recordings (README.md beside this file) and how a test reads them: the raw samples, or the
// reports that agents at a chosen phase would have sent.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Peer, Report, Wireguard } from "../../shared/report.ts";

/** One peer as one end saw it: [label in `keys`, endpoint, allowed IPs, handshake (Unix s, 0: never), rx bytes, tx
 * bytes, keepalive (s, 0: off)]. */
export type PeerSample = [string, string | null, string[], number, number, number, number];

/** What one end saw: [milliseconds since the start, interface flag IFF_UP, own key's label, listen port, peers, the
 * interface that `ip route get` names for the first peer's endpoint (null: none)]. `[t, null]`: the interface was not
 * there. */
export type Sample = [number, null] | [number, boolean, string, number, PeerSample[], string | null];

export type RecordedEnd = {
  host: string;
  interface: string;
  /** Addresses of its first card, with length, each from a time in ms on. */
  underlay: [number, string[]][];
  /** Of the WireGuard interface, with length. */
  overlay: string[];
  /** Oldest first, about ten seconds apart. None while the host was gone. */
  samples: Sample[];
};

export type Recording = {
  name: string;
  description: string;
  /** Unix ms of `t` = 0. */
  started_at: number;
  duration_s: number;
  /** Label → public key. */
  keys: Record<string, string>;
  /** What was done to it, with `t` in seconds since the start. */
  timeline: { t_s: number; what: string }[];
  /** The edge that the situation is about lies between the first two. */
  ends: RecordedEnd[];
};

/** Parses the text of one recording. */
export function parseRecording(text: string): Recording {
  const [header, ...rows] = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  const recording = header as Recording;
  for (const end of recording.ends) {
    end.samples = (rows as [string, Sample][]).filter(([host]) => host === end.host).map(([, sample]) => sample);
  }
  return recording;
}

/** All recordings, by name. */
export function loadRecordings(dir = import.meta.dir): Recording[] {
  return readdirSync(dir)
    .filter((file) => file.endsWith(".jsonl"))
    .map((file) => file.slice(0, -".jsonl".length))
    .sort()
    .map((name) => parseRecording(readFileSync(join(dir, `${name}.jsonl`), "utf8")));
}

/** An agent id for an end, the same every time: `…-a` of the first end, and so on. */
export function agentIdOf(recording: Recording, end: RecordedEnd): string {
  return `00000000-0000-4000-8000-${String(recording.ends.indexOf(end) + 1).padStart(12, "0")}`;
}

function wireguardOf(recording: Recording, end: RecordedEnd, sample: Sample): Wireguard[] {
  if (sample[1] === null) return [];
  const [, , own, port, peers, via] = sample;
  return [
    {
      interface: end.interface,
      public_key: recording.keys[own]!,
      listen_port: port === 0 ? null : port,
      fwmark: null,
      peers: peers.map(([label, endpoint, allowedIps, handshake, rx, tx, keepalive]): Peer => ({
        public_key: recording.keys[label]!,
        endpoint,
        allowed_ips: allowedIps,
        latest_handshake_at: handshake === 0 ? null : handshake * 1000,
        rx_bytes: rx,
        tx_bytes: tx,
        persistent_keepalive_s: keepalive === 0 ? null : keepalive,
        via: via === null ? null : { interface: via, source: null },
      })),
    },
  ];
}

/** The report that an agent at this end would have sent from this sample. */
export function reportFrom(recording: Recording, end: RecordedEnd, sample: Sample, intervalSeconds = 30): Report {
  const collectedAt = recording.started_at + sample[0];
  const up = sample[1];
  return {
    v: 1,
    type: "report",
    agent_id: agentIdOf(recording, end),
    tick: end.samples.indexOf(sample) + 1,
    nonce: "0".repeat(32),
    sent_at: collectedAt,
    collected_at: collectedAt,
    age_ms: 0,
    boot_id: `boot-${end.host}`,
    agent_version: "0.1.0",
    interval_s: intervalSeconds,
    dropped: 0,
    collectors: { wireguard: "ok", interfaces: "ok", routes: "ok", neighbors: "ok" },
    system: null,
    interfaces: [
      {
        name: "eth0",
        kind: "physical",
        mac: null,
        mtu: 1500,
        up: true,
        carrier: true,
        addresses: end.underlay.findLast(([from]) => from <= sample[0])![1],
        rx_bytes: null,
        tx_bytes: null,
        speed_mbps: null,
        parent: null,
        master: null,
        tunnel: null,
      },
      ...(up === null
        ? []
        : [
            {
              name: end.interface,
              kind: "wireguard" as const,
              mac: null,
              mtu: 1420,
              up,
              carrier: up,
              addresses: end.overlay,
              rx_bytes: null,
              tx_bytes: null,
              speed_mbps: null,
              parent: null,
              master: null,
              tunnel: null,
            },
          ]),
    ],
    routes: [],
    neighbors: [],
    wireguard: wireguardOf(recording, end, sample),
  };
}

/** The reports of all ends in the order of their collection, as agents with this interval would send them whose first
 * report is the `phase`-th sample (0, 1, 2 for an interval of 30 s). */
export function reportsOf(
  recording: Recording,
  phase: number,
  intervalSeconds = 30,
): { t_s: number; end: RecordedEnd; report: Report }[] {
  const reports: { t_s: number; end: RecordedEnd; report: Report }[] = [];
  for (const end of recording.ends) {
    for (const sample of end.samples) {
      // samples stand ten seconds apart; a host that was gone for a while leaves its own gap
      const slot = Math.round(sample[0] / 10_000);
      if (slot % (intervalSeconds / 10) !== phase) continue;
      reports.push({ t_s: sample[0] / 1000, end, report: reportFrom(recording, end, sample, intervalSeconds) });
    }
  }
  return reports.sort((x, y) => x.t_s - y.t_s);
}
