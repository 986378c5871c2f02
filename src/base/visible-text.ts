/** Text from a file or a variable, made fit for a message: one line, nothing in it that a terminal would obey. */

/** True for what editors of Windows call Unicode: UTF-16 with its mark. */
export function isUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

/** The first `most` characters, with `?` for everything that cannot be seen. */
export function visibleText(text: string, most = 200): string {
  return text.slice(0, most).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
}
