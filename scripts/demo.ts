/**
 * The main job on real input: certificates, keys, a link, nodes, and a run of an app on them, as real processes in a
 * temporary folder and on free loopback ports. Every step is checked.
 */
import { check, perform, type NodeWish, type Stage } from './stage.js';

await perform({ title: 'demo', limitMs: 120_000 }, demo);

async function demo(stage: Stage): Promise<void> {
  const { inFolder, heading, say, script, rollcall, list, waitFor } = stage;
  const operator = (...parts: string[]): Promise<void> => rollcall('nodes', ...parts);
  /** On one machine; elsewhere app hosts run under their own user. */
  const isolation = ['--isolation', 'subprocess'];

  heading(
    'Certificates and keys',
    'A development CA with a server certificate, a key pair for each node, and one for the author of apps.',
  );
  await script('generate-certs', '--out', inFolder('certificates'));
  await script('generate-keys', '2', '--out', inFolder('keys/p256'));
  await script('generate-keys', '1', '--curve', 'p384', '--out', inFolder('keys/p384'));
  await script('generate-keys', '1', '--out', inFolder('keys/stranger'));
  await rollcall('app', 'keygen');
  await script('digits:split', '--parts', '2', '--out', inFolder('datasets'));
  const berlinWish = nodeWish('berlin', 'p256/client_credentials_1', 1);
  const tokyoWish = nodeWish('tokyo', 'p384/client_credentials_1', 2);

  heading('The link', 'It keeps the registry, and takes nodes and operators over TLS.');
  const first = await stage.startLink({ more: isolation });

  heading(
    'Log in',
    'The first admin is made with a code from the data folder of the link; from then on by password.',
  );
  await stage.logIn(first);
  await rollcall('whoami');

  heading(
    'Register three nodes',
    'Only their public keys: the private ones never leave the machines they are on.',
  );
  await register('p256/client_credentials_1', 'berlin', 'charite');
  await register('p384/client_credentials_1', 'tokyo', 'todai');
  await register('p256/client_credentials_2', 'oslo', 'ous');
  await operator('list', '--wide');
  await waitFor('berlin', 'created');
  await waitFor('tokyo', 'created');
  const registered = await waitFor('oslo', 'created');

  heading(
    'Start them',
    'Each proves its key over its own TLS connection, gets a certificate, and holds one link.',
  );
  const berlin = stage.startNode(first, berlinWish);
  const tokyo = stage.startNode(first, tokyoWish);
  const oslo = stage.startNode(first, { name: 'oslo', key: 'keys/p256/client_credentials_2' });
  await Promise.all([berlin, tokyo, oslo].map(node => node.says('online')));
  for (const name of ['berlin', 'tokyo', 'oslo']) await waitFor(name, 'online');
  await operator('list', '--wide');

  heading(
    'A stranger',
    'A key that nobody registered gets nothing. Its agent tries again, with longer and longer pauses.',
  );
  const stranger = stage.startNode(first, { name: 'stranger', key: 'keys/stranger/client_credentials_1' });
  const refusal = await stranger.line(line => String(line['msg']).includes('not registered'));
  stage.whisper(`the stranger logs: ${String(refusal['msg'])}`);
  check((await list()).length === 3, 'the stranger is in no list');
  await stage.stop(stranger, 'SIGTERM');

  heading('Kill one', 'SIGKILL: no goodbye. The link knows at once, and why.');
  const killedAt = performance.now();
  await stage.stop(berlin, 'SIGKILL');
  const lost = await waitFor('berlin', 'offline');
  say(`berlin is offline (${lost.reason}); the operator saw it within ${since(killedAt)}.`);
  await operator('list', '--wide');

  heading(
    'Start it again',
    'Same key, same node: it is back, and its earlier connection did not keep it out.',
  );
  const again = stage.startNode(first, berlinWish);
  await again.says('online');
  const back = await waitFor('berlin', 'online');
  check(back.id === lost.id, 'the node id is the same');
  await operator('list', '--wide');

  heading('Revoke one', 'Its live link is cut at once, and its agent stops for good.');
  const revokedAt = performance.now();
  const gone = oslo.exited.then(code => ({ code, after: since(revokedAt) }));
  await operator('revoke', 'oslo', '--comment', 'laptop was stolen');
  const { code, after } = await gone;
  check(code === 4, `the revoked agent ends with exit code 4 (got ${String(code)})`);
  say(`oslo's process ended with exit code 4, ${after} after the command was typed (its start-up included).`);
  await operator('list', '--wide', '--all');

  heading('Restart the link', 'What was acknowledged is on the disk.');
  await stage.stop(first.running, 'SIGTERM');
  await stage.startLink({ at: first, more: isolation });
  check((await list()).length === 3, 'all three nodes are still known');
  check((await waitFor('oslo', 'revoked')).id === registered.id, 'the revoked one is still revoked');
  await waitFor('berlin', 'online');
  await waitFor('tokyo', 'online');
  say('berlin and tokyo came back by themselves.');
  await operator('list', '--wide');
  await operator('history', 'berlin');

  heading(
    'Run an app on both',
    'They learn handwritten digits together; each keeps its own, and runs the app because it trusts who signed it.',
  );
  await rollcall('run', 'examples/digits/app', '--stream');
  await rollcall('runs', 'list');

  function nodeWish(name: string, key: string, part: number): NodeWish {
    return {
      name,
      key: `keys/${key}`,
      nodeConfig: `dataset-path="${inFolder('datasets', `part_${part}`)}" partition-id=${part}`,
      more: [...isolation, '--trust-app-signer', inFolder('config/app-key.pub')],
    };
  }

  async function register(key: string, name: string, site: string): Promise<void> {
    await operator('register', inFolder('keys', `${key}.pub`), '--name', name, '--label', `site=${site}`);
  }
}

function since(start: number): string {
  return `${Math.round(performance.now() - start)} ms`;
}
