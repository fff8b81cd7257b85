// Owns what travels inside `data`: zod schemas of report, register, relay, reset and ack, and the types derived from
// them. A field that a collector could not learn is null; an empty list is "none". Times are `*_at` in Unix
// milliseconds, `*_s` seconds, `*_bytes` bytes; counters travel modulo 2^53.
import * as z from "zod/mini";
import { MAX_ITEMS, MAX_STRING_BYTES } from "./limits.ts";
import {
  canonicalAddress,
  canonicalEndpoint,
  canonicalInterfaceAddress,
  canonicalMac,
  canonicalPrefix,
} from "./net.ts";

export { DATA_VERSION, MAX_BODY_BYTES, MAX_ITEMS, MAX_REPORT_BYTES, MAX_STRING_BYTES } from "./limits.ts";

// zod/mini alone says "Invalid input", whatever is wrong.
z.config(z.locales.en());

const UTF8 = new TextEncoder();

/** A string that fits the wire: no NUL, at most 255 bytes of UTF-8. */
const text = z.string().check(
  z.refine((value) => !value.includes("\0"), "must not contain NUL"),
  z.refine(
    (value) =>
      value.length <= 85 || (value.length <= MAX_STRING_BYTES && UTF8.encode(value).length <= MAX_STRING_BYTES),
    `must be at most ${MAX_STRING_BYTES} bytes`,
  ),
);

/** Canonicalises by `canonical`; what it refuses is an error that says what was expected. */
const canonicalised = (canonical: (value: string) => string | null, expected: string) =>
  z.pipe(
    text,
    z.transform((value, context) => {
      const result = canonical(value);
      if (result !== null) return result;
      context.issues.push({ code: "custom", message: `must be ${expected}`, input: value });
      return z.NEVER;
    }),
  );

const address = canonicalised(canonicalAddress, "an IPv4 or IPv6 address");
const prefix = canonicalised(canonicalPrefix, "a prefix such as 10.0.0.0/24");
const interfaceAddress = canonicalised(canonicalInterfaceAddress, "an interface address such as 10.0.0.1/24");
const endpoint = canonicalised(canonicalEndpoint, "an endpoint such as 192.0.2.1:51820 or [2001:db8::1]:51820");
const mac = canonicalised(canonicalMac, "a MAC address");

const count = z.int().check(z.minimum(0));
const port = z.int().check(z.minimum(0), z.maximum(65535));
/** Unix milliseconds; bounded so that arithmetic on it stays exact. */
const instant = z.int().check(z.minimum(0), z.maximum(8.64e15));
const finite = z.number();

const list = <T extends z.core.$ZodType>(item: T) =>
  z.array(item).check(z.maxLength(MAX_ITEMS, `must have at most ${MAX_ITEMS} items`));

/** UUIDv4, lower case. */
export const agentIdSchema = z
  .string()
  .check(z.regex(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/, "must be a UUIDv4"));
const nonce = z.string().check(z.regex(/^[0-9a-f]{32}$/, "must be 32 lowercase hex digits"));
/** A WireGuard or Ed25519 public key: base64 of 32 bytes. */
const publicKey = z.string().check(z.regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, "must be base64 of 32 bytes"));

const INTERFACE_KINDS = [
  "physical",
  "loopback",
  "wireguard",
  "bridge",
  "bond",
  "vlan",
  "vxlan",
  "gre",
  "ipip",
  "sit",
  "geneve",
  "veth",
  "tun",
  "tap",
  "dummy",
  "virtual",
] as const;

const tunnelSchema = z.object({
  /** Outer source address; null: chosen by the route. */
  local: z.nullable(address),
  /** Outer destination; null: several, learned or none. */
  remote: z.nullable(address),
  /** VNI or GRE key; null: none. */
  id: z.nullable(count),
  /** UDP port; null: the tunnel has none. */
  port: z.nullable(port),
});

const interfaceSchema = z.object({
  name: text,
  kind: z.enum(INTERFACE_KINDS),
  mac: z.nullable(mac),
  mtu: z.nullable(count),
  /** Administratively up (IFF_UP). */
  up: z.nullable(z.boolean()),
  /** Lower layer up (IFF_LOWER_UP); null where the kernel does not say, as for a downed interface. */
  carrier: z.nullable(z.boolean()),
  /** `address/length`, host bits kept, in the kernel's order (first is primary). */
  addresses: list(interfaceAddress),
  rx_bytes: z.nullable(count),
  tx_bytes: z.nullable(count),
  /** Megabits per second; null: unknown or none. */
  speed_mbps: z.nullable(count),
  /** The interface below (vlan, macvlan, vxlan's underlay); null: none. */
  parent: z.nullable(text),
  /** The bridge, bond or vrf that owns this one; null: none. */
  master: z.nullable(text),
  tunnel: z.nullable(tunnelSchema),
  /** Effective reverse-path filter, max(all, this): 0 off, 1 strict, 2 loose. Absent: not read. */
  rp_filter: z.optional(z.nullable(count)),
  rx_errors: z.optional(z.nullable(count)),
  tx_errors: z.optional(z.nullable(count)),
  /** VXLAN head-end replication targets from the bridge fdb. */
  remotes: z.optional(z.nullable(list(address))),
  /** A bridge's ports by kind: all veth or tap means a host-local bridge. */
  ports: z.optional(z.nullable(z.object({ veth: count, tap: count, other: count }))),
});

const routeSchema = z.object({
  destination: prefix,
  /** null: on link. */
  gateway: z.nullable(address),
  /** null: a route without device (blackhole, multipath). */
  interface: z.nullable(text),
  metric: z.nullable(count),
  /** Routing table number as text, or its name (`main`, `local`, `51820`). Absent: main. */
  table: z.optional(text),
  /** Absent: unicast. */
  type: z.optional(z.enum(["unicast", "blackhole", "unreachable", "prohibit", "throw", "local", "nat", "anycast"])),
  source: z.optional(z.nullable(address)),
  nexthops: z.optional(
    z.nullable(list(z.object({ gateway: z.nullable(address), interface: z.nullable(text), weight: count }))),
  ),
  mtu: z.optional(z.nullable(count)),
});

const neighborSchema = z.object({
  address,
  mac,
  interface: text,
});

const ruleSchema = z.object({
  family: z.union([z.literal(4), z.literal(6)]),
  priority: count,
  not: z.boolean(),
  /** null: all. */
  src: z.nullable(prefix),
  dst: z.nullable(prefix),
  /** `value/mask` as iproute2 prints it (`0xca6c`, `0x1/0xff`); null: any. */
  fwmark: z.nullable(text),
  iif: z.nullable(text),
  /** Table number or name; null: the action is no lookup. */
  table: z.nullable(text),
  /** lookup, blackhole, unreachable, prohibit, goto, nop. */
  action: text,
  /** Ignore routes of the table whose prefix is this long or shorter; null: none. */
  suppress_prefixlen: z.nullable(z.int()),
  /** It has a selector that we do not carry (oif, ports, tos, l3mdev, uid, …). */
  other: z.boolean(),
});

const peerSchema = z.object({
  public_key: publicKey,
  /** null: none known (`(none)`). */
  endpoint: z.nullable(endpoint),
  allowed_ips: list(prefix),
  /** By the agent's clock; null: never (0 in the dump). */
  latest_handshake_at: z.nullable(instant),
  rx_bytes: count,
  tx_bytes: count,
  /** null: off. */
  persistent_keepalive_s: z.nullable(count),
  /** What `ip route get <endpoint> mark <fwmark>` said; null: it said none. Absent: not asked. */
  via: z.optional(z.nullable(z.object({ interface: text, source: z.nullable(address) }))),
});

const wireguardSchema = z.object({
  interface: text,
  /** null: the interface has no private key yet, or could not be read (see `status`). */
  public_key: z.nullable(publicKey),
  /** null: none bound, or unknown. */
  listen_port: z.nullable(port),
  fwmark: z.nullable(count),
  /** null: this interface could not be read (see `status`); the reader keeps its last view. */
  peers: z.nullable(list(peerSchema)),
  /** "ok" or "error: …" of this interface. Absent: ok. */
  status: z.optional(text),
});

const systemSchema = z.object({
  hostname: text,
  kernel: z.nullable(text),
  arch: z.nullable(text),
  uptime_s: z.nullable(finite.check(z.minimum(0))),
  cpus: z.nullable(count),
  load: z.nullable(z.array(finite.check(z.minimum(0))).check(z.length(3))),
  memory_total_bytes: z.nullable(count),
  memory_available_bytes: z.nullable(count),
  ip_forward: z.optional(z.nullable(z.boolean())),
  ipv6_forward: z.optional(z.nullable(z.boolean())),
});

const deliverySchema = z.object({
  outbox_reports: count,
  outbox_bytes: count,
  outbox_limit_bytes: count,
  relay_refused: z.object({ loop: count, hop_limit: count }),
  psk_error: z.nullable(text),
});

const version = z.int().check(z.minimum(1));

/** An agent has 7; each that fails is an alarm. */
const MAX_COLLECTORS = 64;

export const reportSchema = z.object({
  v: version,
  type: z.literal("report"),
  agent_id: agentIdSchema,
  tick: count,
  nonce,
  sent_at: instant,
  collected_at: instant,
  age_ms: z.optional(z.nullable(z.int())),
  boot_id: text,
  agent_version: text,
  /** The agent's REPORT_INTERVAL. */
  interval_s: finite.check(z.minimum(1), z.maximum(86400)),
  /** Reports lost to the outbox's limits since the agent's state began. */
  dropped: count,
  delivery: z.optional(z.nullable(deliverySchema)),
  /** Collector name → "ok", "partial: …" or "error: …". */
  collectors: z
    .record(text, text)
    .check(
      z.refine((value) => Object.keys(value).length <= MAX_COLLECTORS, `must have at most ${MAX_COLLECTORS} fields`),
    ),
  system: z.nullable(systemSchema),
  interfaces: z.nullable(list(interfaceSchema)),
  routes: z.nullable(list(routeSchema)),
  neighbors: z.nullable(list(neighborSchema)),
  wireguard: z.nullable(list(wireguardSchema)),
  rules: z.optional(z.nullable(list(ruleSchema))),
  forwarding: z.optional(z.nullable(z.object({ v4: z.nullable(z.boolean()), v6: z.nullable(z.boolean()) }))),
  firewall: z.optional(
    z.nullable(
      list(z.object({ family: text, hook: z.nullable(text), type: z.nullable(text), policy: z.nullable(text) })),
    ),
  ),
  /** Routes that were left out beyond the limit of 2,000. */
  routes_truncated: z.optional(count),
  /** Veth interfaces without an address: a count, not rows. */
  veths: z.optional(count),
  /** A list was cut at MAX_ITEMS, or the report at 1 MiB. */
  truncated: z.optional(z.boolean()),
});

export const registerSchema = z.object({
  v: version,
  type: z.literal("register"),
  agent_id: agentIdSchema,
  nonce,
  sent_at: instant,
  hostname: text,
  agent_version: text,
  public_key: publicKey,
});

/** The envelope's outer shape: see envelope.ts for what is checked about it, and in which order. */
const envelopeSchema = z.object({
  v: z.literal(1),
  data: z.string(),
  hmac: z.string().check(z.regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits")),
  sig: z.optional(z.nullable(z.string().check(z.maxLength(MAX_STRING_BYTES)))),
});

export const relaySchema = z.object({
  v: version,
  type: z.literal("relay"),
  /** The sender of this hop. */
  agent_id: agentIdSchema,
  nonce,
  sent_at: instant,
  /** Id of each relay so far, first to last; the first sender's is []. How many may be is no matter of shape: hop_limit. */
  relay_path: list(agentIdSchema),
  envelope: envelopeSchema,
});

export const resetSchema = z.object({
  v: version,
  type: z.literal("reset"),
  agent_id: agentIdSchema,
  nonce,
  sent_at: instant,
});

export const ackSchema = z.object({
  v: version,
  type: z.literal("ack"),
  code: text,
  message: z.string(),
  /** The request's nonce; null when the request's data could not be read that far. */
  nonce: z.nullable(z.string()),
  agent_id: z.nullable(z.string()),
  tick: z.optional(z.nullable(count)),
  server_time_at: instant,
  /** On 409: the manager holds this very report. */
  duplicate: z.optional(z.boolean()),
  /** On 409 stale_tick or replay: the highest tick that the manager has of this agent. */
  highest_tick: z.optional(count),
  /** On the register ack: the manager's Ed25519 public key, base64 raw 32 bytes. */
  manager_key: z.optional(z.string()),
  /** On 422: the path of the field. */
  field: z.optional(z.string()),
});

export type Report = z.infer<typeof reportSchema>;
export type Register = z.infer<typeof registerSchema>;
export type Relay = z.infer<typeof relaySchema>;
export type Ack = z.infer<typeof ackSchema>;
export type Envelope = z.infer<typeof envelopeSchema>;
export type Interface = z.infer<typeof interfaceSchema>;
export type InterfaceKind = (typeof INTERFACE_KINDS)[number];
export type Tunnel = z.infer<typeof tunnelSchema>;
export type Route = z.infer<typeof routeSchema>;
export type Neighbor = z.infer<typeof neighborSchema>;
export type Rule = z.infer<typeof ruleSchema>;
export type Peer = z.infer<typeof peerSchema>;
export type Wireguard = z.infer<typeof wireguardSchema>;
export type System = z.infer<typeof systemSchema>;
export type Delivery = z.infer<typeof deliverySchema>;

/** What the collectors bring home: a report without what is stamped at send. */
export type Collected = Omit<Report, "agent_id" | "nonce" | "sent_at" | "age_ms">;
