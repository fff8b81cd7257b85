// Owns what an administrator can change: forget, renew or block an agent, clear the fleet, acknowledge, silence.
import * as z from "zod/mini";
import { firstIssue, type JsonObject } from "../shared/json.ts";
import { agentIdSchema } from "../shared/report.ts";
import { ALARM_CODES } from "./alarms/rule.ts";
import type { Fleet } from "./fleet.ts";
import { HttpError, readObject } from "./http.ts";
import type { Silence } from "./model.ts";
import type { Store } from "./store/store.ts";

const fleetSchema = z.strictObject({
  fleet: z.literal(true),
  confirm: z.literal("reset fleet", 'must be "reset fleet"'),
});
const agentSchema = z.strictObject({
  agent_id: agentIdSchema,
  regenerate: z.optional(z.boolean()),
  block: z.optional(z.boolean()),
});

/** A window that ends later is a slip of the keyboard (microseconds, a digit too many): it would hide every alarm for good. */
const MAX_SILENCE_MS = 366 * 86_400_000;

// Strict: a misspelt `agents` or `codes` would silence everything.
const silenceSchema = z.strictObject({
  /** Agents by id; empty or absent: all. */
  agents: z._default(z.array(agentIdSchema).check(z.maxLength(1000)), []),
  /** Alarm codes; empty or absent: all. */
  codes: z._default(
    z.array(z.enum(ALARM_CODES, "must be an alarm code: README lists them")).check(z.maxLength(100)),
    [],
  ),
  until_at: z.int(),
  reason: z.string().check(z.minLength(1, "must say why"), z.maxLength(500)),
});
/** Foreign peers that may be expected at once: nobody marks more by hand. */
const MAX_EXPECTED = 1000;

const expectSchema = z.strictObject({
  public_key: z
    .string()
    .check(z.regex(/^[A-Za-z0-9+/]{43}=$/, "must be a WireGuard public key, as `wg show` prints it")),
  expected: z.boolean(),
});
const endSchema = z.strictObject({ end: z.string() });

/** @throws HttpError 422 that names the field */
function checked<T extends z.core.$ZodType>(schema: T, value: JsonObject): z.output<T> {
  const result = z.safeParse(schema, value);
  if (result.success) return result.data;
  const { field, message } = firstIssue(result.error);
  throw new HttpError(422, "schema", field === "" ? message : `${field}: ${message}`);
}

export type AdminOptions = {
  fleet: Fleet;
  store: Store;
  /** Where `reset fleet` puts its backup: beside the database. */
  backupPath(at: number): string;
  now(): number;
};

/** `POST /status/admin/reset`. @throws HttpError, StoreError */
export async function adminReset(
  body: Uint8Array,
  { fleet, store, backupPath, now }: AdminOptions,
): Promise<Record<string, unknown>> {
  const asked = readObject(body);
  if (asked["fleet"] !== undefined) {
    checked(fleetSchema, asked);
    const backup = backupPath(now());
    await store.backup(backup);
    await fleet.mutate((turn) => fleet.wipe(turn));
    return { reset: "fleet", backup };
  }
  const request = checked(agentSchema, asked);
  const { agent_id: agentId } = request;
  if (request.regenerate === true && request.block === true) {
    throw new HttpError(422, "schema", "regenerate: cannot be asked of a blocked agent; choose one");
  }
  return fleet.mutate((turn) => {
    const agent = fleet.agents.get(agentId);
    if (agent === undefined) throw new HttpError(404, "unknown_agent", "no agent has this id: see GET /status/agents");
    if (request.regenerate === true) {
      fleet.putAgent({ ...agent, regenerate: true }, turn);
      return { agent_id: agentId, regenerate: true };
    }
    if (request.block !== undefined) {
      fleet.putAgent({ ...agent, blocked: request.block }, turn);
      return { agent_id: agentId, blocked: request.block };
    }
    fleet.forgetAgent(agentId, turn);
    return { agent_id: agentId, forgotten: true };
  });
}

/** `POST /status/admin/expect`: whether a foreign peer is to be there; its silence is a warning then. @throws HttpError 400, 404, 422 */
export async function expectPeer(
  body: Uint8Array,
  fleet: Fleet,
): Promise<{ public_key: string; node: string; expected: boolean }> {
  const { public_key: key, expected } = checked(expectSchema, readObject(body));
  const node = `wg:${key}`;
  return fleet.mutate((turn) => {
    const marked = fleet.topology.expected;
    if (expected ? fleet.topology.node(node) === null : !marked.has(key))
      throw new HttpError(
        404,
        "unknown_peer",
        expected
          ? "public_key: no agent lists a foreign peer with this key: see GET /status/topology"
          : "public_key: this peer is not marked as expected",
      );
    if (expected && marked.size >= MAX_EXPECTED && !marked.has(key))
      throw new HttpError(409, "too_many", `at most ${MAX_EXPECTED} peers can be marked: take the mark from another`);
    fleet.expectPeer(key, expected, turn);
    return { public_key: key, node, expected };
  });
}

/** `POST /status/alarms/:id/ack`: what the alarm is then. @throws HttpError 404 */
export function acknowledge(id: string, fleet: Fleet): Promise<Record<string, unknown>> {
  return fleet.mutate((turn) => {
    const found = fleet.alarms.acknowledge(id, turn.now);
    if (found === null) throw new HttpError(404, "unknown_alarm", "no open alarm has this id: see GET /status/alarms");
    fleet.takeAlarms(found.change, turn);
    const { state, acknowledged_at, resolved_at } = found.row;
    return { id, state, acknowledged_at, resolved_at };
  });
}

/** `POST /status/admin/silence`: a maintenance window, or `{"end": ID}` of one. @throws HttpError 400, 404, 422 */
export async function silence(body: Uint8Array, fleet: Fleet): Promise<Silence> {
  const asked = readObject(body);
  if (asked["end"] !== undefined) {
    const { end } = checked(endSchema, asked);
    return fleet.mutate((turn) => {
      const ended = fleet.alarms.endSilence(end, turn.now);
      if (ended === null)
        throw new HttpError(404, "unknown_silence", "no window has this id: see GET /status/silences");
      fleet.takeAlarms(ended.change, turn);
      turn.batch.silences = [...(turn.batch.silences ?? []), ended.silence];
      return ended.silence;
    });
  }
  const request = checked(silenceSchema, asked);
  return fleet.mutate((turn) => {
    if (request.until_at <= turn.now) throw new HttpError(422, "schema", "until_at: must lie in the future");
    if (request.until_at > turn.now + MAX_SILENCE_MS)
      throw new HttpError(422, "schema", "until_at: must lie within 366 days from now, in Unix milliseconds");
    const added: Silence = { id: crypto.randomUUID(), created_at: turn.now, ...request };
    fleet.alarms.silence(added, turn.now);
    turn.batch.silences = [...(turn.batch.silences ?? []), added];
    return added;
  });
}
