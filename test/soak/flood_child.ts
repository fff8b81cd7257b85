// Floods a manager with unsigned reports over many connections, as a process of its own:
// `bun test/soak/flood_child.ts PORT SECONDS REQUESTS_A_SECOND`. Prints one JSON line of what came of it.
import { connect } from "node:net";
import { reportData } from "../manager/support.ts";

const [port, seconds, rate] = process.argv.slice(2).map(Number) as [number, number, number];
/** One request under way on each: Bun.serve ends a connection on which a second comes before the first is answered. */
const CONNECTIONS = 200;

// Of a real report's size (6 to 7 kB), so that its MAC costs what a real one's does.
const filler = Array.from({ length: 50 }, (_, i) => ({
  address: `192.168.50.${i}`,
  mac: "02:00:00:00:00:02",
  interface: "eth0",
}));
const data = JSON.stringify(reportData(crypto.randomUUID(), 1, Date.now(), { neighbors: filler }));
const body = JSON.stringify({ v: 1, data, hmac: "0".repeat(64), sig: new Uint8Array(64).toBase64() });
const request = Buffer.from(
  [
    "POST /status/updates HTTP/1.1",
    "Host: localhost",
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "",
    body,
  ].join("\r\n"),
);

let sent = 0;
const answers: Record<string, number> = {};
const startedAt = performance.now();
const elapsed = () => (performance.now() - startedAt) / 1000;

const ended = Array.from({ length: CONNECTIONS }, () => {
  const socket = connect(port, "127.0.0.1");
  let waiting = false;
  const next = () => {
    if (waiting) return;
    if (elapsed() >= seconds) return void socket.end();
    if (sent >= elapsed() * rate) return;
    socket.write(request);
    sent++;
    waiting = true;
  };
  const timer = setInterval(next, 5);
  // A short answer, which comes in one piece.
  socket.on("data", (chunk: Buffer) => {
    const status = chunk.toString("latin1", 9, 12);
    answers[status] = (answers[status] ?? 0) + 1;
    waiting = false;
    next();
  });
  socket.on("error", () => {}); // "close" follows
  return new Promise<void>((resolve) => {
    socket.on("close", () => {
      clearInterval(timer);
      resolve();
    });
    setTimeout(() => socket.destroy(), (seconds + 5) * 1000).unref();
  });
});
await Promise.all(ended);
console.log(JSON.stringify({ sent, seconds: elapsed(), answers, bytes: sent * request.length }));
