/** An Enroll stream of bytes, for messages that no encoder would write, and with everything that comes back. */
import type { IncomingHttpHeaders } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { exporterBytes, exporterLabel } from '../../src/identity/binding.js';
import type { PrivateKey } from '../../src/identity/private-key.js';
import { defaultTenant } from '../../src/protocol/limits.js';
import {
  EnrollRequest,
  EnrollResponse,
  type Challenge,
  type Hello,
  type Proof,
} from '../../src/protocol/generated/rollcall/v1/enrollment.js';
import { framed, type RawHttp2 } from './raw-link.js';

export interface Ended {
  /** Of the trailer `rollcall-code`; empty when there is none. */
  readonly code: string;
  readonly grpc: string;
  /** Every header and trailer that came but the date, in order, as text. */
  readonly heard: string;
}

export interface EnrollByHand {
  /** Sends the messages in one write. */
  send(...messages: readonly Uint8Array[]): void;
  /** The next message of the link; rejects when the stream ends without. */
  next(): Promise<EnrollResponse>;
  challenge(): Promise<Challenge>;
  readonly ended: Promise<Ended>;
  /** Takes the stream back (RST_STREAM). */
  cancel(): void;
}

export function enrollByHand(
  { session }: Pick<RawHttp2, 'session'>,
  headers: Record<string, string> = {},
): EnrollByHand {
  const stream = session.request({
    ':method': 'POST',
    ':path': '/rollcall.v1.Enrollment/Enroll',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  stream.on('error', () => undefined);
  const heard: IncomingHttpHeaders[] = [];
  let finish = (): void => undefined;
  const over = new Promise<void>(resolve => (finish = resolve));
  stream.on('close', () => finish());
  // The date is Node.js's own, and of one length always.
  const hear = (fields: IncomingHttpHeaders): void => {
    heard.push({ ...fields, date: undefined });
    // The status is the last thing that is said; the stream itself may stay half open for a while.
    if (fields['grpc-status'] !== undefined) finish();
  };
  stream.on('response', hear);
  stream.on('trailers', hear);
  const messages: EnrollResponse[] = [];
  let rest = Buffer.alloc(0);
  let wake = (): void => undefined;
  stream.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
      const length = 5 + rest.readUInt32BE(1);
      messages.push(EnrollResponse.decode(rest.subarray(5, length)));
      rest = rest.subarray(length);
    }
    wake();
  });
  let isOver = false;
  const ended = over.then(() => {
    isOver = true;
    wake();
    const all = Object.assign({}, ...heard) as IncomingHttpHeaders;
    const text = (name: string): string => all[name]?.toString() ?? '';
    return { code: text('rollcall-code'), grpc: text('grpc-status'), heard: JSON.stringify(heard) };
  });

  async function next(): Promise<EnrollResponse> {
    for (;;) {
      const message = messages.shift();
      if (message) return message;
      if (isOver) throw new Error(`the stream ended: ${(await ended).heard}`);
      await new Promise<void>(resolve => (wake = resolve));
    }
  }

  return {
    send: (...each) => void stream.write(Buffer.concat(each.map(framed))),
    next,
    async challenge() {
      const { step } = await next();
      if (step?.$case !== 'challenge') throw new Error('no challenge');
      return step.value;
    },
    ended,
    // Between two reads of the session: within one, node:http2 enters its parser again and spoils the heap.
    cancel: () => void setImmediate(() => stream.close(8)),
  };
}

export function helloBytes(key: PrivateKey, changes: Partial<Hello> = {}): Uint8Array {
  const value: Hello = {
    protocolVersions: [1],
    tenant: defaultTenant,
    publicKey: key.publicKey.spki,
    bindingType: 'tls-exporter',
    agentVersion: 'raw',
    nodeClockMs: BigInt(Date.now()),
    trustDomain: '',
    ...changes,
  };
  return EnrollRequest.encode({ step: { $case: 'hello', value } }).finish();
}

export function proofBytes(value: Proof): Uint8Array {
  return EnrollRequest.encode({ step: { $case: 'proof', value } }).finish();
}

/** What ties a proof to this connection. */
export function exporterOf(tls: TLSSocket): Buffer {
  return tls.exportKeyingMaterial(exporterBytes, exporterLabel, Buffer.alloc(0));
}
