// Owns how tests measure time that has a limit: a stopwatch that stands still while the machine does. A busy host takes a
// virtual machine's processors away for seconds; nothing can be in time then, and nothing is late by its own fault. A
// thread of its own sees that: what only holds up the event loop under test does not hold up the thread, and counts.
import { Worker } from "node:worker_threads";

const BEAT_MS = 20;
/** A beat that comes so much too late is a machine that stood still; less is a processor that others use, too. */
const STALL_MS = 200;

/** When the thread beat last, in nanoseconds of the clock that all share, and milliseconds that were missing so far. */
const shared = new SharedArrayBuffer(16);
const [beatAt, stalledMs] = [new BigInt64Array(shared, 0, 1), new BigInt64Array(shared, 8, 1)];

const thread = new Worker(
  `const { parentPort, workerData } = require("node:worker_threads");
  const [beatAt, stalledMs] = [new BigInt64Array(workerData, 0, 1), new BigInt64Array(workerData, 8, 1)];
  Atomics.store(beatAt, 0, process.hrtime.bigint());
  setInterval(() => {
    const now = process.hrtime.bigint();
    const late = (now - Atomics.load(beatAt, 0)) / 1000000n - ${BEAT_MS}n;
    if (late > ${STALL_MS}n) Atomics.add(stalledMs, 0, late);
    Atomics.store(beatAt, 0, now);
  }, ${BEAT_MS});
  parentPort.postMessage("beats");`,
  { eval: true, workerData: shared },
);
await new Promise((resolve) => thread.once("message", resolve));
thread.unref();

/** Milliseconds for which the machine stood still, since this file was loaded. */
function stalled(): number {
  const counted = Number(Atomics.load(stalledMs, 0));
  // The machine goes on, and the thread has not had its turn yet.
  const late = Number((process.hrtime.bigint() - Atomics.load(beatAt, 0)) / 1_000_000n) - BEAT_MS;
  return counted + (late > STALL_MS ? late : 0);
}

export type Stopwatch = {
  /** Milliseconds that the machine ran since. */
  ms(): number;
  /** Milliseconds that it stood still since. */
  stalledMs(): number;
};

export function stopwatch(): Stopwatch {
  const [began, before] = [performance.now(), stalled()];
  const stalledMs = () => stalled() - before;
  return { ms: () => performance.now() - began - stalledMs(), stalledMs };
}
