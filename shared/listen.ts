// Owns where a program listens: both address families, and one clear line where it cannot. The socket is the caller's. Pure.
import { reason } from "./log.ts";

/**
 * Calls `serve` with the address to listen on; `listen` null: all addresses of both families, or of IPv4 where the host has
 * no IPv6.
 * @throws Error of one line that names the setting.
 */
export function listening<T>(
  program: "AGENT" | "MANAGER",
  listen: string | null,
  port: number,
  serve: (hostname: string) => T,
): T {
  try {
    if (listen !== null) return serve(listen);
    try {
      return serve("::");
    } catch (error) {
      if (codeOf(error) === "EADDRINUSE") throw error;
      return serve("0.0.0.0");
    }
  } catch (cause) {
    const place = `${listen ?? "all addresses"}, port ${port}`;
    switch (codeOf(cause)) {
      case "EADDRINUSE":
        throw new Error(`cannot listen on ${place}: another program does: end it, or set ${program}_PORT`);
      case "EADDRNOTAVAIL":
        throw new Error(
          `cannot listen on ${place}: this host has no such address: set ${program}_LISTEN to one it has`,
        );
      case "EACCES":
        throw new Error(`cannot listen on ${place}: not permitted: set ${program}_PORT to 1024 or higher`);
      default:
        throw new Error(`cannot listen on ${place}: ${reason(cause)}`, { cause });
    }
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}
