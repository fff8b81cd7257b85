// Opens and closes the database named on the command line, and says how that went. For tests that need a process.
import { openStore } from "../../manager/store/sqlite.ts";
import { StoreError } from "../../manager/store/store.ts";
import { createLog } from "../../shared/log.ts";

try {
  await (await openStore(process.argv[2]!, { log: createLog("error") })).close();
  console.log("opened");
} catch (error) {
  if (!(error instanceof StoreError)) throw error;
  console.log(`${error.fault}: ${error.message}`);
}
