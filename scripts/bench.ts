// `bun run bench [name …]`: prints figures beside the limit of the same machine, measured in the same run. Nothing is
// asserted. Without a name: ingest and agent.

const BENCHES: Record<string, () => Promise<void>> = {
  ingest: async () => (await import("../test/bench/ingest.ts")).benchIngest(),
  agent: async () => (await import("../test/bench/agent.ts")).benchAgent(),
  topology: async () => (await import("../test/bench/topology.ts")).benchTopology(),
  storage: async () => (await import("../test/bench/storage.ts")).benchStorage(),
  ui: async () => (await import("../test/bench/ui.ts")).benchUi(),
};
const DEFAULT = ["ingest", "agent"];

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) {
  console.error(`bench: no such figure: ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}`);
  process.exit(2);
}
for (const name of names.length > 0 ? names : DEFAULT) await BENCHES[name]!();
process.exit(0);

export {};
