// Owns the version that both programs report: package.json's, in source and in the compiled binary.
import manifest from "../package.json" with { type: "json" };

export const VERSION: string = manifest.version;
