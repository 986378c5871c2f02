/** Text of an app, made to fit: at most so many bytes of UTF-8, no half characters. */
export function clipText(text: string, mostBytes: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= mostBytes) return bytes.toString('utf8');
  let end = mostBytes - 3;
  // Not in the middle of a character.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString('utf8', 0, end)}…`;
}
