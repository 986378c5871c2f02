/**
 * Text from outside, made fit for a log that people and programs read line by line: no control characters (a new
 * line would forge an entry, an escape would repaint a terminal), nothing that changes the direction of writing.
 */

const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

/** The text with every such character replaced by U+FFFD, cut to `most` characters. */
export function cleanText(text: string, most = 1024): string {
  const clean = text.slice(0, most * 2).replaceAll(unprintable, '\ufffd');
  return clean.length <= most ? clean : `${clean.slice(0, most - 1)}…`;
}
