// Owns what `-sysinfo` prints: everything that a report would carry, and what could not be read and why.
import { VERSION } from "../shared/version.ts";
import { bootId } from "./collect/system.ts";
import type { Host } from "./host.ts";
import { collect } from "./report.ts";

/** All sections as one object; needs neither PSK nor network. */
export async function sysinfo(host: Host): Promise<Record<string, unknown>> {
  const [sections, boot] = await Promise.all([collect(host), bootId(host)]);
  const { collectors, ...rest } = sections;
  return { agent_version: VERSION, boot_id: boot, collectors, ...rest };
}
