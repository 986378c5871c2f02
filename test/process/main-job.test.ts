/** The main job by real processes, as an operator and a fleet would run them. */
import t from 'tap';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startRollcall } from '../../scripts/running.js';
import { untilStatus } from '../harness/control-calls.js';
import { killWhileRegistering } from '../harness/kill-loop.js';
import { openSite } from '../harness/site.js';
import { makeFolder, newKey, writeCertificates } from '../harness/test-link.js';

void t.test('a node process reconnects after every failure until it is revoked', async t => {
  const site = await openSite(t);
  const key = newKey('P-384');
  const id = await site.register(key);
  let node = await site.startNode('one', key);
  await node.says('online');
  await untilStatus(site.control, id, 'online');

  await t.test('state of the node and keys of the link are private files', async t => {
    const state = join(site.folder, 'state', 'one');
    t.equal((await stat(state)).mode & 0o777, 0o700);
    t.equal((await stat(join(state, 'session.json'))).mode & 0o777, 0o600);
    const dataDir = join(site.folder, 'data');
    for (const secret of ['authority.key', 'token-keys.json']) {
      t.equal((await stat(join(dataDir, secret))).mode & 0o777, 0o600, secret);
    }
  });

  await t.test('a node is offline after SIGKILL, then online as the same node', async t => {
    await node.stop('SIGKILL');
    t.equal((await untilStatus(site.control, id, 'offline')).reason, 'connection lost');
    node = await site.startNode('one', key);
    await node.says('online');
    await untilStatus(site.control, id, 'online');
    const enrolled = node.lines.some(line => line['msg'] === 'enrolled');
    t.notOk(enrolled, 'with a state folder it comes back by the certificate it has');
  });

  await t.test('a node on SIGTERM says goodbye and exits with 0', async t => {
    t.equal(await node.stop('SIGTERM'), 0);
    t.equal((await untilStatus(site.control, id, 'offline')).reason, 'closed by node');
    node = await site.startNode('one', key);
    await untilStatus(site.control, id, 'online');
  });

  await t.test(
    'the link exits with code 0 on SIGTERM, and the node reconnects to the restarted link',
    async t => {
      t.equal(await site.link.running.stop('SIGTERM'), 0);
      await site.restart();
      await untilStatus(site.control, id, 'online');
      const { transitions } = await site.control.listNodeHistory({ node: id, pageSize: 0, pageToken: '' });
      t.equal(transitions[1]?.reason, 'link stopped');
    },
  );

  await t.test(
    'nodes of a killed link are offline with reason "link restarted", and then online again',
    async t => {
      await site.link.running.stop('SIGKILL');
      await site.restart();
      await untilStatus(site.control, id, 'online');
      const { transitions } = await site.control.listNodeHistory({ node: id, pageSize: 0, pageToken: '' });
      t.equal(transitions[1]?.reason, 'link restarted');
    },
  );

  await t.test('SIGHUP reloads the certificates of the link, and reports a failure', async t => {
    const { running } = site.link;
    const pem = join(site.folder, 'server.pem');
    const good = await readFile(pem);
    await writeFile(pem, 'broken');
    running.process.kill('SIGHUP');
    await running.line(line => String(line['msg']).startsWith('the old certificates stay'));
    await writeFile(pem, good);
    running.process.kill('SIGHUP');
    await running.says('certificates read again');
    await untilStatus(site.control, id, 'online');
    t.pass('the session stayed');
  });

  await t.test('a second agent with the same key replaces the first, which pauses', async t => {
    const clone = await site.startNode('clone', key);
    await clone.says('online');
    const replaced = await node.line(line => line['code'] === 'SESSION_REPLACED');
    t.ok(replaced);
    t.ok((await untilStatus(site.control, id, 'online')).reason);
    await clone.stop('SIGKILL');
  });

  await t.test('a revoked node is disconnected, prints the reason and exits with 4', async t => {
    node.process.kill('SIGKILL');
    node = await site.startNode('one', key);
    await node.says('online');
    const { sessionsEnded } = await site.control.revokeNode({ node: id, comment: '' });
    t.equal(sessionsEnded, 1);
    t.equal(await node.exited, 4);
    t.match(node.lines.map(line => String(line['msg'])).join('\n'), /revoked/);
  });
});

void t.test('a node process waits for its registration and for a verifiable link', async t => {
  const site = await openSite(t);

  await t.test('an unregistered node prints one clear line, and is online once it is registered', async t => {
    const key = newKey();
    const node = await site.startNode('early', key);
    const refused = await node.line(line => line['code'] === 'NODE_NOT_REGISTERED');
    t.match(String(refused['msg']), key.publicKey.fingerprint);
    const id = await site.register(key);
    await untilStatus(site.control, id, 'online');
    const lines = node.lines.filter(
      line => line['code'] === 'NODE_NOT_REGISTERED' && line['level'] !== 'debug',
    );
    t.equal(lines.length, 1, 'the same condition is said once');
    await node.stop('SIGKILL');
  });

  await t.test('a node that cannot verify the link prints one clear line, and keeps running', async t => {
    const other = await makeFolder(t);
    await writeCertificates(other);
    const key = newKey();
    await site.register(key);
    const node = await site.startNode('wary', key, ['--root-certificates', join(other, 'ca.crt')]);
    const refused = await node.line(line => line['code'] === 'LINK_UNVERIFIED');
    t.equal(refused['level'], 'warn');
    t.equal(node.process.exitCode, null);
    t.equal(await node.stop('SIGTERM'), 0);
  });

  await t.test('a node with an unreadable key exits with 2', async t => {
    const key = newKey();
    const node = await site.startNode('careless', key);
    await node.stop('SIGKILL');
    await chmod(join(site.folder, 'careless.key'), 0o644);
    const again = startRollcall([
      ...['node', '--link', site.link.node, '--root-certificates', join(site.folder, 'ca.crt')],
      ...['--auth-private-key', join(site.folder, 'careless.key')],
    ]);
    t.equal(await again.exited, 2);
    t.match(
      again.lines.map(line => String(line['msg'])).join('\n'),
      /can be read by others[^]*hint: chmod 600/,
    );
  });
});

void t.test('kill -9 of the link while nodes are registered loses no acknowledged node', async t => {
  const site = await openSite(t);
  await killWhileRegistering(t, site, 3);
});
