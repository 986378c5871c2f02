/**
 * JSON that all readers parse alike: UTF-8 without errors, and no object with a duplicate member (RFC 8259 §4 leaves
 * open which one counts; JSON.parse silently takes the last).
 */

/** Returns the value, or throws a SyntaxError or TypeError. The caller has bounded the length of the text. */
export function parseStrictJson(bytes: Uint8Array): unknown {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  const value: unknown = JSON.parse(text);
  const twice = findRepeatedMember(text);
  if (twice !== undefined) throw new SyntaxError('duplicate member');
  return value;
}

/** Strings and brackets: enough to find members in a text that is known to be JSON. */
const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}]/g;

function findRepeatedMember(json: string): string | undefined {
  const open: Set<string>[] = [];
  for (const [text, colon] of json.matchAll(token)) {
    if (text === '{') open.push(new Set());
    else if (text === '}') open.pop();
    else if (colon !== undefined) {
      // Decoded, since "\u0061lg" is the member "alg".
      const name = JSON.parse(text.slice(0, -colon.length)) as string;
      const names = open.at(-1);
      if (names?.has(name)) return name;
      names?.add(name);
    }
  }
  return undefined;
}

/** An object and not an array, with its own members only, as JSON.parse makes them. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The bytes of canonical base64url (RFC 7515 §2), or undefined. */
export function decodeBase64url(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}
