// Owns the packed form of consecutive reports of one agent: a codec that gives back every signed byte, MAC and
// signature exactly. Reports of one agent differ in their numbers alone, so each distinct text without its numbers is
// kept once, and the numbers travel as columns of differences, which zstd then makes small. No I/O.
import type { StoredReport } from "../model.ts";

// A pack is:
//   1 byte    FORMAT
//   varint    number of reports
//   raw       per report 16 bytes nonce, 32 bytes MAC, 64 bytes signature: randomness does not compress
//   zstd of   header (JSON), templates, columns of the reports, columns of the templates' numbers
const FORMAT = 1;
const NONCE_BYTES = 16;
const MAC_BYTES = 32;
const SIGNATURE_BYTES = 64;
const RAW_BYTES = NONCE_BYTES + MAC_BYTES + SIGNATURE_BYTES;
/** The level of the figures in issue 4; higher ones gain under 2 % here and cost several times as much. */
const ZSTD_LEVEL = 9;

// Marks in a template: control characters stand in no JSON text, so they cannot be mistaken for the text's own. A text
// that holds them all the same is kept verbatim.
const NUMBER = "\u0000";
const NONCE = "\u0001";

/** A text without its numbers and nonce. */
type Template = { verbatim: boolean; text: string };
/** What is not as expected (no 64-byte signature in canonical base64, …), as received. */
type Odd = { nonce?: string; hmac?: string; sig?: string };
type Header = { agent_id: string; boot_ids: string[]; relay_paths: string[]; odd: { [index: number]: Odd } };

/** Packs reports of one agent, given in ascending id. */
export function encodePack(rows: readonly StoredReport[]): Uint8Array<ArrayBuffer> {
  const raw = new Uint8Array(rows.length * RAW_BYTES);
  const header: Header = { agent_id: rows[0]!.agent_id, boot_ids: [], relay_paths: [], odd: {} };
  const templates = new Numbering<Template>();
  const bootIds = new Numbering<string>();
  const relayPaths = new Numbering<string>();
  const numbers: number[][][] = []; // of a template: one list per report
  const columns: number[][] = Array.from({ length: 8 }, () => []);

  for (const [i, row] of rows.entries()) {
    const odd: Odd = {};
    const at = i * RAW_BYTES;
    if (!put(raw, at, fromHex(row.nonce, NONCE_BYTES))) odd.nonce = row.nonce;
    if (!put(raw, at + NONCE_BYTES, fromHex(row.hmac, MAC_BYTES))) odd.hmac = row.hmac;
    if (!put(raw, at + NONCE_BYTES + MAC_BYTES, fromBase64(row.sig, SIGNATURE_BYTES))) odd.sig = row.sig;
    if (Object.keys(odd).length > 0) header.odd[i] = odd;

    const cut = cutNumbers(row.data, row.nonce);
    const template = templates.of(`${cut.verbatim} ${cut.text}`, { verbatim: cut.verbatim, text: cut.text });
    (numbers[template] ??= []).push(cut.numbers);
    const path = JSON.stringify(row.relay_path);
    const values = [
      row.id,
      row.tick,
      row.received_at,
      row.received_at - row.observed_at,
      row.received_at - row.collected_at,
      bootIds.of(row.boot_id, row.boot_id),
      relayPaths.of(path, path),
      template,
    ];
    for (const [c, value] of values.entries()) columns[c]!.push(value);
  }

  header.boot_ids = bootIds.values;
  header.relay_paths = relayPaths.values;
  const out = new ByteWriter();
  out.text(JSON.stringify(header));
  out.count(templates.values.length);
  for (const template of templates.values) {
    out.count(template.verbatim ? 1 : 0);
    out.text(template.text);
  }
  for (const column of columns) out.column(column);
  for (const reports of numbers) {
    for (let token = 0; token < reports[0]!.length; token++) out.column(reports.map((report) => report[token]!));
  }

  const pack = new ByteWriter();
  pack.count(FORMAT);
  pack.count(rows.length);
  pack.bytes(raw);
  pack.bytes(Bun.zstdCompressSync(out.take(), { level: ZSTD_LEVEL }));
  return pack.take();
}

/** The reports of a pack in ascending id; of those that `wanted` names by id, where given. */
export function decodePack(pack: Uint8Array, wanted: (id: number) => boolean = () => true): StoredReport[] {
  const outer = new ByteReader(pack);
  const format = outer.count();
  if (format !== FORMAT) throw new Error(`a pack of format ${format}: written by a newer manager`);
  const length = outer.count();
  const raw = outer.bytes(length * RAW_BYTES);
  const body = new ByteReader(Bun.zstdDecompressSync(outer.rest()));

  const header = JSON.parse(body.text()) as Header;
  const relayPaths = header.relay_paths.map((path) => JSON.parse(path) as string[]);
  const templates: Template[] = [];
  for (let left = body.count(); left > 0; left--) templates.push({ verbatim: body.count() === 1, text: body.text() });
  const columns = Array.from({ length: 8 }, () => body.column(length));
  const reportsOfTemplate = templates.map(() => 0);
  for (const template of columns[7]!) reportsOfTemplate[template]!++;
  const parts = templates.map(({ verbatim, text }) => (verbatim ? [text] : text.split(NUMBER)));
  const numbers = parts.map((part, t) => part.slice(1).map(() => body.column(reportsOfTemplate[t]!)));

  const rows: StoredReport[] = [];
  const seen = templates.map(() => 0);
  for (let i = 0; i < length; i++) {
    const [id, tick, received_at, age, collected, bootId, relayPath, template] = columns.map(
      (column) => column[i]!,
    ) as [number, number, number, number, number, number, number, number];
    const place = seen[template]!++;
    if (!wanted(id)) continue;
    const at = i * RAW_BYTES;
    const odd = header.odd[i] ?? {};
    const nonce = odd.nonce ?? raw.subarray(at, at + NONCE_BYTES).toHex();
    const pieces = [parts[template]![0]!];
    for (const [token, column] of numbers[template]!.entries()) {
      pieces.push(String(column[place]!).slice(1), parts[template]![token + 1]!);
    }
    const text = pieces.join("");
    const data = templates[template]!.verbatim ? text : text.replace(NONCE, () => nonce);
    rows.push({
      id,
      agent_id: header.agent_id,
      tick,
      boot_id: header.boot_ids[bootId]!,
      nonce,
      collected_at: received_at - collected,
      received_at,
      observed_at: received_at - age,
      relay_path: relayPaths[relayPath]!,
      data,
      hmac: odd.hmac ?? raw.subarray(at + NONCE_BYTES, at + NONCE_BYTES + MAC_BYTES).toHex(),
      sig: odd.sig ?? raw.subarray(at + NONCE_BYTES + MAC_BYTES, at + RAW_BYTES).toBase64(),
    });
  }
  return rows;
}

const DIGIT_0 = 48;
const DIGIT_9 = 57;
// With the 1 before it (see below), a number of 15 digits is below 2^53.
const MAX_DIGITS = 15;

/**
 * Takes the numbers out of a text: runs of digits that begin a JSON number or follow a dot or a minus sign (others, as in
 * a public key, do not change). Each is kept with a 1 before it, so that leading zeros come back.
 */
function cutNumbers(data: string, nonce: string): Template & { numbers: number[] } {
  if (data.includes(NUMBER) || data.includes(NONCE)) return { verbatim: true, text: data, numbers: [] };
  const source = data.replace(nonce, () => NONCE);
  const numbers: number[] = [];
  let text = "";
  let from = 0;
  for (let i = 1; i < source.length; i++) {
    const c = source.charCodeAt(i);
    if (c < DIGIT_0 || c > DIGIT_9 || !beginsNumber(source.charCodeAt(i - 1))) continue;
    let value = 1;
    let end = i;
    for (; end < source.length && end - i < MAX_DIGITS; end++) {
      const digit = source.charCodeAt(end);
      if (digit < DIGIT_0 || digit > DIGIT_9) break;
      value = value * 10 + (digit - DIGIT_0);
    }
    text += source.slice(from, i) + NUMBER;
    numbers.push(value);
    from = end;
    i = end - 1;
  }
  return { verbatim: false, text: text + source.slice(from), numbers };
}

/** `:` `,` `[` `.` `-` */
function beginsNumber(before: number): boolean {
  return before === 58 || before === 44 || before === 91 || before === 46 || before === 45;
}

function put(into: Uint8Array, at: number, bytes: Uint8Array | null): boolean {
  if (bytes !== null) into.set(bytes, at);
  return bytes !== null;
}

/** Null when the text is not the one way to write so many bytes. */
function fromHex(text: string, length: number): Uint8Array | null {
  return /^[0-9a-f]*$/.test(text) && text.length === 2 * length ? Uint8Array.fromHex(text) : null;
}

function fromBase64(text: string, length: number): Uint8Array | null {
  try {
    const bytes = Uint8Array.fromBase64(text);
    return bytes.length === length && bytes.toBase64() === text ? bytes : null;
  } catch {
    return null;
  }
}

/** Numbers distinct values in the order of their first appearance. */
class Numbering<T> {
  readonly values: T[] = [];
  readonly #numbers = new Map<string, number>();

  of(key: string, value: T): number {
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.values.push(value) - 1;
      this.#numbers.set(key, number);
    }
    return number;
  }
}

class ByteWriter {
  #buffer = new Uint8Array(16 * 1024);
  #length = 0;

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(this.#buffer.length * 2, this.#length + bytes));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** LEB128. By division: bit operations end at 32 bits. */
  count(value: number): void {
    this.#room(8);
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#buffer[this.#length++] = (rest % 128) + 128;
    this.#buffer[this.#length++] = rest;
  }

  text(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.count(bytes.length);
    this.bytes(bytes);
  }

  /** Any safe integer: the sign is the lowest bit of the first byte, 6 bits go beside it. */
  signed(value: number): void {
    const size = Math.abs(value);
    this.#room(9);
    const first = (size % 64) * 2 + (value < 0 ? 1 : 0);
    if (size < 64) this.#buffer[this.#length++] = first;
    else {
      this.#buffer[this.#length++] = first + 128;
      this.count(Math.floor(size / 64));
    }
  }

  /**
   * The first value, and the differences from one to the next above the least of them: all their lowest bytes, all their
   * next bytes, …, as many as the widest needs. A steady column is three bytes.
   */
  column(values: readonly number[]): void {
    const steps: number[] = [];
    for (let i = 1; i < values.length; i++) steps.push(values[i]! - values[i - 1]!);
    const least = steps.length === 0 ? 0 : Math.min(...steps);
    const most = steps.length === 0 ? 0 : Math.max(...steps) - least;
    let width = 0;
    for (let rest = most; rest > 0; rest = Math.floor(rest / 256)) width++;
    this.signed(values[0] ?? 0);
    this.signed(least);
    this.count(width);
    this.#room(width * steps.length);
    for (let place = 0, scale = 1; place < width; place++, scale *= 256) {
      for (const step of steps) this.#buffer[this.#length++] = Math.floor((step - least) / scale) % 256;
    }
  }

  take(): Uint8Array<ArrayBuffer> {
    return this.#buffer.slice(0, this.#length);
  }
}

class ByteReader {
  #at = 0;
  constructor(private readonly buffer: Uint8Array) {}

  #byte(): number {
    const byte = this.buffer[this.#at++];
    if (byte === undefined) throw new Error("a pack ends too early: the database is damaged");
    return byte;
  }

  bytes(length: number): Uint8Array {
    const bytes = this.buffer.subarray(this.#at, this.#at + length);
    if (bytes.length !== length) throw new Error("a pack ends too early: the database is damaged");
    this.#at += length;
    return bytes;
  }

  rest(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(this.#at);
  }

  count(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#byte();
      if (byte < 128) return value + byte * scale;
      value += (byte - 128) * scale;
    }
  }

  text(): string {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.bytes(this.count()));
  }

  signed(): number {
    const first = this.#byte();
    const low = (first & 127) >> 1;
    const size = first < 128 ? low : this.count() * 64 + low;
    return (first & 1) === 1 ? -size : size;
  }

  column(length: number): number[] {
    const first = this.signed();
    const least = this.signed();
    const width = this.count();
    const start = this.#at;
    const steps = Math.max(0, length - 1);
    this.bytes(width * steps); // all of them are there
    const values: number[] = length === 0 ? [] : [first];
    for (let i = 0, value = first; i < steps; i++) {
      value += least;
      for (let place = 0, scale = 1; place < width; place++, scale *= 256) {
        value += this.buffer[start + place * steps + i]! * scale;
      }
      values.push(value);
    }
    return values;
  }
}
