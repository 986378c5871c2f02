/**
 * Sends arbitrary bytes, in frames or not, through the node port of a real link by a peer without a certificate: every
 * connection ends, with an error frame or cut, no one gets a certificate or a session, and the link lives on.
 */
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { errorCodes } from '../../../src/base/errors.js';
import { NodeFrame } from '../../../src/protocol/generated/rollcall/v1/link.js';
import { wireProtocol } from '../../../src/protocol/limits.js';
import { framed, helloBytes, proofBytes, RawFrames, readyBytes } from '../../harness/raw-frames.js';
import { changeBytes, pick, steps } from '../bytes.js';
import { demand, type Target } from '../fuzzing.js';
import { fixedKey } from './keys.js';

const { spki } = fixedKey('P-256').publicKey;
const hello = helloBytes(fixedKey('P-256'), { nodeClockMs: 0n, trustDomain: 'fuzz.example' });
const signature = Buffer.alloc(70, 1);
const proof = proofBytes({ signature, sessionPublicKey: spki, sessionSignature: signature, generation: 0n });
const others = (
  [
    { $case: 'openObjects', value: { protocolVersion: 1 } },
    { $case: 'leave', value: {} },
    { $case: 'endTransfer', value: { transfer: 1 } },
    { $case: 'pong', value: { sequence: 1n } },
  ] as const
).map(frame => framed(NodeFrame.encode({ frame }).finish()));

const bodies: readonly Buffer[] = [
  framed(hello),
  Buffer.concat([framed(hello), framed(proof)]),
  framed(proof),
  Buffer.concat([framed(hello), framed(hello)]),
  framed(readyBytes()),
  framed(Buffer.of()),
  ...others,
];

const inputs = fc
  .tuple(fc.noBias(fc.nat()), steps, steps, fc.nat(2))
  .map(([number, outside, inside, mode]) => {
    const body =
      mode === 0
        ? framed(changeBytes(Buffer.from(hello), inside, [Buffer.from(proof)]))
        : pick(bodies, number);
    return changeBytes(body, mode === 1 ? outside : [], bodies);
  });

export interface NodePort {
  readonly address: { readonly host: string; readonly port: number };
  readonly ca: string;
}

/** How the connection ended: by a code, or by being cut. */
async function play({ address, ca }: NodePort, input: Buffer): Promise<string> {
  const socket = connectTls({
    host: '127.0.0.1',
    port: address.port,
    ca,
    servername: 'localhost',
    ALPNProtocols: [wireProtocol],
  });
  await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  const peer = new RawFrames(socket);
  peer.write(input);
  // The link would wait for the rest of an incomplete frame.
  socket.end();
  const { code } = await peer.ended;
  for (const frame of peer.heard)
    demand(frame.$case === 'challenge' || frame.$case === 'error', `a ${frame.$case} for a stranger`);
  peer.destroy();
  if (code === '') return 'cut';
  demand(
    errorCodes.some(each => each === code),
    `a code of the closed set, not ${code}`,
  );
  return code;
}

export function nodePortTarget(port: NodePort): Target & { readonly close: () => void } {
  return {
    name: 'node port',
    inputs,
    weight: 10,
    reaches: ['PROTOCOL_INVALID', 'KEY_UNSUPPORTED', 'CERTIFICATE_REFUSED', 'PROOF_REFUSED'],
    check: input => play(port, input),
    close: () => undefined,
  };
}
