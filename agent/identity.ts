// Owns who this agent is, on disk: id, Ed25519 key, tick, the manager's pinned key. Written by fsync and rename; the tick
// under a short lock that the daemon and -dump share.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type SigningKey, signingKey } from "../shared/envelope.ts";
import { readPrivate, setAside, StateError, waitLock, writePrivate } from "../shared/files.ts";
import type { Log } from "../shared/log.ts";

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const PUBLIC_KEY = /^[A-Za-z0-9+/]{43}=$/;
/** Whose machine a state is: the second line of agent_key (until 0.1.0 of agent_id.txt). */
const MACHINE = /^machine ([0-9a-f]{64})$/;
/** Longer than any write of the tick takes; shorter than an operator's patience. */
const TICK_LOCK_MS = 3000;

export type IdentityOptions = {
  directory: string;
  /** MANAGER_KEY: fixes the manager's key. */
  fixedManagerKey: string | null;
  log: Log;
  /** This machine has another's state: what goes with the old identity is given up here, before anything of it is. */
  onMoved?: () => void;
  /** Tests point it elsewhere. */
  machineIdPath?: string;
  now?: () => number;
};

/** Hash of /etc/machine-id (the id itself should not leave the machine: machine-id(5)); null: there is none. */
function machineHash(path: string): string | null {
  try {
    const id = readFileSync(path, "utf8").trim();
    return id === "" ? null : new Bun.CryptoHasher("sha256").update(`kattila ${id}`).digest("hex");
  } catch {
    return null;
  }
}

/** What agent_key holds: the seed, and whose machine this is where the machine says. */
function keyFile(key: SigningKey, machine: string | null): string {
  return `${key.seed}\n${machine === null ? "" : `machine ${machine}\n`}`;
}

export class Identity {
  agentId = "";
  key!: SigningKey;
  /** Base64 raw 32 bytes; null: not learned yet. */
  managerKey: string | null = null;
  readonly #options: IdentityOptions;
  #tick: number | null = null;

  private constructor(options: IdentityOptions) {
    this.#options = options;
  }

  /** Loads or makes the identity. @throws StateError for what only an operator can mend. */
  static async open(options: IdentityOptions): Promise<Identity> {
    const identity = new Identity(options);
    await identity.#load();
    return identity;
  }

  #path(name: string): string {
    return join(this.#options.directory, name);
  }

  #read(name: string): string | null {
    return readPrivate(this.#path(name), (path) =>
      this.#options.log.warning("state_file_mended", { path, mode: "0600" }),
    );
  }

  #broken(name: string, effect: string): void {
    const path = this.#path(name);
    this.#options.log.error("state_file_broken", { path, moved_to: setAside(path, this.#now()), effect });
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  async #load(): Promise<void> {
    const { log, fixedManagerKey } = this.#options;
    const idText = this.#read("agent_id.txt");
    const [id = "", idMachine] = (idText ?? "").trim().split("\n");
    const knowsId = UUID_V4.test(id);
    if (idText !== null && !knowsId) {
      this.#broken("agent_id.txt", "this agent takes a new identity");
      this.#dropKey();
    }
    const keyText = this.#read("agent_key");
    const [seed = "", keyMachine] = (keyText ?? "").trim().split("\n");
    let key: SigningKey | null = null;
    if (keyText !== null) {
      try {
        if (keyMachine !== undefined && !MACHINE.test(keyMachine)) throw new Error("cut off");
        key = await signingKey(seed);
      } catch {
        this.#broken("agent_key", "this agent takes a new identity");
      }
    }
    const was = MACHINE.exec(keyMachine ?? idMachine ?? "")?.[1] ?? null;
    const machine = this.#machine();
    if (knowsId && machine !== null && was !== null && was !== machine) {
      log.error("machine_changed", {
        effect: "this state was copied from another machine: a new identity is taken, the outbox is emptied",
        old_agent_id: id,
      });
      this.#options.onMoved?.();
      key = null;
    }
    // An id whose key is gone can only be refused.
    if (key === null) await this.renew();
    else {
      this.key = key;
      const text = keyFile(key, machine ?? was);
      if (text !== keyText) writePrivate(this.#path("agent_key"), text);
      if (!knowsId) this.#writeId(crypto.randomUUID());
      else if (idMachine === undefined) this.agentId = id;
      else this.#writeId(id);
    }
    const pinned = this.#read("manager_key.pub")?.trim() ?? null;
    if (pinned !== null && !PUBLIC_KEY.test(pinned))
      this.#broken("manager_key.pub", "the manager's key is learned anew at a direct delivery");
    this.managerKey = fixedManagerKey ?? (pinned !== null && PUBLIC_KEY.test(pinned) ? pinned : null);
  }

  #machine(): string | null {
    return machineHash(this.#options.machineIdPath ?? "/etc/machine-id");
  }

  #dropKey(): void {
    rmSync(this.#path("agent_key"), { force: true });
    rmSync(this.#path("agent_tick"), { force: true });
  }

  #writeId(id: string): void {
    writePrivate(this.#path("agent_id.txt"), `${id}\n`);
    this.agentId = id;
  }

  /** The manager gave another id (conflict, or the key is known under it). */
  adopt(id: string): void {
    if (!UUID_V4.test(id) || id === this.agentId) return;
    this.#options.log.warning("agent_id_changed", { old_agent_id: this.agentId, agent_id: id });
    this.#writeId(id);
  }

  /** Pins the manager's key, unless MANAGER_KEY fixes it. Returns whether it counts now. */
  pinManager(key: string): boolean {
    const { fixedManagerKey, log } = this.#options;
    if (fixedManagerKey !== null) return key === fixedManagerKey;
    if (!PUBLIC_KEY.test(key)) return false;
    if (key === this.managerKey) return true;
    if (this.managerKey !== null)
      log.error("manager_key_changed", {
        old_key: this.managerKey,
        new_key: key,
        effect: "learned over a direct delivery; set MANAGER_KEY to forbid this",
      });
    else log.info("manager_key_learned", { manager_key: key });
    writePrivate(this.#path("manager_key.pub"), `${key}\n`);
    this.managerKey = key;
    return true;
  }

  /**
   * A new identity: id, key and tick. The caller has emptied the outbox. Whenever it is killed, the next start finds no
   * key, and takes another; or the new one, with its id and its tick.
   */
  async renew(): Promise<void> {
    this.key = await signingKey();
    this.#dropKey();
    this.#tick = null;
    this.#writeId(crypto.randomUUID());
    writePrivate(this.#path("agent_tick"), "0\n");
    writePrivate(this.#path("agent_key"), keyFile(this.key, this.#machine()));
  }

  #readTick(): number {
    const text = this.#read("agent_tick");
    // No tick counts faster than one a second, so the seconds since 1970 are above all that this identity used.
    const lost = Math.floor(this.#now() / 1000);
    if (text === null) return lost;
    const tick = Number(text.trim());
    if (/^[0-9]{1,15}\n?$/.test(text) && Number.isSafeInteger(tick)) return tick;
    this.#broken("agent_tick", "counting goes on from the seconds since 1970");
    return lost;
  }

  /** The tick that was used last; for the healthcheck. */
  get lastTick(): number {
    this.#tick ??= this.#readTick();
    return this.#tick;
  }

  /** The next tick, above `above` too: durable before it is used. @throws StateError */
  async nextTick(above = 0): Promise<number> {
    const lock = await waitLock(this.#options.directory, TICK_LOCK_MS);
    if (lock === null)
      throw new StateError(`${this.#options.directory} is locked by another agent: wait, or end that one`);
    try {
      const tick = Math.max(this.#readTick(), above) + 1;
      writePrivate(this.#path("agent_tick"), `${tick}\n`);
      this.#tick = tick;
      return tick;
    } finally {
      lock.release();
    }
  }
}
