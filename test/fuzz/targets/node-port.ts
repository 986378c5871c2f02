/**
 * Whatever bytes, in frames of gRPC or not, through the node port of a real link by a peer without a certificate: every
 * call ends, none of them well, and the link lives on.
 *
 * An input is the method as one byte, the headers as another, and the body.
 */
import type { IncomingHttpHeaders } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { errorCodes } from '../../../src/base/errors.js';
import { connectHttp2, framed, type RawHttp2 } from '../../harness/raw-link.js';
import { EnrollRequest } from '../../../src/protocol/generated/rollcall/v1/enrollment.js';
import { NodeFrame } from '../../../src/protocol/generated/rollcall/v1/link.js';
import { changeBytes, pick, steps } from '../bytes.js';
import { demand, type Target } from '../fuzzing.js';
import { fixedKey } from './keys.js';

const enroll = '/rollcall.v1.Enrollment/Enroll';
const connectPath = '/rollcall.v1.Link/Connect';
const paths = [
  ...Array.from({ length: 6 }, () => enroll),
  ...Array.from({ length: 3 }, () => connectPath),
  '/rollcall.v1.Control/RegisterNode',
  '/rollcall.v1.Enrollment/enroll',
  '/',
  '/__proto__/constructor',
];

const headers: readonly Readonly<Record<string, string>>[] = [
  ...Array.from({ length: 10 }, () => ({})),
  { 'grpc-encoding': 'gzip' },
  { 'grpc-encoding': 'identity', 'grpc-accept-encoding': 'gzip' },
  { 'grpc-encoding': 'x\u00ff' },
  { 'grpc-timeout': '1n' },
  { 'grpc-timeout': '99999999H' },
  { 'grpc-timeout': 'x\u00ff' },
  { 'content-type': 'application/grpcfoo' },
  { 'content-type': 'text/plain' },
  { ':method': 'GET' },
  { authorization: 'Bearer x', 'x-bin': '!!!' },
];

const { spki } = fixedKey('P-256').publicKey;
const hello = EnrollRequest.encode({
  step: {
    $case: 'hello',
    value: {
      protocolVersions: [1],
      tenant: 'default',
      publicKey: spki,
      bindingType: 'tls-exporter',
      agentVersion: 'fuzz',
      nodeClockMs: 0n,
      trustDomain: 'fuzz.example',
    },
  },
}).finish();
const signature = Buffer.alloc(70, 1);
const proof = EnrollRequest.encode({
  step: {
    $case: 'proof',
    value: { signature, sessionPublicKey: spki, sessionSignature: signature, generation: 0n },
  },
}).finish();
const ready = NodeFrame.encode({
  frame: { $case: 'ready', value: { protocolVersion: 1, agentVersion: 'fuzz', nodeClockMs: 0n, runs: [] } },
}).finish();

const bodies: readonly Buffer[] = [
  framed(hello),
  Buffer.concat([framed(hello), framed(proof)]),
  framed(proof),
  Buffer.concat([framed(hello), framed(hello)]),
  framed(ready),
  framed(Buffer.of()),
  Buffer.concat([Buffer.of(1), framed(hello).subarray(1)]),
];

const inputs = fc
  .tuple(fc.nat(255), fc.nat(255), fc.noBias(fc.nat()), steps, steps, fc.nat(2))
  .map(([path, header, number, outside, inside, mode]) => {
    const body =
      mode === 0
        ? framed(changeBytes(Buffer.from(hello), inside, [Buffer.from(proof)]))
        : pick(bodies, number);
    const changed = changeBytes(body, mode === 1 ? outside : [], bodies);
    return Buffer.concat([Buffer.of(path, header), changed]);
  });

export interface NodePort {
  readonly address: { readonly host: string; readonly port: number };
  readonly ca: string;
}

class Stranger {
  #http2: RawHttp2 | undefined;
  readonly #port: NodePort;

  constructor(port: NodePort) {
    this.#port = port;
  }

  /** A connection the link ended, which it may do to a peer it had to refuse, is followed by another one. */
  async #session() {
    if (this.#http2 && !this.#http2.session.closed && !this.#http2.session.destroyed)
      return this.#http2.session;
    const { address, ca } = this.#port;
    const socket = connectTls({
      host: '127.0.0.1',
      port: address.port,
      ca,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
    });
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    this.#http2 = connectHttp2(socket);
    return this.#http2.session;
  }

  /** How the call ended: by a status, or by the stream or the connection being cut. */
  async call(input: Buffer): Promise<string> {
    const session = await this.#session();
    const stream = session.request({
      ':method': 'POST',
      ':path': pick(paths, input[0] ?? 0),
      'content-type': 'application/grpc',
      te: 'trailers',
      ...pick(headers, input[1] ?? 0),
    });
    return new Promise((resolve, reject) => {
      let outcome = 'cut';
      let answered = false;
      const read = (fields: IncomingHttpHeaders): void => {
        const status = fields['grpc-status'];
        if (status !== undefined) outcome = outcomeOf(status.toString(), fields['rollcall-code']);
      };
      stream.on('response', fields => {
        if (fields[':status'] !== 200) outcome = 'no gRPC';
        read(fields);
      });
      stream.on('trailers', read);
      stream.on('error', () => undefined);
      stream.on('data', () => (answered = true));
      // A Connect that is over before it began ends without a word.
      stream.on('close', () => {
        if (outcome === 'status 0' && answered) reject(new Error('a call of a stranger went well'));
        else resolve(outcome);
      });
      stream.end(input.subarray(2));
    });
  }

  close(): void {
    this.#http2?.destroy();
  }
}

function outcomeOf(status: string, code: unknown): string {
  if (typeof code !== 'string') return `status ${status}`;
  demand(
    errorCodes.some(each => each === code),
    `a code of the closed set, not ${code}`,
  );
  return code;
}

export function nodePortTarget(port: NodePort): Target & { readonly close: () => void } {
  const stranger = new Stranger(port);
  return {
    name: 'node port',
    inputs,
    weight: 10,
    reaches: ['PROTOCOL_INVALID', 'KEY_UNSUPPORTED', 'CERTIFICATE_REFUSED', 'PROOF_REFUSED'],
    check: input => stranger.call(input),
    close: () => stranger.close(),
  };
}
