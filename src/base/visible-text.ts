/** Text from a file or a variable, made fit for a message: one line, nothing in it that a terminal would obey. */

/** The first `most` characters, with `?` for everything that cannot be seen. */
export function visibleText(text: string, most = 200): string {
  return text.slice(0, most).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
}
