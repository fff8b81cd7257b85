// Owns WireGuard keys and configuration text for the lab. The keys are generated for a test and gone with it.
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";

export type KeyPair = { privateKey: string; publicKey: string };

/** PKCS #8 header of a raw X25519 private key (RFC 8410). */
const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");

/** A new key pair, as `wg genkey` and `wg pubkey` make it: base64. */
export function generateKeyPair(): KeyPair {
  const raw = randomBytes(32);
  raw[0]! &= 248;
  raw[31]! = (raw[31]! & 127) | 64;
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, raw]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return { privateKey: raw.toString("base64"), publicKey: spki.subarray(-32).toString("base64") };
}

/** A new preshared key, as `wg genpsk` makes it. */
export function generatePresharedKey(): string {
  return randomBytes(32).toString("base64");
}

/** A peer of an interface. What is absent is not set, or left as it is where the peer is there already. */
export type PeerOptions = {
  publicKey: string;
  allowedIps?: string[];
  endpoint?: string;
  /** Seconds; 0 is off. */
  keepalive?: number;
  /** null takes a preshared key away. */
  presharedKey?: string | null;
};

/** What the lab knows of a WireGuard interface that it made. */
export type WireguardOptions = Partial<KeyPair> & {
  /** Default 51820. */
  port?: number;
  /** Interface addresses with length: `10.9.0.1/24`, `fd09::1/64`. */
  addresses?: string[];
  mtu?: number;
  peers?: PeerOptions[];
  /** Routes into the interface for every peer's AllowedIPs that the addresses do not cover, as wg-quick makes them.
   * Default true; a default route (/0) is never made. */
  routes?: boolean;
};

/** One line of `wg show <interface> dump` about a peer, without the preshared key. Counters in bytes. */
export type PeerStatus = {
  publicKey: string;
  endpoint: string | null;
  allowedIps: string[];
  /** Unix seconds; 0: never. */
  handshake: number;
  rxBytes: number;
  txBytes: number;
  /** Seconds; 0: off. */
  keepalive: number;
};

/** What `wg show <interface> dump` says, without the private and preshared keys. */
export type InterfaceStatus = { publicKey: string; port: number; peers: PeerStatus[] };

/** Parses `wg show <interface> dump`. The private key and the preshared keys are dropped here. */
export function parseDump(dump: string): InterfaceStatus {
  const [own, ...rest] = dump.trimEnd().split("\n");
  const [, publicKey, port] = own!.split("\t") as string[];
  const peers = rest.map((line) => {
    const [key, , endpoint, allowedIps, handshake, rx, tx, keepalive] = line.split("\t") as string[];
    return {
      publicKey: key!,
      endpoint: endpoint === "(none)" ? null : endpoint!,
      allowedIps: allowedIps === "(none)" ? [] : allowedIps!.split(","),
      handshake: Number(handshake),
      rxBytes: Number(rx),
      txBytes: Number(tx),
      keepalive: keepalive === "off" ? 0 : Number(keepalive),
    };
  });
  return { publicKey: publicKey!, port: Number(port), peers };
}
