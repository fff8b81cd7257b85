// Owns IP address, prefix, endpoint and MAC arithmetic: parse, canonical text (RFC 5952), containment. Pure.

/** A parsed IP address. IPv4 is `family` 4 with the 32 bits in `value`; IPv6 is 6 with 128 bits. */
export type Address = { family: 4 | 6; value: bigint };

/** A parsed prefix: `value` has its host bits as they were given (see `network`). */
export type Prefix = Address & { length: number };

/** Address and UDP port, as `wg` prints an endpoint: `192.0.2.1:51820`, `[2001:db8::1]:51820`. */
export type Endpoint = { address: string; port: number };

const IPV4_MAPPED = 0xffffn << 32n;

function parseIpv4(text: string): bigint | null {
  let value = 0;
  let octet = -1;
  let dots = 0;
  let digits = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 48 && c <= 57) {
      // A leading zero is octal to some readers and decimal to others: neither, here.
      if (octet === 0 && digits > 0) return null;
      octet = (octet < 0 ? 0 : octet * 10) + (c - 48);
      if (++digits > 3 || octet > 255) return null;
    } else if (c === 46) {
      if (digits === 0 || ++dots > 3) return null;
      value = value * 256 + octet;
      octet = -1;
      digits = 0;
    } else return null;
  }
  if (dots !== 3 || digits === 0) return null;
  return BigInt(value * 256 + octet);
}

function parseIpv6(input: string): bigint | null {
  let text = input;
  if (text.length < 2 || text.length > 45) return null;
  // A dotted tail (::ffff:192.0.2.1) stands for the last two groups.
  if (text.includes(".")) {
    const cut = text.lastIndexOf(":");
    const tail = parseIpv4(text.slice(cut + 1));
    if (cut < 0 || tail === null) return null;
    text = `${text.slice(0, cut + 1)}${(tail >> 16n).toString(16)}:${(tail & 0xffffn).toString(16)}`;
  }
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = halves[0] === "" ? [] : halves[0]!.split(":");
  const tail = halves.length === 2 ? (halves[1] === "" ? [] : halves[1]!.split(":")) : [];
  const groups = head.length + tail.length;
  if (halves.length === 2 ? groups > 7 : groups !== 8) return null;
  let value = 0n;
  for (const group of head) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
    value = (value << 16n) | BigInt(parseInt(group, 16));
  }
  value <<= BigInt((8 - groups) * 16);
  for (const group of tail) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
    value = (value << 16n) | BigInt(parseInt(group, 16));
  }
  return value;
}

/** Parses an IPv4 or IPv6 address without zone; `::ffff:a.b.c.d` becomes IPv4. Returns null when it is none. */
export function parseAddress(text: string): Address | null {
  if (!text.includes(":")) {
    const value = parseIpv4(text);
    return value === null ? null : { family: 4, value };
  }
  const value = parseIpv6(text);
  if (value === null) return null;
  if (value >> 32n === 0xffffn) return { family: 4, value: value & 0xffffffffn };
  return { family: 6, value };
}

/** Canonical text of an address: dotted quad, or RFC 5952 (lower case, longest run of zeros as `::`). */
export function formatAddress({ family, value }: Address): string {
  if (family === 4) {
    const v = Number(value);
    return `${v >>> 24}.${(v >>> 16) & 255}.${(v >>> 8) & 255}.${v & 255}`;
  }
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((value >> shift) & 0xffffn));
  let best = -1;
  let bestLength = 1; // RFC 5952 4.2.2: a single zero group is not shortened
  for (let i = 0; i < 8;) {
    if (groups[i] !== 0) {
      i++;
      continue;
    }
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) {
      best = i;
      bestLength = end - i;
    }
    i = end;
  }
  const hex = (from: number, to: number) =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  return best < 0 ? hex(0, 8) : `${hex(0, best)}::${hex(best + bestLength, 8)}`;
}

/** Canonical text of `text`, or null when it is no address. */
export function canonicalAddress(text: string): string | null {
  const address = parseAddress(text);
  return address === null ? null : formatAddress(address);
}

/** Address bits of the family: 32 or 128. */
export function familyBits(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** Parses `address/length`, or a bare address as its host prefix. Host bits are kept. Null when it is none. */
export function parsePrefix(text: string): Prefix | null {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === null) return null;
  if (slash < 0) return { ...address, length: familyBits(address.family) };
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(digits)) return null;
  let length = Number(digits);
  // ::ffff:a.b.c.d/n is an IPv4 prefix of n - 96 bits
  if (address.family === 4 && text.includes(":")) length -= 96;
  return length < 0 || length > familyBits(address.family) ? null : { ...address, length };
}

/** The address that a canonical prefix holds alone: `10.0.0.7/32` → `10.0.0.7`. Null where it holds more. */
export function onlyAddress(prefix: string): string | null {
  const length = prefix.includes(":") ? "/128" : "/32";
  return prefix.endsWith(length) ? prefix.slice(0, -length.length) : null;
}

/** The prefix with its host bits cleared. */
export function network(prefix: Prefix): Prefix {
  const host = BigInt(familyBits(prefix.family) - prefix.length);
  return { family: prefix.family, value: (prefix.value >> host) << host, length: prefix.length };
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix)}/${prefix.length}`;
}

/** Canonical prefix (host bits cleared): `10.0.0.7/24` → `10.0.0.0/24`. Null when it is none. */
export function canonicalPrefix(text: string): string | null {
  const prefix = parsePrefix(text);
  return prefix === null ? null : formatPrefix(network(prefix));
}

/** Canonical interface address (host bits kept): `10.0.0.7/24`. Null when it is none. */
export function canonicalInterfaceAddress(text: string): string | null {
  const prefix = parsePrefix(text);
  return prefix === null ? null : formatPrefix(prefix);
}

/** Whether `prefix` covers `address`. Different families never do. */
export function contains(prefix: Prefix, address: Address): boolean {
  if (prefix.family !== address.family) return false;
  const host = BigInt(familyBits(prefix.family) - prefix.length);
  return prefix.value >> host === address.value >> host;
}

/** Whether `outer` covers every address of `inner`. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && contains(outer, inner);
}

/** Parses `a.b.c.d:port` or `[v6]:port` (a zone such as `%eth0` is dropped). Null when it is none. */
export function parseEndpoint(text: string): Endpoint | null {
  const cut = text.lastIndexOf(":");
  if (cut < 0) return null;
  let host = text.slice(0, cut);
  const digits = text.slice(cut + 1);
  if (!/^[0-9]{1,5}$/.test(digits)) return null;
  const port = Number(digits);
  if (port > 65535) return null;
  const bracketed = host.startsWith("[") && host.endsWith("]");
  if (bracketed) host = host.slice(1, -1);
  const zone = host.indexOf("%");
  if (zone >= 0) host = host.slice(0, zone);
  if (host.includes(":") !== bracketed) return null;
  const address = canonicalAddress(host);
  return address === null ? null : { address, port };
}

export function formatEndpoint({ address, port }: Endpoint): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

export function canonicalEndpoint(text: string): string | null {
  const endpoint = parseEndpoint(text);
  return endpoint === null ? null : formatEndpoint(endpoint);
}

/** Lower-case colon-separated MAC address, or null. */
export function canonicalMac(text: string): string | null {
  return /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(text) ? text.toLowerCase() : null;
}

const LOOPBACK_4: Prefix = { family: 4, value: 127n << 24n, length: 8 };
const LINK_LOCAL_4: Prefix = { family: 4, value: (169n << 24n) | (254n << 16n), length: 16 };
const MULTICAST_4: Prefix = { family: 4, value: 224n << 24n, length: 4 };
const THIS_NETWORK_4: Prefix = { family: 4, value: 0n, length: 8 };
const LINK_LOCAL_6: Prefix = { family: 6, value: 0xfe80n << 112n, length: 10 };
const MULTICAST_6: Prefix = { family: 6, value: 0xffn << 120n, length: 8 };

export function isLoopback(address: Address): boolean {
  return address.family === 4 ? contains(LOOPBACK_4, address) : address.value === 1n;
}

export function isLinkLocal(address: Address): boolean {
  return contains(LINK_LOCAL_4, address) || contains(LINK_LOCAL_6, address);
}

export function isMulticast(address: Address): boolean {
  return contains(MULTICAST_4, address) || contains(MULTICAST_6, address);
}

/** 0.0.0.0/8, ::, and the limited broadcast address: never a host's. */
export function isUnspecified(address: Address): boolean {
  return address.family === 4
    ? contains(THIS_NETWORK_4, address) || address.value === 0xffffffffn
    : address.value === 0n;
}

/** The IPv4-mapped IPv6 value of an address: one ordered space for both families (longest-prefix tables). */
export function mapped(address: Address): bigint {
  return address.family === 4 ? IPV4_MAPPED | address.value : address.value;
}
