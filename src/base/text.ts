/**
 * Text from elsewhere (a file, a variable, a peer, an app), made fit for where it goes. What may not pass differs by place:
 *
 * - `visibleText`: a message, an error or a line of the text log. One line; `?` shows that something stood there.
 * - `withoutControls`: a whole line of our own that quotes others, printed by a program that cannot go on.
 * - `cleanText`: what is stored and read later: the audit log, the history of a node, the log of a run. U+FFFD for what
 *   could forge an entry, repaint a terminal or turn the direction of writing.
 * - `plainText`: a cell of a table. White space becomes one space, and what has no width of its own is left out.
 * - `plainLine`: a line of an app's log, whose spaces mean something.
 * - `clipToBytes`: a text that must fit a field of a message.
 */

/** One line of at most so many characters, with `?` for everything that cannot be seen. */
export function visibleText(text: string, max = 200): string {
  return text.slice(0, max).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
}

/** The whole text, with `?` for control characters. */
export function withoutControls(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}

/** At most so many characters, with U+FFFD for control, formatting, private and unassigned characters. */
export function cleanText(text: string, max = 1024): string {
  const clean = text.slice(0, max * 2).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '\ufffd');
  return clean.length <= max ? clean : `${clean.slice(0, max - 1)}…`;
}

/** One line without control, formatting or private characters; runs of white space become one space. */
export function plainText(text: string): string {
  return text
    .replaceAll(/\s+/gu, ' ')
    .replaceAll(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, '')
    .trim();
}

/** The same with its spaces as they are; a tab becomes four. */
export function plainLine(line: string): string {
  return line
    .replaceAll('\t', '    ')
    .replaceAll(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, '')
    .trimEnd();
}

/** At most so many bytes of UTF-8, with `…` where something was cut off; no half characters. */
export function clipToBytes(text: string, maxBytes: number): string {
  // No text beyond that fits, however long it is.
  const bytes = Buffer.from(text.slice(0, maxBytes + 1), 'utf8');
  if (bytes.length <= maxBytes) return bytes.toString('utf8');
  let end = maxBytes - 3;
  // Not in the middle of a character.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString('utf8', 0, end)}…`;
}

/** Whether it begins with the mark of UTF-16, which editors of Windows call Unicode. */
export function isUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}
