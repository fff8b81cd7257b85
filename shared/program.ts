// Owns what both programs are to their caller: output that arrives whole, complaints of one line, and the exit code.
import { SettingError } from "./config.ts";
import { reason } from "./log.ts";

export type Print = (text: string) => void;

/**
 * Runs a program and ends the process with its exit code: 2 for a setting that `main` threw, 1 for anything else thrown.
 * `print` goes to stdout, `complain` to stderr. What was printed is out before the end: a pipe takes 64 KiB at once, and
 * process.exit drops the rest. A reader that has enough (`| head`) is no failure; output that cannot be written is one.
 */
export async function runProgram(
  name: string,
  main: (print: Print, complain: Print) => Promise<number>,
): Promise<never> {
  const complain: Print = (text) => void process.stderr.write(`${name}: ${text}\n`);
  let written: Promise<Error | null> | null = null;
  const print: Print = (text) => {
    const before = written;
    // Without a listener the stream's error would end the process with a trace.
    if (before === null) process.stdout.on("error", () => {});
    const own = new Promise<Error | null>((resolve) =>
      process.stdout.write(text.endsWith("\n") ? text : `${text}\n`, (error) => resolve(error ?? null)),
    );
    written = before === null ? own : Promise.all([before, own]).then(([first, second]) => first ?? second);
  };
  let code: number;
  try {
    code = await main(print, complain);
  } catch (error) {
    complain(reason(error));
    code = error instanceof SettingError ? 2 : 1;
  }
  const failed = await (written as Promise<Error | null> | null);
  if (failed !== null && (failed as { code?: string }).code !== "EPIPE") {
    complain(`what was printed could not be written: ${reason(failed)}`);
    code ||= 1;
  }
  process.exit(code);
}
