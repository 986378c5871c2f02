/**
 * The state machine of a message, pure: storing → waiting → answering → answered. A question is stored and waits for its answer;
 * the answer is stored in the place of the question and stays until the server half takes it. The first answer counts: no other
 * one is stored at the same time or later.
 */
export type MessageStatus =
  /** Its question is being stored and not accepted yet. */
  | 'storing'
  /** Its question is on the disk and is delivered to its node. */
  | 'waiting'
  /** Its answer is being stored: the reply of the node, or the error with which the link gave the message up. */
  | 'answering'
  | 'answered';

export type MessageEvent =
  /** The question is on the disk. */
  | 'stored'
  /** An answer has arrived. Until the question is on the disk, only the link answers it. */
  | 'answer'
  /** The answer is on the disk. */
  | 'answer-stored'
  /** The answer could not be stored: another one may be. */
  | 'answer-failed'
  /** Neither question nor answer can be stored: it is answered in memory only. */
  | 'turned-away';

const table: Readonly<Record<MessageStatus, Readonly<Partial<Record<MessageEvent, MessageStatus>>>>> = {
  storing: { stored: 'waiting', answer: 'answering', 'turned-away': 'answered' },
  waiting: { answer: 'answering' },
  answering: { 'answer-stored': 'answered', 'answer-failed': 'waiting' },
  answered: {},
};

/** Undefined if the event changes nothing. */
export function nextStatus(before: MessageStatus, event: MessageEvent): MessageStatus | undefined {
  return table[before][event];
}

/** Whether an answer would be accepted. */
export function awaitsAnswer(status: MessageStatus): boolean {
  return nextStatus(status, 'answer') !== undefined;
}
