/** The state machine of a message: every event in every status. */
import t from 'tap';
import {
  awaitsAnswer,
  nextStatus,
  type MessageEvent,
  type MessageStatus,
} from '../../../../src/link/runs/messages/message-machine.js';

const statuses = ['storing', 'waiting', 'answering', 'answered'] as const;
const events = ['stored', 'answer', 'answer-stored', 'answer-failed', 'turned-away'] as const;

void t.test('every event in every status of a message leads to the status in the table', t => {
  const expected: Readonly<Record<MessageStatus, Partial<Record<MessageEvent, MessageStatus>>>> = {
    // Given up while its question is being stored, or turned away by a disk that takes nothing.
    storing: { stored: 'waiting', answer: 'answering', 'turned-away': 'answered' },
    waiting: { answer: 'answering' },
    answering: { 'answer-stored': 'answered', 'answer-failed': 'waiting' },
    answered: {},
  };
  for (const status of statuses)
    for (const event of events)
      t.equal(nextStatus(status, event), expected[status][event], `${event} while it is ${status}`);
  t.end();
});

void t.test('a message that is given up while it is being stored does not wait afterwards', t => {
  const given = nextStatus('storing', 'answer');
  t.equal(given, 'answering');
  t.equal(given && nextStatus(given, 'stored'), undefined);
  t.end();
});

void t.test('a second answer changes nothing, and may come after one that could not be stored', t => {
  t.equal(nextStatus('answering', 'answer'), undefined);
  t.equal(nextStatus('answered', 'answer'), undefined);
  const failed = nextStatus('answering', 'answer-failed');
  t.equal(failed && nextStatus(failed, 'answer'), 'answering');
  t.end();
});

void t.test('a message awaits an answer until one has arrived', t => {
  t.same(
    statuses.filter(status => awaitsAnswer(status)),
    ['storing', 'waiting'],
  );
  t.end();
});
