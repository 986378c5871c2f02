/** The audit log of the tenant of who asks, as the link gives it over HTTP. */
import type { Checkpoint } from '../audit-log/checkpoint.js';
import type { AuditEntry } from '../audit-log/entry.js';
import { createAsk, openLines } from './control-http.js';
import type { HttpTarget } from './http-target.js';
import { withToken, type TokenSource } from './tokens.js';

export type { Checkpoint } from '../audit-log/checkpoint.js';
export type { AuditEntry } from '../audit-log/entry.js';
export type { Party } from '../audit-log/party.js';

/** Which entries are meant; what is left out is not asked about. */
export interface AuditFilter {
  readonly newestFirst?: boolean;
  /** Such as `node.` or `node.revoked`. */
  readonly typePrefix?: string | undefined;
  readonly subject?: string | undefined;
  /** A name, an id, or `user:alice`. */
  readonly by?: string | undefined;
  /** Not before this moment, milliseconds since 1970. */
  readonly since?: number | undefined;
  /** Before this moment, milliseconds since 1970. */
  readonly until?: number | undefined;
}

export interface AuditQuery extends AuditFilter {
  /** At most so many entries, 1 to 1000. */
  readonly limit: number;
  /** `next` of the page before. */
  readonly from?: number | undefined;
}

export interface AuditPage {
  readonly entries: readonly AuditEntry[];
  /** Numbers of entries that the link cannot read. */
  readonly damaged: readonly number[];
  /** Undefined at the end; a page may be empty and not the last. */
  readonly next?: number | undefined;
}

export interface AuditSource {
  listEvents(query: AuditQuery): Promise<AuditPage>;
  /** The whole log as src/audit-log/export-line.ts has it, without line ends. */
  exportLines(): AsyncIterable<string>;
  /** Of the newest entry, made for this question when there is none. */
  latestCheckpoint(): Promise<Checkpoint>;
}

export function openAudit(target: HttpTarget, tokens: TokenSource): AuditSource {
  const ask = createAsk(target, tokens);
  return {
    listEvents: query => ask('GET', `/v1/audit/events?${toParameters(query)}`),
    async *exportLines() {
      const question = { method: 'GET', path: '/v1/audit/export' } as const;
      yield* await withToken(tokens, token => openLines(target, { ...question, token }));
    },
    latestCheckpoint: () => ask('POST', '/v1/audit/checkpoint'),
  };
}

function toParameters(query: AuditQuery): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) parameters.set(name, `${value}`);
  return parameters.toString();
}
