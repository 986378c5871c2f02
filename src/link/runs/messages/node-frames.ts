/**
 * Frames of nodes about runs, and the objects that nodes may read and write. Replies and log lines are on the disk before they
 * are acknowledged. A node can answer only its own messages. A frame about a run that is over and one about a run of other
 * nodes get the same cancellation, which does not reveal whether the run exists.
 */
import { isMessageErrorCode, type MessageErrorCode } from '../../../app/message-error.js';
import { appLimits } from '../../../app/limits.js';
import { nodeParty } from '../../../audit-log/party.js';
import { RollcallError } from '../../../base/errors.js';
import type { Clock } from '../../../base/clock.js';
import type { Log } from '../../../base/log.js';
import type { LinkFrame, NodeFrame, Ready } from '../../../protocol/generated/rollcall/v1/link.js';
import type { Alerts } from '../../access/alerts.js';
import type { ObjectBucket } from '../../../objects/object-store.js';
import type { RefusalCounter } from '../../audit/refusals.js';
import type { Session } from '../../sessions/session.js';
import { NodeLogs, requireLines } from './node-logs.js';
import type { NodeQueues } from './node-queues.js';
import type { Answer } from './message-record.js';
import type { NodeObjects, ReadableObject, ReadingNode } from './node-objects.js';
import type { OpenRun } from '../open-run.js';
import { appParty, serverParty } from '../run-buckets.js';
import { cleanText } from '../../../base/text.js';

type ValueOf<Case extends string> = Extract<
  NonNullable<NodeFrame['frame']>,
  { $case: Case; value: unknown }
>['value'];

export interface NodeFramesOptions {
  readonly queues: NodeQueues;
  /** The open runs. */
  readonly runs: ReadonlyMap<bigint, OpenRun>;
  readonly refusals: RefusalCounter;
  readonly alerts: Pick<Alerts, 'raise'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly onAnswered: (outcome: 'content' | MessageErrorCode) => void;
}

export const maxKnownRuns = 1_000;
/** More frames at once would look like a node that does not read, whose session is ended. */
const maxCancelsAtOnce = 100;
const cancelPauseMs = 100;
export class NodeFrames implements NodeObjects {
  readonly #options: NodeFramesOptions;
  readonly #logs = new NodeLogs();

  constructor(options: NodeFramesOptions) {
    this.#options = options;
  }

  /** Delivers to a new session the messages that wait for its node, and cancels the runs that the node knows and that are over. */
  attach(session: Session, { runs }: Ready): void {
    this.#options.queues.attach(session);
    const known = runs.slice(0, maxKnownRuns);
    this.#cancelAll(
      session,
      known.filter(id => !this.#runOf(session, id)),
    );
  }

  detach(session: Session): void {
    this.#options.queues.detach(session);
  }

  /** Throws PROTOCOL_INVALID for a frame that is not about runs. */
  receive(session: Session, { frame }: NodeFrame): void {
    switch (frame?.$case) {
      case 'reply':
        this.#record(session, this.#takeReply(session, frame.value));
        return;
      case 'log':
        requireLines(frame.value);
        this.#record(session, this.#takeLog(session, frame.value));
        return;
      case 'progress':
        this.#takeProgress(session, frame.value);
        return;
      default:
        throw new RollcallError('PROTOCOL_INVALID', `unexpected frame "${frame?.$case ?? 'empty'}"`);
    }
  }

  async read(node: ReadingNode, id: bigint, digest: string): Promise<ReadableObject> {
    const run = this.#ownRunOf(node, id);
    const bucket = run && readableBucket(run, node.nodeId, digest);
    const manifest = await bucket?.find(digest);
    if (!bucket || !manifest) throw noObject();
    return { manifest, bucket };
  }

  write(node: ReadingNode, id: bigint): Promise<ObjectBucket> {
    const run = this.#ownRunOf(node, id);
    return run ? Promise.resolve(run.buckets.of(`${node.nodeId}`)) : Promise.reject(noObject());
  }

  #runOf({ tenant }: { readonly tenant: string }, id: bigint): OpenRun | undefined {
    const run = this.#options.runs.get(id);
    return run?.tenant === tenant ? run : undefined;
  }

  /** The run, if messages to this node were stored in it. */
  #ownRunOf(node: ReadingNode, id: bigint): OpenRun | undefined {
    const run = this.#runOf(node, id);
    return run?.messages.nodes.has(node.nodeId) ? run : undefined;
  }

  #cancelAll(session: Session, runs: readonly bigint[]): void {
    if (session.ended !== undefined) return;
    for (const id of runs.slice(0, maxCancelsAtOnce)) cancelRun(session, id);
    const rest = runs.slice(maxCancelsAtOnce);
    if (rest.length > 0) this.#options.clock.after(cancelPauseMs, () => this.#cancelAll(session, rest));
  }

  #record({ nodeId }: Session, work: Promise<void>): void {
    const { log } = this.#options;
    work.catch((error: unknown) =>
      log.error({ err: error, nodeId: `${nodeId}` }, 'could not store a reply or log lines of a node'),
    );
  }

  async #takeReply(session: Session, reply: ValueOf<'reply'>): Promise<void> {
    const { run: id, message } = reply;
    const run = this.#runOf(session, id);
    if (!run) {
      cancelRun(session, id);
      return;
    }
    const number = Number(message);
    const entry = run.messages.find(number);
    if (entry && entry.question.node !== session.nodeId) this.#refuse(session, 'NOT_ALLOWED', reply);
    else if (entry && entry.status !== 'storing') await this.#answer(run, session, number, reply);
    else if (entry || !run.messages.wasSent(number)) this.#refuse(session, 'NOT_FOUND', reply);
    send(session, { $case: 'acknowledge', value: { run: id, message } });
  }

  #refuse({ nodeId, tenant, peer }: Session, reason: string, reply: ValueOf<'reply'>): void {
    const { alerts, refusals } = this.#options;
    const about = { run: `${reply.run}`, message: `${reply.message}`, nodeId: `${nodeId}`, reason };
    alerts.raise('security.reply-refused', about);
    refusals.count(peer.remoteAddress, reason, { tenant, ...nodeParty({ id: nodeId, name: '' }) });
  }

  async #answer(run: OpenRun, { nodeId }: Session, number: number, reply: ValueOf<'reply'>): Promise<void> {
    const answer = await toAnswer(run, nodeId, reply);
    const isFirst = run.messages.find(number)?.status === 'waiting';
    await run.messages.answer(number, answer);
    if (isFirst) this.#options.onAnswered('error' in answer ? answer.error.code : 'content');
  }

  async #takeLog(session: Session, frame: ValueOf<'log'>): Promise<void> {
    const { run: id } = frame;
    const run = this.#ownRunOf(session, id);
    if (!run) {
      cancelRun(session, id);
      return;
    }
    const sequence = await this.#logs.store(run.log, session, frame);
    if (sequence !== undefined) send(session, { $case: 'logTaken', value: { run: id, sequence } });
  }

  #takeProgress(session: Session, { run: id, message, fraction, note }: ValueOf<'progress'>): void {
    const run = this.#runOf(session, id);
    const number = Number(message);
    if (run?.messages.find(number)?.question.node !== session.nodeId || !Number.isFinite(fraction)) return;
    run.progress(number, session.nodeId, Math.min(Math.max(fraction, 0), 1), cleanText(note, 200));
  }
}

function send(session: Session, frame: NonNullable<LinkFrame['frame']>): void {
  session.peer.send({ frame });
}

function cancelRun(session: Session, run: bigint): void {
  send(session, { $case: 'cancel', value: { run, message: 0n } });
}

/** The bucket of the app's archive, or of the content of an unanswered message to this node. */
function readableBucket(run: OpenRun, node: bigint, digest: string) {
  if (digest === run.archiveDigest) return run.buckets.of(appParty);
  return run.messages.speaksOf(digest, { questionsTo: node }) === undefined
    ? undefined
    : run.buckets.of(serverParty);
}

async function toAnswer(run: OpenRun, node: bigint, { outcome }: ValueOf<'reply'>): Promise<Answer> {
  if (outcome?.$case === 'error') {
    const { code, message } = outcome.value;
    const known = isMessageErrorCode(code) ? code : 'HANDLER_THREW';
    return { error: { code: known, message: cleanText(message, appLimits.maxFailureBytes) } };
  }
  const body = outcome?.value.body;
  if (body?.$case === 'content') return { bytes: Buffer.from(body.value) };
  const digest = body ? Buffer.from(body.value.digest).toString('hex') : '';
  const manifest = /^[0-9a-f]{64}$/.test(digest) ? await run.buckets.of(`${node}`).find(digest) : undefined;
  return manifest
    ? { object: { digest, sizeBytes: manifest.sizeBytes } }
    : { error: { code: 'OBJECT_LOST', message: 'the object of the answer is missing' } };
}

/** The same error whether the object is missing or not this node's. */
function noObject(): RollcallError {
  return new RollcallError('NOT_FOUND', 'there is no such object for this node');
}
