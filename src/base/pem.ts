/**
 * PEM, the text form of certificates and keys (RFC 7468): writes any block, reads certificates. What the bytes are is
 * for others to judge.
 */
import { RollcallError } from './errors.js';

/** PEM as it comes from environment variables and JSON: `\n` as two characters in place of line ends. */
export const escapedPem = /-----BEGIN [^-]+-----(?:\\r)?\\n/;

export interface PemLayout {
  /** Before the body, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421). */
  readonly headers?: readonly string[];
  /** Characters in a line, 64 by default; OpenSSH writes 70. */
  readonly width?: number;
}

/** One PEM block with a line end after the last line. */
export function toPem(
  body: Uint8Array,
  label = 'CERTIFICATE',
  { headers = [], width = 64 }: PemLayout = {},
): string {
  const base64 = Buffer.from(body).toString('base64');
  const lines = base64.match(new RegExp(`.{1,${width}}`, 'g')) ?? [];
  const head = headers.length > 0 ? [...headers, ''] : [];
  return [`-----BEGIN ${label}-----`, ...head, ...lines, `-----END ${label}-----`, ''].join('\n');
}

/**
 * The DER of every certificate in a PEM text, in order, at least one. Text and other blocks around them are passed
 * over. `what` names the text in errors ("authority certificate ca.crt"); all of them are CONFIG_INVALID.
 */
export function fromPem(text: string, what: string): readonly [Buffer, ...Buffer[]] {
  if (escapedPem.test(text)) {
    throw new RollcallError('CONFIG_INVALID', `the ${what} holds PEM with \\n in place of line ends`, {
      hint: `write real line ends; a file is mended with: printf '%b' "$(cat FILE)" > mended.pem`,
    });
  }
  const blocks = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----([^-]*)(?:-----END \1-----)?/g)];
  const [first, ...rest] = blocks
    .filter(([, label]) => label === 'CERTIFICATE')
    .map(([block, , body = '']) => decodeBody(block, body, what));
  if (first) return [first, ...rest];
  const found = blocks[0] ? `a block "${blocks[0][1] ?? ''}"` : 'no PEM block';
  throw new RollcallError('CONFIG_INVALID', `the ${what} holds ${found}, a certificate is wanted`, {
    hint: /^(?:TRUSTED|X509) CERTIFICATE$/.test(blocks[0]?.[1] ?? '')
      ? 'write it as a plain certificate: openssl x509 -in FILE -out plain.pem'
      : 'a certificate file starts with -----BEGIN CERTIFICATE-----',
  });
}

function decodeBody(block: string, body: string, what: string): Buffer {
  const base64 = body.replaceAll(/\s/g, '');
  const whole = block.endsWith('-----END CERTIFICATE-----');
  const der = Buffer.from(base64, 'base64');
  if (whole && der.length > 0 && der.toString('base64') === base64) return der;
  throw new RollcallError('CONFIG_INVALID', `the ${what} is damaged: a certificate in it does not end well`, {
    hint: 'copy the file again, whole',
  });
}
