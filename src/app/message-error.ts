/** Why a message of a run has an error for an answer: a closed set, which apps may decide by. */

/** Each with what it means, for people. */
export const messageErrors = {
  NODE_NOT_FOUND: 'there is no such node in this tenant',
  NODE_REVOKED: 'the node was revoked',
  NODE_OFFLINE: 'the node was offline until the time of the message was over',
  QUEUE_FULL: 'too many messages wait for this node',
  EXPIRED: 'the node did not answer while the time of the message lasted',
  REFUSED_BY_NODE: 'the node does not run this app',
  NO_HANDLER: 'the node half of the app has no handler of this type',
  HANDLER_THREW: 'the handler threw',
  HANDLER_TIMEOUT: 'the handler took longer than the node allows',
  APP_CRASHED: 'the process of the node half ended while it handled the message',
  APP_INVALID: 'the app cannot be run: it does not load, or what it gave cannot travel',
  OBJECT_LOST: 'the content of the message cannot be had any more',
  RUN_OVER: 'the run is over',
  STORE_FULL: 'the disk of the link is full',
} as const;

export type MessageErrorCode = keyof typeof messageErrors;

export function isMessageErrorCode(text: string): text is MessageErrorCode {
  return Object.hasOwn(messageErrors, text);
}
