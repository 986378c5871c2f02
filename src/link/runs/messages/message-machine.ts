/**
 * The state machine of a message, pure: storing → waiting → answering → answered. A question is stored and then waits for
 * its answer, the answer is stored in its place, and the answered message stays as it is until the server half takes it.
 * The first answer counts: none begins while another one is being stored.
 */
export type MessageStatus =
  /** Its question is being stored; nobody has heard that it was accepted. */
  | 'storing'
  /** Its question is on the disk, and goes to its node. */
  | 'waiting'
  /** Its answer is being stored: what the node replied, or the error by which the link gave it up. */
  | 'answering'
  | 'answered';

export type MessageEvent =
  /** The question is on the disk. */
  | 'stored'
  /** An answer came. Until the question is on the disk, only the link itself answers it. */
  | 'answer'
  /** The answer is on the disk. */
  | 'answer-stored'
  /** The answer is not on the disk: another one may come. */
  | 'answer-failed'
  /** The disk takes neither question nor answer: it is answered in memory alone. */
  | 'turned-away';

const table: Readonly<Record<MessageStatus, Readonly<Partial<Record<MessageEvent, MessageStatus>>>>> = {
  storing: { stored: 'waiting', answer: 'answering', 'turned-away': 'answered' },
  waiting: { answer: 'answering' },
  answering: { 'answer-stored': 'answered', 'answer-failed': 'waiting' },
  answered: {},
};

/** Undefined where the event changes nothing. */
export function nextStatus(before: MessageStatus, event: MessageEvent): MessageStatus | undefined {
  return table[before][event];
}

/** Whether it has no answer yet, and none is being stored. */
export function awaitsAnswer(status: MessageStatus): boolean {
  return nextStatus(status, 'answer') !== undefined;
}
