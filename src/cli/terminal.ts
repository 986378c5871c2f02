/**
 * Output on a terminal: whether there is one, colours, and text from elsewhere made harmless. Labels,
 * reasons and messages come from other people; nothing of theirs may move the cursor or change a colour.
 */

/** A stream that may be a terminal; process.stdout and process.stderr are. */
export type Output = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  /** Of a terminal, how wide and how high it is; 0 where that is not known. */
  readonly columns?: number;
  readonly rows?: number;
};

export type Environment = Readonly<Record<string, string | undefined>>;

/** True when a person looks at it: a terminal that can do more than print lines. */
export function isTerminal(output: Output, environment: Environment): boolean {
  return output.isTTY === true && environment['TERM'] !== 'dumb';
}

const shades = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const;
export type Shade = keyof typeof shades;

/** Colours a text, or gives it back as it is. */
export type Paint = (shade: Shade | undefined, text: string) => string;

export const noPaint: Paint = (_shade, text) => text;

const ansiPaint: Paint = (shade, text) =>
  shade === undefined || text === '' ? text : `\x1b[${shades[shade]}m${text}\x1b[0m`;

/** Colours only on a terminal, and never when NO_COLOR is set and not empty (no-color.org). */
export function paintFor(output: Output, environment: Environment): Paint {
  const unwanted = (environment['NO_COLOR'] ?? '') !== '';
  return isTerminal(output, environment) && !unwanted ? ansiPaint : noPaint;
}

const wideRanges: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0xa4cf],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1f300, 0x1faff],
  [0x20000, 0x3fffd],
];

function characterWidth(character: string): number {
  if (/^[\p{M}\p{Cf}\p{Cc}]$/u.test(character)) return 0;
  if (/^\p{Emoji_Presentation}$/u.test(character)) return 2;
  const point = character.codePointAt(0) ?? 0;
  return wideRanges.some(([first, last]) => point >= first && point <= last) ? 2 : 1;
}

/** Columns a text takes on a terminal: East Asian wide characters and emoji two, combining marks none. */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text) width += characterWidth(character);
  return width;
}

/** The text, or as much of its beginning as fits with `…` after it. */
export function clipText(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let clipped = '';
  let left = width - 1;
  for (const character of text) {
    left -= characterWidth(character);
    if (left < 0) break;
    clipped += character;
  }
  return `${clipped.trimEnd()}…`;
}
