/** The smallest apps: their answers and their packages. Runs of them as processes are tested with runs. */
import t from 'tap';
import { join } from 'node:path';
import nodeHalf from '../../examples/hello/node.js';
import serverHalf from '../../examples/hello/server.js';
import { packApp } from '../../src/app-package/app-package.js';
import { root } from '../../scripts/running.js';
import { runLocally } from './local-grid.js';

void t.test('each node answers with its node config, and a node that fails is reported', async t => {
  const { config } = (await packApp(join(root, 'examples/hello'))).manifest;
  const nodes = [
    {
      id: '7',
      name: 'berlin',
      config: { 'dataset-path': 'datasets/part_1', 'partition-id': 1n, flag: true },
    },
    { id: '8', name: 'tokyo', config: {} },
  ];
  const { log } = await runLocally({ main: serverHalf.main, handlers: nodeHalf.handlers, nodes, config });
  t.same(log, [
    'info hello from node 7, which has dataset-path=datasets/part_1, partition-id=1, flag=true',
    'info hello from node 8, which has no config',
  ]);
  const other = await runLocally({ main: serverHalf.main, handlers: {}, nodes: nodes.slice(0, 1), config });
  t.match(other.log, [/^info 7 did not answer: /]);
});

void t.test('every example can be packed', async t => {
  const { manifest } = await packApp(join(root, 'examples/hello-python'));
  t.same([manifest.server, manifest.node], ['server.py', 'node.py']);
  t.equal((await packApp(join(root, 'examples/averaging-python'))).manifest.server, 'server.py');
  t.equal((await packApp(join(root, 'examples/digits/app'))).manifest.name, 'digits');
});
