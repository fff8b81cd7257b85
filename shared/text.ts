// Owns what of a stranger's words is not shown but obeyed: a terminal, a viewer, a drawing or a message would move, turn,
// break or hide by it what stands beside it. Pure.

/** Controls (C0, C1), marks of direction and invisible letters, separators of lines and paragraphs. */
const OBEYED = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** `text` with each of them replaced: one line that only shows. */
export function shownText(text: string, replace: string | ((character: string) => string) = "\ufffd"): string {
  return text.replace(OBEYED, typeof replace === "string" ? () => replace : replace);
}
