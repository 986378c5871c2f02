/** The bench's side of a fleet: starts the process and gives it orders. */
import { startModule, type Program } from '../programs.js';
import type { Workplace } from '../workplace.js';
import type { Answer, OrderName, Orders } from './orders.js';

export type Fleet = {
  readonly [Name in OrderName]: (order: Parameters<Orders[Name]>[0]) => Promise<ReturnType<Orders[Name]>>;
} & { readonly program: Program };

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export function startFleet(place: Workplace): Fleet {
  const program = startModule('fleet/main.ts', ['--max-old-space-size=4096']);
  place.onClose(() => program.stop('SIGKILL'));
  const waiting = new Map<number, Waiting>();
  let orders = 0;
  program.process.on('message', (answer: Answer) => {
    const waits = waiting.get(answer.number);
    waiting.delete(answer.number);
    if ('error' in answer) waits?.reject(new Error(`the fleet: ${answer.error}`));
    else waits?.resolve(answer.value);
  });
  void program.exited.then(() => {
    for (const { reject } of waiting.values()) reject(new Error('the fleet has ended'));
  });
  const give = (name: OrderName, words: unknown): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const number = (orders += 1);
      waiting.set(number, { resolve, reject });
      program.process.send({ number, name, words });
    });
  const names: OrderName[] = [
    'aim',
    'grow',
    'certify',
    'enroll',
    'connect',
    'leave',
    'gone',
    'persist',
    'back',
    'delivered',
  ];
  const methods = Object.fromEntries(names.map(name => [name, (words: unknown) => give(name, words)]));
  return { ...methods, program } as unknown as Fleet;
}
