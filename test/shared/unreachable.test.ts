// Why a connection came to no answer, by real connections that fail: what an operator reads names the fault, and gives
// no advice to a programmer.
import { expect, test } from "bun:test";
import { unreachable } from "../../shared/unreachable.ts";

/** What is said of a fetch to a listener that does `data` with what it gets. */
async function failing(scheme: string, data: (socket: { end(): void; write(text: string): number }) => void) {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data } });
  try {
    await fetch(`${scheme}://127.0.0.1:${listener.port}/`);
    throw new Error("it answered");
  } catch (error) {
    return unreachable(error);
  } finally {
    listener.stop(true);
  }
}

test("closed without an answer; no TLS where https is asked; a port where nobody listens", async () => {
  expect(await failing("http", (socket) => socket.end())).toStartWith("ECONNRESET: the connection was closed without");
  expect(await failing("https", (socket) => void socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"))).toStartWith(
    "EPROTO: no TLS handshake",
  );
  const gone = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  gone.stop(true);
  await fetch(`http://127.0.0.1:${gone.port}/`).then(
    () => expect.unreachable(),
    (error: unknown) => expect(unreachable(error)).toStartWith("ECONNREFUSED: connection refused"),
  );
});

test("what has no words of ours keeps its own, with its causes, on one line", () => {
  expect(unreachable(new Error("a\nb", { cause: new Error("c") }))).toBe("a b: c");
  expect(unreachable(Object.assign(new Error("own"), { code: "constructor" }))).toBe("own");
  expect(unreachable(null)).toBe("");
});
