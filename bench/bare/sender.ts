/**
 * The minimal transport of a server half: the very jobs of bench/apps/grid/server.js, over one stream of a bare
 * server. Nothing is stored or repeated, and a lost reply is awaited for ever.
 */
import { Client, credentials } from '@grpc/grpc-js';
import { encodeContent, type Content } from '../../src/app/content.js';
import type { Grid, GridReply, OutgoingMessage, Replies, ServerMain } from '../../src/app/app.js';
import type { LinkFrame, NodeFrame } from '../../src/protocol/generated/rollcall/v1/link.js';
import { bareDigest, pushMethod, type SenderAnswer, type SenderPlan } from './push.js';

type Deliver = Extract<NonNullable<LinkFrame['frame']>, { $case: 'deliver' }>['value'];

/** Messages of one call that have no reply yet: one for each node of the largest fleet. */
const maxInFlight = 1_000;

const plan = JSON.parse(process.env['BENCH_SENDER'] ?? '{}') as SenderPlan;
const { path, requestSerialize, responseDeserialize } = pushMethod;
const client = new Client(`unix:${plan.socket}`, credentials.createInsecure());
const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
const waiting = new Map<bigint, () => void>();
let last = 0n;

call.on('error', error => end({ error: error.message }));
call.on('data', ({ frame }: NodeFrame) => {
  if (frame?.$case !== 'reply') return;
  waiting.get(frame.value.message)?.();
  waiting.delete(frame.value.message);
});

function ask({ node, type, group = '', content }: OutgoingMessage): Promise<void> {
  const message = (last += 1n);
  const times = { attempt: 1, ttlMs: 3_600_000n, createdAtMs: BigInt(Date.now()) };
  const value = { run: BigInt(node), message, type, group, ...times, body: toBody(content) };
  call.write({ frame: { $case: 'deliver', value } });
  return new Promise(resolve => waiting.set(message, resolve));
}

/** The server makes the objects, from their size alone. */
function toBody({ data, ...small }: Content): Deliver['body'] {
  if (!(data instanceof Uint8Array))
    return { body: { $case: 'content', value: Buffer.concat(encodeContent(small)) } };
  const digest = bareDigest(data.length);
  return { body: { $case: 'object', value: { digest, sizeBytes: BigInt(data.length) } } };
}

async function* askAll(messages: readonly OutgoingMessage[]): AsyncGenerator<GridReply> {
  const left = messages.values();
  const work = async (): Promise<void> => {
    for (const message of left) await ask(message);
  };
  await Promise.all(Array.from({ length: Math.min(maxInFlight, messages.length) }, work));
  for (const { node } of messages) yield { message: 0, node, content: {} };
}

const grid: Pick<Grid, 'nodes' | 'sendAndReceive'> = {
  nodes: () => Promise.resolve(plan.nodes.map(id => ({ id, name: '', labels: {} }))),
  sendAndReceive(messages) {
    const progress = { sent: messages.length, answered: 0, failed: 0 };
    return Object.assign(askAll(messages), { progress }) as Replies;
  },
};

function end(answer: SenderAnswer): void {
  process.send?.(answer, () => process.exit());
}

const half = (await import('../apps/grid/server.js')) as { default: { main: ServerMain } };
const context = { grid, config: plan.config } as Parameters<ServerMain>[0];
Promise.resolve(half.default.main(context)).then(
  result => end({ result }),
  (error: unknown) => end({ error: String(error) }),
);
process.on('disconnect', () => process.exit());
