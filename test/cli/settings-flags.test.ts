/** Flags made from a schema: names, aliases, switches, help; and both daemons' schemas fit the command. */
import { writeFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { readConfigFile } from '../../src/base/config-file.js';
import { createPassphraseSource } from '../../src/identity/passphrase.js';
import { allAddresses, as, readSettings, type Settings } from '../../src/base/settings.js';
import { configFolder } from '../../src/cli/profile.js';
import { collectLinkConfig, requireUsable, serverSettings } from '../../src/link/config.js';
import { linkSettings } from '../../src/link/settings.js';
import { nodeSettings } from '../../src/node/config.js';
import { addSettingFlags } from '../../src/cli/settings-flags.js';
import { makeFolder } from '../harness/folder.js';

const schema: Settings = {
  link: {
    value: 'HOST:PORT',
    description: 'the link',
    aliases: ['superlink'],
    parse: raw => as.address(raw),
  },
  bind: {
    value: 'HOST:PORT',
    description: 'where',
    default: { host: '::1', port: 9092 },
    parse: raw => as.address(raw),
  },
  wait: { value: 'DURATION', description: 'how long', default: 5_400_000, parse: raw => raw },
  count: { value: 'N', description: 'how many', default: 3, parse: raw => raw },
  kinds: { value: 'KIND,…', description: 'which', default: ['a', 'b'], parse: raw => raw },
  strict: { description: 'be strict', default: true, parse: raw => as.flag(raw) },
  'dry-run': { description: 'only say', default: false, parse: raw => as.flag(raw) },
};

function parse(...words: string[]): Record<string, unknown> {
  const command = new Command().exitOverride().configureOutput({ outputError: () => undefined });
  const flags = addSettingFlags(command, schema);
  command.parse(words, { from: 'user' });
  return flags;
}

void t.test('flags are parsed by the name of their setting, with values unchanged', t => {
  t.same(parse(), {}, 'nothing typed is nothing said: defaults are the schema’s');
  t.same(parse('--link', 'a:1'), { link: 'a:1' });
  t.same(parse('--superlink=a:1'), { link: 'a:1' }, 'an alias is the setting');
  t.same(parse('--superlink', 'a:1', '--link', 'b:2'), { link: 'b:2' }, 'the last one counts');
  t.same(parse('--dry-run', '--no-strict', '--count', '-1'), { 'dry-run': true, strict: false, count: '-1' });
  t.throws(() => parse('--wait'), { code: 'commander.optionMissingArgument' });
  t.throws(() => parse('--unknown'), { code: 'commander.unknownOption' });
  t.end();
});

void t.test('flags take precedence over the environment', t => {
  const values = readSettings(schema, {
    flags: parse('--link', 'a:1', '--no-strict'),
    environment: { ROLLCALL_X_LINK: 'b:2', ROLLCALL_X_COUNT: '9' },
    environmentPrefix: 'ROLLCALL_X_',
  });
  t.match(values, { link: { host: 'a', port: 1 }, strict: false, count: '9' });
  t.end();
});

void t.test('help shows default values in the syntax of a flag, and aliases', t => {
  const command = new Command('x').configureHelp({ helpWidth: 200 });
  addSettingFlags(command, schema);
  const help = command.helpInformation();
  t.match(help, /--link <HOST:PORT> +the link \(also --superlink\)/);
  t.match(help, 'default: [::1]:9092');
  t.match(help, 'default: 90m');
  t.match(help, 'default: 3)');
  t.match(help, 'default: a,b');
  t.match(help, 'be strict (default: on)');
  t.match(help, /only say$/m);
  t.notMatch(help, /--superlink </, 'an alias has no line of its own');
  t.end();
});

const readFrom = (environment: Record<string, string>, file?: unknown) =>
  readSettings(schema, { flags: {}, environment, environmentPrefix: 'ROLLCALL_X_', file });

void t.test('variables that Kubernetes injects are ignored; a misspelt setting is an error', t => {
  const injected = {
    ROLLCALL_X_SERVICE_HOST: '10.0.0.11',
    ROLLCALL_X_SERVICE_PORT: '9092',
    ROLLCALL_X_SERVICE_PORT_GRPC_NODES: '9092',
    ROLLCALL_X_PORT: 'tcp://10.0.0.11:9092',
    ROLLCALL_X_PORT_9092_TCP: 'tcp://[fd00::11]:9092',
    ROLLCALL_X_PORT_9092_TCP_PROTO: 'tcp',
    ROLLCALL_X_PORT_9092_TCP_PORT: '9092',
    ROLLCALL_X_PORT_9092_TCP_ADDR: 'fd00::11',
    ROLLCALL_X_CONTROL_SERVICE_HOST: '10.0.0.12',
    ROLLCALL_X_CONTROL_PORT: 'udp://10.0.0.12:9093',
  };
  t.match(readFrom({ ...injected, ROLLCALL_X_LINK: 'a:1' }), { link: { host: 'a', port: 1 } });
  const misspelt: readonly (readonly [string, string])[] = [
    ['ROLLCALL_X_PORT', '9092'],
    ['ROLLCALL_X_PORT', 'https://10.0.0.11:9092'],
    ['ROLLCALL_X_PORT', 'tcp://link.example:9092'],
    ['ROLLCALL_X_SERVICE_HOST', 'link.example'],
    ['ROLLCALL_X_SERVICE_PORT', 'grpc'],
    ['ROLLCALL_X_PORT_9092_TCP_PROTO', 'TCP'],
    ['ROLLCALL_X_PORT_9092_TLS', 'tcp://10.0.0.11:9092'],
    ['ROLLCALL_X_LINKS', 'a:1'],
  ];
  for (const [name, text] of misspelt)
    t.throws(
      () => readFrom({ [name]: text }),
      { message: `unknown environment variable ${name}` },
      `${name}=${text}`,
    );
  t.end();
});

void t.test('an empty environment variable counts as unset', t => {
  t.match(readFrom({ ROLLCALL_X_LINK: '', ROLLCALL_X_COUNT: '' }, { count: 7 }), {
    link: undefined,
    count: 7,
  });
  t.equal(createPassphraseSource({ environment: '' }), undefined, 'as a passphrase');
  const linkFiles = { 'ssl-ca-certfile': 'ca', 'ssl-certfile': 'cert', 'ssl-keyfile': 'key' };
  const linkConfig = requireUsable(
    collectLinkConfig({ flags: linkFiles, environment: {}, environmentPrefix: 'ROLLCALL_LINK_' }),
  );
  t.equal(serverSettings(linkConfig, '').passphrase, undefined, "as the passphrase of the link's key");
  t.type(serverSettings(linkConfig, 'some').passphrase, 'function');
  t.ok(isAbsolute(configFolder({ HOME: '', ROLLCALL_CONFIG_HOME: '', XDG_CONFIG_HOME: '' })), 'as a home');
  t.match(readFrom({ ROLLCALL_X_STRICT: '', ROLLCALL_X_OLD_NAME: '' }), { strict: true });
  t.end();
});

void t.test('a choice in capitals is refused with its correct spelling', t => {
  const level = as.oneOf(['info', 'warn']);
  t.throws(() => level('WARN'), { message: 'expected one of info, warn; in small letters: warn' });
  t.throws(() => level('loud'), { message: 'expected one of info, warn' });
  t.end();
});

void t.test('bounds of durations and sizes are shown in the syntax of a flag', t => {
  const duration = as.duration(60_000, 3_650 * 86_400_000);
  t.throws(() => duration('1s'), { message: 'expected a duration such as 90s, 15m or 1h, from 1m to 3650d' });
  t.throws(() => as.duration(250, 1_500)('1h'), { message: /, from 250ms to 1500ms$/ });
  const size = as.size(1024, 3 * 1024 ** 3);
  t.throws(() => size('1'), { message: 'expected a size such as 512MiB or 2GiB, from 1KiB to 3GiB' });
  t.end();
});

void t.test('a configuration file in UTF-16 is refused by its encoding', async t => {
  const path = join(await makeFolder(t), 'link.yaml');
  const text = '\ufeffcount: 7\n';
  await writeFile(path, text, 'utf16le');
  await t.rejects(readConfigFile(path), {
    message: `${path} is UTF-16 text`,
    hint: 'save it again as UTF-8',
  });
  await writeFile(path, text);
  t.same(await readConfigFile(path), { count: 7 });
});

void t.test('a listen address may omit the host; a connect address may not, and is not a URL', t => {
  for (const text of [':9092', '*:9092'])
    t.same(as.listenAddress(text), { host: allAddresses, port: 9092 }, text);
  t.same(as.listenAddress('[::1]:0'), { host: '::1', port: 0 });
  for (const text of [':', '*', ':99999', '*9092', '::9092', ''])
    t.throws(() => as.listenAddress(text), /expected HOST:PORT/, text);
  const advice: readonly (readonly [string, string])[] = [
    ['https://link.example:9092', '; a URL was given: write link.example:9092'],
    ['grpcs://user:secret@[fd00::11]:9092/x', '; a URL was given: write [fd00::11]:9092'],
    ['https://link.example', '; a URL was given: write link.example:PORT'],
    [':9092', '; the host is missing'],
    ['*:9092', '; the host is missing'],
    ['link.example', ''],
  ];
  for (const [text, ending] of advice)
    t.throws(
      () => as.address(text),
      { message: `expected HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092${ending}` },
      text,
    );
  t.end();
});

void t.test('the help of link and node describes each flag in plain words', t => {
  const helpOf = (settings: Settings): string => {
    const command = new Command();
    addSettingFlags(command, settings);
    return command.helpInformation().replaceAll(/\s+/g, ' ');
  };
  const link = helpOf(linkSettings);
  for (const words of [
    '--check-config validate the configuration, report every problem, and exit',
    '--ssl-ca-certfile <FILE> CA certificates, PEM, sent to nodes to verify this link',
    'not used to verify clients',
    '--bindings <TYPE,…> channel bindings that tie the proof of a node to its TLS connection',
    '--max-connections <N> maximum number of connections of one port that are not the session of a node',
    '--enable-supernode-auth a flag of Flower, ignored',
    '--insecure a flag of Flower, refused',
    'on the disk of the data folder',
  ])
    t.ok(link.includes(words), words);
  const node = helpOf(nodeSettings);
  for (const words of [
    '--app <DIR> folder of an app that runs here without a signature',
    '--insecure a flag of Flower, refused',
    'on the disk of the state folder',
  ])
    t.ok(node.includes(words), words);
  t.notMatch(link + node, /unless told|whoever|default of both|without a session/);
  t.end();
});
