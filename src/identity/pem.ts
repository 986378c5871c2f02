/** Finds PEM blocks in a key file (RFC 7468), with legacy headers. It does not know the contents. */
import { toPem } from '../base/pem.js';

export interface PemBlock {
  /** The label after BEGIN: `PUBLIC KEY`. */
  readonly label: string;
  /** Lines before an empty one, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421). */
  readonly headers: readonly string[];
  readonly body: Buffer;
  /** The block as text, armour and headers included. */
  readonly text: string;
}

export interface PemScan {
  readonly blocks: readonly PemBlock[];
  /** Lines outside of every block that are neither empty nor a `#` comment. */
  readonly strayLines: readonly string[];
  /** A block without its END, or with invalid base64. */
  readonly damaged: boolean;
}

/** Finds every block. Never throws. */
export function scanPem(text: string): PemScan {
  const blocks: PemBlock[] = [];
  const strayLines: string[] = [];
  let damaged = false;
  const lines = text.split(/\r?\n|\r/).map(line => line.trim());
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? '';
    const label = /^-----BEGIN ([A-Z0-9# ]+)-----$/.exec(line)?.[1];
    if (label === undefined) {
      if (line !== '' && !line.startsWith('#')) strayLines.push(line);
      continue;
    }
    const end = lines.indexOf(`-----END ${label}-----`, at);
    const block = end === -1 ? undefined : readBlock(label, lines.slice(at + 1, end));
    if (block) blocks.push(block);
    else damaged = true;
    at = end === -1 ? lines.length : end;
  }
  return { blocks, strayLines, damaged };
}

function readBlock(label: string, lines: readonly string[]): PemBlock | undefined {
  const headers = lines.some(line => line.includes(':')) ? lines.slice(0, lines.indexOf('')) : [];
  const base64 = lines.slice(headers.length).join('');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || base64.length % 4 !== 0) return undefined;
  const body = Buffer.from(base64, 'base64');
  return { label, headers, body, text: toPem(body, label, { headers }) };
}
