/** Whatever a party can make the link hold is bounded for that party, and a party that nobody knows is a network. */
import t from 'tap';
import type { Clock } from '../../../src/base/clock.js';
import { RollcallError } from '../../../src/base/errors.js';
import { networkOf } from '../../../src/base/network.js';
import type { User } from '../../../src/link/access/users.js';
import { rates } from '../../../src/link/doors/access-table.js';
import { createDoorkeeper } from '../../../src/link/doors/doorkeeper.js';
import type { Connection } from '../../../src/link/doors/tls/connection.js';
import { createCrowd } from '../../../src/link/doors/tls/crowd.js';
import { createPlaces, type Place } from '../../../src/link/enrollment/places.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { asLoggedIn, untoldRefusals } from '../../harness/operator.js';

/** The n-th address of one customer, who has 2^64 of them. */
const neighbour = (n: number): string => `2001:db8:1:2:${(n >> 8).toString(16)}::${(n & 255).toString(16)}`;
const elsewhere = '2001:db8:1:3::1';

const principal = asLoggedIn({ id: 'user:1', name: 'ada', tenant: 'default', roles: [] } as unknown as User);

void t.test('places for enrollments: an IPv6 /64 that holds them all gives way to another network', t => {
  const clock = createManualClock();
  const lost: Place[] = [];
  const places = createPlaces<Place>({ most: 600, clock, onLost: place => void lost.push(place) });
  const placeOf = (remoteAddress: string): Place => ({ remoteAddress, proving: false, lost: false });
  const taken = Array.from({ length: 600 }, (_, n) => places.take(placeOf(neighbour(n))));
  t.ok(taken.every(each => each));
  t.notOk(places.take(placeOf(neighbour(600))), 'the same network gets no more');
  t.ok(places.take(placeOf(elsewhere)), 'another one gets a place');
  t.same(lost, [{ remoteAddress: neighbour(0), proving: false, lost: true }]);
  t.end();
});

void t.test('connections of strangers: the addresses of an IPv6 /64 share one cap', t => {
  const crowd = createCrowd({ total: 100, perAddress: 10 });
  const connectionOf = (remoteAddress: string): Connection =>
    ({ remoteAddress, network: networkOf(remoteAddress) }) as unknown as Connection;
  const held = Array.from({ length: 10 }, (_, n) => connectionOf(neighbour(n)));
  for (const connection of held) crowd.add(connection);
  t.equal(crowd.inTheWay(networkOf(neighbour(77))), held[0]);
  t.equal(crowd.inTheWay(networkOf(elsewhere)), undefined);
  t.end();
});

function makeDoorkeeper(clock: Clock = createManualClock()) {
  return createDoorkeeper({
    authenticate: ({ authorization }) =>
      authorization ? Promise.resolve(principal) : Promise.reject(new RollcallError('TOKEN_REFUSED', 'no')),
    refusals: untoldRefusals,
    clock,
    requireAuth: false,
  });
}

const originOf = (address: string) => ({ address, requestId: 'test', userAgent: '' });

void t.test('requests of strangers: the addresses of an IPv6 /64 share one rate', async t => {
  const doorkeeper = makeDoorkeeper();
  const ask = (address: string) =>
    doorkeeper.admit(
      { access: 'open', rate: 'login' },
      { authorization: undefined, origin: originOf(address) },
    );
  for (let n = 0; n < rates.login; n += 1) await ask(neighbour(n));
  await t.rejects(ask(neighbour(999)), { code: 'RATE_LIMITED' });
  await ask(elsewhere);
});

void t.test('requests of more networks than are counted do not let go of anybody who is over', async t => {
  const doorkeeper = makeDoorkeeper();
  const asked = { access: 'anyone', rate: 'login' } as const;
  const ask = () => doorkeeper.admit(asked, { authorization: 'Bearer x', origin: originOf('192.0.2.1') });
  for (let n = 0; n < rates.login; n += 1) await ask();
  await t.rejects(ask(), { code: 'RATE_LIMITED' });
  for (let n = 0; n < 20_001; n += 1) {
    const origin = originOf(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
    await doorkeeper.admit({ access: 'open', rate: 'login' }, { authorization: undefined, origin });
  }
  await t.rejects(ask(), { code: 'RATE_LIMITED' });
});
