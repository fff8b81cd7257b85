// Owns resolvers that swallow every question.
import { createSocket } from "node:dgram";

/** Four of them on loopback ports of their own, as DNS_SERVERS names them. Each is asked for 4 s before the next. */
export async function silentResolvers(): Promise<{ servers: string } & Disposable> {
  const sockets = Array.from({ length: 4 }, () => createSocket("udp4"));
  for (const socket of sockets) await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return {
    servers: sockets.map((socket) => `127.0.0.1:${socket.address().port}`).join(),
    [Symbol.dispose]: () => {
      for (const socket of sockets) socket.close();
    },
  };
}
