// Owns the grouping of commits: batches handed in during one turn of the event loop share one transaction and one
// fsync, a batch that cannot be stored takes no other down with it, and a writer elsewhere is waited for without
// blocking the loop.
import type { Database, Statement } from "bun:sqlite";
import type { Batch } from "../model.ts";
import { faultOf, toStoreError } from "./faults.ts";
import type { Committed, StoreError, StoreFault } from "./store.ts";
import type { Applied, Writer } from "./writes.ts";

/** A writer elsewhere is waited for this long (5-hardening.md, Faults). */
const LOCK_WAIT_MS = 1000;
const LOCK_RETRY_MS = 50;
/** Bounds how long one transaction keeps the event loop: at about 50 µs a report, 25 ms and the fsync. */
const MAX_GROUP = 500;

type Waiting = {
  batch: Batch;
  since: number;
  resolve: (committed: Committed) => void;
  reject: (error: StoreError) => void;
};

export type CommitFigures = { commits: number; seconds: number };

export class Commits {
  readonly figures: CommitFigures = { commits: 0, seconds: 0 };
  /** Why the last write failed; null: it did not. */
  fault: StoreFault | null = null;
  readonly #begin: Statement;
  readonly #commit: Statement;
  #waiting: Waiting[] = [];
  #scheduled = false;
  #idle: (() => void)[] = [];

  constructor(
    private readonly database: Database,
    private readonly write: Writer,
    private readonly nextReportId: () => number,
    private readonly onApplied: (applied: Applied[]) => void,
  ) {
    // IMMEDIATE: the write lock is had, or not, before anything is written.
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
  }

  /** Durable when it resolves. Rejects with a StoreError: nothing of the batch is stored. */
  commit(batch: Batch): Promise<Committed> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, since: performance.now(), resolve, reject });
      this.#schedule(0);
    });
  }

  /** Resolves when nothing waits. */
  idle(): Promise<void> {
    if (this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /**
   * Runs `work` in a transaction of its own, now, and keeps the fault up to date. For housekeeping.
   * @throws StoreError
   */
  transaction<T>(operation: string, work: () => T): T {
    try {
      const result = this.#inTransaction(work);
      this.fault = null;
      return result;
    } catch (error) {
      const wrapped = toStoreError(operation, error);
      if (faultOf(error) !== null) this.fault = wrapped.fault;
      throw wrapped;
    }
  }

  #schedule(afterMs: number): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const flush = (): void => {
      this.#scheduled = false;
      this.#flush();
      if (this.#waiting.length === 0) for (const resolve of this.#idle.splice(0)) resolve();
    };
    // Not unref'd: an awaited commit keeps the process alive until it is durable.
    if (afterMs === 0) setImmediate(flush);
    else setTimeout(flush, afterMs);
  }

  #flush(): void {
    const group = this.#waiting.splice(0, MAX_GROUP);
    if (group.length === 0) return;
    const started = performance.now();
    let results: (Applied | StoreError)[];
    try {
      const applied = this.#inTransaction(() => group.map(({ batch }) => this.write(batch, this.nextReportId)));
      this.fault = null;
      results = applied;
    } catch (error) {
      const fault = faultOf(error);
      if (fault === "locked") return this.#waitOn(group, error);
      if (fault === null) results = this.#oneByOne(group);
      else {
        this.fault = fault;
        const failed = toStoreError("the report could not be stored", error);
        results = group.map(() => failed);
      }
    }
    this.figures.commits++;
    this.figures.seconds += (performance.now() - started) / 1000;
    this.onApplied(results.filter((result): result is Applied => !(result instanceof Error)));
    for (const [i, { resolve, reject }] of group.entries()) {
      const result = results[i]!;
      if (result instanceof Error) reject(result);
      else resolve({ events: result.events });
    }
    if (this.#waiting.length > 0) this.#schedule(0);
  }

  /** Puts back those that may still wait, rejects the others. */
  #waitOn(group: Waiting[], error: unknown): void {
    const now = performance.now();
    const patient = group.filter(({ since }) => now - since + LOCK_RETRY_MS < LOCK_WAIT_MS);
    this.#waiting.unshift(...patient);
    const impatient = group.filter((waiting) => !patient.includes(waiting));
    if (impatient.length > 0) {
      this.fault = "locked";
      const failed = toStoreError("the report could not be stored", error);
      for (const { reject } of impatient) reject(failed);
    }
    if (this.#waiting.length > 0) this.#schedule(LOCK_RETRY_MS);
  }

  /** One of the group is at fault: each gets a savepoint, the good ones share the transaction again. */
  #oneByOne(group: Waiting[]): (Applied | StoreError)[] {
    try {
      return this.#inTransaction(() =>
        group.map(({ batch }) => {
          this.database.run("SAVEPOINT batch");
          try {
            const applied = this.write(batch, this.nextReportId);
            this.database.run("RELEASE batch");
            return applied;
          } catch (error) {
            if (faultOf(error) !== null) throw error;
            this.database.run("ROLLBACK TO batch");
            this.database.run("RELEASE batch");
            return toStoreError("the report could not be stored", error);
          }
        }),
      );
    } catch (error) {
      this.fault = faultOf(error);
      const failed = toStoreError("the report could not be stored", error);
      return group.map(() => failed);
    }
  }

  /** `work` must be synchronous: a transaction must not span a turn of the event loop. */
  #inTransaction<T>(work: () => T): T {
    this.#begin.run();
    try {
      const result = work();
      this.#commit.run();
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some faults, a full disk among them.
      if (this.database.inTransaction) this.database.run("ROLLBACK");
      throw error;
    }
  }
}
