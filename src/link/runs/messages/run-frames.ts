/** The frames about a run that a node is sent. Pure. */
import type { LinkFrame } from '../../../protocol/generated/rollcall/v1/link.js';
import type { RunRecord } from '../run-record.js';
import type { Content, Question } from './message-record.js';

type Value<Case extends string> = Extract<
  NonNullable<LinkFrame['frame']>,
  { $case: Case; value: unknown }
>['value'];
export type Assign = Value<'assign'>;
export type Deliver = Value<'deliver'>;

/** Sent to a node before its first message of the run. */
export function assignOf({ id, app, config }: Pick<RunRecord, 'id' | 'app' | 'config'>): Assign {
  return {
    run: id,
    appName: app.name,
    appVersion: app.version,
    appDigest: Buffer.from(app.digest, 'hex'),
    signer: Buffer.from(app.signer, 'base64'),
    signature: Buffer.from(app.signature, 'base64'),
    archive: toObject(app.archive),
    configJson: JSON.stringify(config),
  };
}

export interface Delivery {
  readonly run: bigint;
  readonly question: Question;
  readonly content: Content;
  /** From 1. */
  readonly attempt: number;
  readonly now: number;
}

export function deliverOf({ run, question, content, attempt, now }: Delivery): Deliver {
  const { number, type, group, createdAt, expiresAt } = question;
  return {
    ...{ run, message: BigInt(number), type, group, attempt },
    ttlMs: BigInt(Math.max(1, Math.round(expiresAt - now))),
    createdAtMs: BigInt(createdAt),
    body: {
      body:
        'object' in content
          ? { $case: 'object', value: toObject(content.object) }
          : { $case: 'content', value: content.bytes },
    },
  };
}

function toObject({ digest, sizeBytes }: { readonly digest: string; readonly sizeBytes: number }) {
  return { digest: Buffer.from(digest, 'hex'), sizeBytes: BigInt(sizeBytes) };
}
