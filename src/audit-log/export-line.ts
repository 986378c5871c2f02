/**
 * The lines of an exported audit log: a header, the entries in their order, then the checkpoints. Every line is JSON in
 * exactly one spelling, so that nothing can be hidden in a field that no hash covers, or in one that is there twice.
 */
import { encodeCheckpoint, findCheckpoint, type Checkpoint } from './checkpoint.js';
import { encodeEntry, findEntry, isRecord, isSeq, type AuditEntry } from './entry.js';

const exportFormat = 'rollcall audit export';

export interface ExportHeader {
  readonly tenant: string;
  readonly trustDomain: string;
  /** Of the key that signs checkpoints: SubjectPublicKeyInfo PEM. */
  readonly publicKeyPem: string;
  /** The number of the first entry. */
  readonly from: number;
  /** The number of the last entry; one less than `from` when there is none. */
  readonly to: number;
}

export type ExportLine =
  | { readonly type: 'header'; readonly header: ExportHeader }
  | { readonly type: 'entry'; readonly entry: AuditEntry }
  | { readonly type: 'checkpoint'; readonly checkpoint: Checkpoint }
  | DamagedLine;

export interface DamagedLine {
  readonly type: 'damaged';
  /** The reason, such as "not a JSON object". */
  readonly found: string;
  /** The number of the entry, when it can be read. */
  readonly seq: number | undefined;
  /** It looks like a checkpoint rather than an entry. */
  readonly isSigned: boolean;
}

/** The longest line that is read, in UTF-16 code units. The link writes none that is nearly as long. */
export const maxLineLength = 1024 * 1024;

export function encodeHeader({ tenant, trustDomain, publicKeyPem, from, to }: ExportHeader): string {
  return JSON.stringify({ format: exportFormat, version: 1, tenant, trustDomain, publicKeyPem, from, to });
}

/** Stands in for something in the store that cannot be read, so that it is not passed over. */
export function encodeDamaged(bytes: Uint8Array): string {
  return JSON.stringify({ damaged: Buffer.from(bytes).toString('base64') });
}

function findHeader(value: Record<string, unknown>): ExportHeader | undefined {
  const { version, tenant, trustDomain, publicKeyPem, from, to } = value;
  if (version !== 1 || !isSeq(from) || !Number.isSafeInteger(to)) return undefined;
  if (typeof tenant !== 'string' || typeof trustDomain !== 'string' || typeof publicKeyPem !== 'string') {
    return undefined;
  }
  return (to as number) < from - 1
    ? undefined
    : { tenant, trustDomain, publicKeyPem, from, to: to as number };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function damaged(found: string, value: Record<string, unknown> = {}): DamagedLine {
  const { seq } = value;
  return { type: 'damaged', found, seq: isSeq(seq) ? seq : undefined, isSigned: 'signature' in value };
}

/** Reads a line. Never throws. A carriage return at the end is ignored. */
export function parseExportLine(text: string): ExportLine {
  const line = text.endsWith('\r') ? text.slice(0, -1) : text;
  if (line.length > maxLineLength) return damaged('longer than any line the link writes');
  const value = parseJson(line);
  if (!isRecord(value)) return damaged('not a JSON object');
  const parsed = parseRecord(value);
  if (parsed === undefined) return damaged('no line of an audit log', value);
  // One spelling: what a hash or signature does not cover has no place in a line.
  return spell(parsed) === line ? parsed : damaged('not spelled as the link spells it', value);
}

function parseRecord(value: Record<string, unknown>): Exclude<ExportLine, DamagedLine> | undefined {
  if (value['format'] === exportFormat) {
    const header = findHeader(value);
    return header && { type: 'header', header };
  }
  if ('signature' in value) {
    const checkpoint = findCheckpoint(value);
    return checkpoint && { type: 'checkpoint', checkpoint };
  }
  const entry = findEntry(value);
  return entry && { type: 'entry', entry };
}

function spell(line: Exclude<ExportLine, DamagedLine>): string {
  switch (line.type) {
    case 'header':
      return encodeHeader(line.header);
    case 'entry':
      return encodeEntry(line.entry);
    case 'checkpoint':
      return encodeCheckpoint(line.checkpoint);
  }
}
