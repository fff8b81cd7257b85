// Owns the certificate and its key: read, tried, and one clear line where they fail.
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { SettingError } from "../shared/config.ts";

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
