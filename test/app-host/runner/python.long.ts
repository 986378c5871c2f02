/** The supported versions of Python, and `pip install ./python` where its build backend is installed. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from '../../../scripts/running.js';
import { makeFolder } from '../../harness/folder.js';
import { hasPython } from '../../harness/python-half.js';

function python(words: readonly string[], folder?: string, program = 'python3') {
  const environment = folder === undefined ? {} : { PYTHONPATH: folder };
  return spawnSync(program, words, { encoding: 'utf8', env: { ...process.env, ...environment } });
}

/** setuptools makes wheels by itself from 70.1 on. */
const probe = `
import importlib.util, setuptools
assert importlib.util.find_spec("pip")
version = tuple(map(int, setuptools.__version__.split(".")[:2]))
assert version >= (70, 1) or (version >= (61, 0) and importlib.util.find_spec("wheel"))
`;
const canBuild = python(['-c', probe]).status === 0;

void t.test('every installed Python from 3.9 on imports rollcall_app', t => {
  const versions = ['3', '3.9', '3.10', '3.11', '3.12', '3.13', '3.14'].map(version => `python${version}`);
  const here = versions.filter(program => python(['--version'], undefined, program).status === 0);
  for (const program of here) {
    const { status, stderr } = python(['-Bc', 'import rollcall_app'], join(root, 'python'), program);
    t.equal(status, 0, `${program}: ${stderr}`);
  }
  t.equal(here.includes('python3'), hasPython);
  t.end();
});

void t.test(
  'pip installs ./python, and rollcall_app is then imported from every other folder',
  {
    skip: !canBuild && 'there is no pip with setuptools 70.1 here, or with an older one and wheel',
  },
  async t => {
    const folder = await makeFolder(t);
    // setuptools writes into the folder of its source.
    const source = join(folder, 'python');
    await cp(join(root, 'python'), source, { recursive: true });
    const target = join(folder, 'packages');
    const offline = ['--no-index', '--no-build-isolation', '--no-deps', '--target', target];
    const installed = python(['-m', 'pip', 'install', '--quiet', ...offline, source]);
    t.equal(installed.status, 0, installed.stderr);
    const script =
      'import rollcall_app, rollcall_audit, importlib.metadata as m; print(rollcall_app.__file__, m.version("rollcall-app"))';
    const { stdout } = python(['-c', script], target);
    t.equal(stdout.trim(), `${join(target, 'rollcall_app.py')} 0.1.0`);
  },
);
