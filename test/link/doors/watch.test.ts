/** A watch lasts; the right to it may not. */
import t from 'tap';
import { status as Status, type ServiceError } from '@grpc/grpc-js';
import { connectOperator, issueToken, makeUser } from '../../harness/operator.js';
import { createManualClock } from '../../harness/manual-clock.js';
import { newKey, startTestLink } from '../../harness/test-link.js';
import { formatAddress } from '../../../src/base/settings.js';
import { fromGrpcStatus } from '../../../src/protocol/status.js';
import { userParty } from '../../harness/parties.js';

for (const how of ['the token ends', 'its holder is disabled', 'its holder loses the role'] as const) {
  void t.test(`a watch ends when ${how}`, async t => {
    const clock = createManualClock();
    const site = await startTestLink(t, { clock });
    const { link, ca, control } = site;
    const { access } = link;
    const viewer = await makeUser(access, 'viewer', ['viewer']);
    const token = await issueToken(access, viewer, 120_000);
    const calls = connectOperator(formatAddress(link.addresses.control), token, ca);
    t.teardown(() => calls.close());
    const watch = calls.client.watchNodes({ snapshot: false }, calls.metadata);
    const seen: string[] = [];
    watch.on('data', ({ node }: { node?: { name: string } }) => seen.push(node?.name ?? ''));
    const ended = new Promise<ServiceError>(resolve => watch.once('error', resolve));
    await new Promise(resolve => watch.once('metadata', resolve));

    const first = new Promise(resolve => watch.once('data', resolve));
    await site.register(newKey(), { name: 'before' });
    await first;
    const reason = { type: 'user.changed', by: userParty('test') } as const;
    if (how === 'its holder is disabled')
      await access.users.change('default', viewer.id, { enabled: false }, reason);
    if (how === 'its holder loses the role') {
      await access.roles.define(
        'default',
        { name: 'nothing', permissions: ['runs:read'] },
        userParty('test'),
      );
      await access.users.change('default', viewer.id, { roles: ['nothing'] }, reason);
    }
    clock.advance(how === 'the token ends' ? 160_000 : 5_000);
    const { code } = fromGrpcStatus(await ended);
    t.equal(code, how === 'its holder loses the role' ? 'NOT_ALLOWED' : 'TOKEN_REFUSED');
    t.not((await ended).code, Status.OK);
    await control.listNodes({ statuses: [], labels: {}, text: '', pageSize: 0, pageToken: '' });
    t.same(seen, ['before']);
  });
}
