/** Looks for secret bytes in output: answers, logs, error texts. */
import type { Test } from 'tap';

/** The ways in which a program may come to write bytes down. */
function spellings(secret: Uint8Array): string[] {
  const bytes = Buffer.from(secret);
  // The base64 of a longer text depends on the offset of the secret in it.
  const base64 = [0, 1, 2].map(skip => bytes.subarray(skip, bytes.length - ((bytes.length - skip) % 3)));
  return [
    bytes.toString('hex'),
    bytes.toString('latin1'),
    ...base64.map(each => each.toString('base64')),
    ...base64.map(each => each.toString('base64url')),
    [...bytes].join(','),
  ];
}

/** Passes when none of the secrets, at least 16 bytes each, is anywhere in the texts. */
export function nothingSecretIn(
  t: Pick<Test, 'equal'>,
  texts: readonly string[],
  secrets: readonly Uint8Array[],
  message: string,
): void {
  const all = texts.join('\n');
  const folded = all.toLowerCase();
  const found = secrets
    .filter(secret => secret.length >= 16)
    .flatMap(spellings)
    .filter(each => all.includes(each) || (/^[0-9a-f]+$/.test(each) && folded.includes(each)));
  t.equal(found.length, 0, message);
}
