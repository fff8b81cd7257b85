// Owns what listening takes: the certificate and its key, both address families, and one clear line where it fails.
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { SettingError } from "../shared/config.ts";
import { reason } from "../shared/log.ts";

export type Tls = { cert: string; key: string };

/** Reads and tries the certificate and its key. @throws SettingError that names the file at fault. */
export function readTls(files: { certFile: string; keyFile: string }): Tls {
  const read = (name: string, path: string) => {
    try {
      return readFileSync(path, "utf8");
    } catch (cause) {
      throw new SettingError(name, path, `must name a readable PEM file (${(cause as { code?: string }).code})`);
    }
  };
  const tls = { cert: read("TLS_CERT_FILE", files.certFile), key: read("TLS_KEY_FILE", files.keyFile) };
  try {
    createSecureContext({ cert: tls.cert });
  } catch {
    throw new SettingError("TLS_CERT_FILE", files.certFile, "must hold a certificate in PEM");
  }
  try {
    createSecureContext(tls);
  } catch {
    throw new SettingError("TLS_KEY_FILE", files.keyFile, "must hold the private key, in PEM, of TLS_CERT_FILE");
  }
  return tls;
}

/**
 * Calls `serve` with the address to listen on; `listen` null: all addresses of both families, or of IPv4 where the host has
 * no IPv6.
 * @throws Error of one line that names the setting.
 */
export function listening<T>(listen: string | null, port: number, serve: (hostname: string) => T): T {
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
        throw new Error(`cannot listen on ${place}: another program does: end it, or set MANAGER_PORT`);
      case "EADDRNOTAVAIL":
        throw new Error(`cannot listen on ${place}: this host has no such address: set MANAGER_LISTEN to one it has`);
      case "EACCES":
        throw new Error(`cannot listen on ${place}: not permitted: set MANAGER_PORT to 1024 or higher`);
      default:
        throw new Error(`cannot listen on ${place}: ${reason(cause)}`, { cause });
    }
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}
