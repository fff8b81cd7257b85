// `bun run bench [name …]`: prints figures beside the limit of the same machine, measured in the same run. Nothing is
// asserted. Without a name: ingest and agent.
const BENCHES: Record<string, () => Promise<void>> = {
  ingest: async () => (await import("../test/bench/ingest.ts")).benchIngest(),
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in BENCHES));
if (unknown.length > 0) {
  console.error(`bench: no such figure: ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}`);
  process.exit(2);
}
for (const name of names.length > 0 ? names : ["ingest"]) await BENCHES[name]!();

export {};
