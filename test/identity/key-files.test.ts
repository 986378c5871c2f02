import { execFileSync, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import t, { type Test } from 'tap';
import { isRollcallError, type ErrorCode, type RollcallError } from '../../src/base/errors.js';
import { fromPem, toPem } from '../../src/base/pem.js';
import {
  loadPrivateKeyFile,
  loadPublicKeyFile,
  readPrivateKey,
  readPublicKey,
} from '../../src/identity/key-file.js';
import { formatOpensshPrivate, formatOpensshPublic } from '../../src/identity/openssh.js';
import { createPassphraseSource } from '../../src/identity/passphrase.js';
import {
  generatePrivateKey,
  privateKeyFromKeyObject,
  toPkcs8Pem,
  toSpkiPem,
} from '../../src/identity/private-key.js';
import { generateKeys } from '../../src/cli/keygen.js';

interface Accepted {
  readonly name: string;
  readonly wanted: 'public' | 'private';
  readonly text: string;
  readonly passphrase?: string;
  readonly curve: string;
  readonly fingerprint: string;
  readonly spki: string;
  readonly comment?: string;
}

interface Refused extends Pick<Accepted, 'name' | 'wanted' | 'text' | 'passphrase'> {
  readonly code: ErrorCode;
  readonly says: string;
  readonly hint?: string;
}

const vectors = JSON.parse(readFileSync(new URL('../vectors/key-files.json', import.meta.url), 'utf8')) as {
  readonly accepted: readonly Accepted[];
  readonly refused: readonly Refused[];
};

const passphrase = 'correct horse battery staple';
const folder = mkdtempSync(join(tmpdir(), 'rollcall-keys-'));
t.teardown(() => rmSync(folder, { recursive: true }));

function errorOf(call: () => unknown): RollcallError {
  try {
    call();
  } catch (error) {
    if (isRollcallError(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

function textNamed(name: string): string {
  const found = vectors.accepted.find(each => each.name === name);
  if (!found) throw new Error(name);
  return found.text;
}

function read({ wanted, text, passphrase: secret }: Pick<Accepted, 'wanted' | 'text' | 'passphrase'>) {
  return wanted === 'public'
    ? readPublicKey(Buffer.from(text))
    : readPrivateKey(Buffer.from(text), secret).publicKey;
}

function checkOneLine(t: Test, error: RollcallError, content: Uint8Array): void {
  t.notMatch(error.message, /\n/, 'one line');
  t.notMatch(error.hint ?? '', /\n/, 'one line of advice');
  const shown = `${error.message} ${error.hint ?? ''} ${String(error.cause)}`;
  const words = Buffer.from(content.subarray(0, 65_536)).toString('latin1').split(/\s+/);
  // Long enough not to be a word of the sentence.
  const leaked = words.find(word => word.length > 24 && shown.includes(word));
  t.equal(leaked, undefined, 'nothing of the content');
}

void t.test('each form of a key file gives the right key', t => {
  for (const vector of vectors.accepted) {
    const key = read(vector);
    t.equal(key.curve, vector.curve, vector.name);
    t.equal(key.fingerprint, vector.fingerprint);
    t.equal(key.spki.toString('hex'), vector.spki);
    t.equal('comment' in key ? key.comment : undefined, vector.comment);
  }
  t.end();
});

void t.test('byte order mark, white space, comments and line ends around a key are ignored', t => {
  const line = textNamed('OpenSSH public line, P-256');
  const pem = textNamed('PKCS#8, P-256');
  const wanted = readPublicKey(Buffer.from(line)).fingerprint;
  const lines = [
    `\ufeff${line}`,
    line.trim(),
    `# my key\n\n${line}\n\n`,
    line.replace('\n', '\r\n'),
    `  ${line}`,
  ];
  for (const text of lines) t.equal(readPublicKey(Buffer.from(text)).fingerprint, wanted);
  const blocks = [pem.replaceAll('\n', '\r\n'), `Bag Attributes\n    friendlyName: x\n${pem}`, pem.trim()];
  for (const text of blocks) t.ok(readPrivateKey(Buffer.from(text)).publicKey);
  t.end();
});

void t.test('an unsupported key is refused in one line that names its type', t => {
  for (const vector of vectors.refused) {
    const error = errorOf(() => read(vector));
    t.equal(error.code, vector.code, vector.name);
    t.ok(error.message.includes(vector.says), `${vector.name}: ${error.message}`);
    t.ok(error.message.includes(`expected an ECDSA ${vector.wanted} key on P-256 or P-384`));
    t.ok(error.hint?.includes(vector.hint ?? ''), vector.name);
    checkOneLine(t, error, Buffer.from(vector.text));
  }
  t.end();
});

void t.test('a file without a key is refused in one line that names its contents', t => {
  const line = textNamed('OpenSSH public line, P-256');
  const pem = textNamed('PKCS#8, P-256');
  const spki = textNamed('PEM SubjectPublicKeyInfo, P-256');
  const body = pem.split('\n').slice(1, -2).join('');
  const cases: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ['nothing', '', /holds nothing;/],
    ['white space', ' \n\t\r\n', /holds no key;/],
    ['a comment alone', '# nothing here\n', /holds no key;/],
    ['garbage', 'hunter2-hunter2-hunter2-hunter2 and so on\n', /holds data that is not a key;/],
    ['base64 without armour', body, /holds data that is not a key;/],
    ['binary data', Buffer.from([0x80, 0x00, 0xff, 0x13]), /holds binary data;/],
    ['text with a zero byte', 'abc\0def', /holds binary data;/],
    ['binary DER', Buffer.from(body, 'base64'), /holds binary DER;/],
    ['UTF-16', Buffer.from(`\ufeff${line}`, 'utf16le'), /holds UTF-16 text;/],
    ['two lines', line + line, /holds 2 things \(a public key, a public key\);/],
    ['two blocks', pem + pem, /holds 2 things \(a private key, a private key\);/],
    ['a line and a block', line + pem, /holds 2 things/],
    ['a pair in PEM', pem + spki, /holds 2 things \(a private key, a public key\);/],
    ['a certificate and its key', toPem(Buffer.of(48, 0), 'CERTIFICATE') + pem, /\(a certificate, a private/],
    ['nine keys', pem.repeat(9), /holds 9 things \(a private key, a private key, a private key, …\);/],
    ['a certificate', toPem(Buffer.of(48, 0), 'CERTIFICATE'), /holds a certificate;/],
    ['a certificate request', toPem(Buffer.of(48, 0), 'CERTIFICATE REQUEST'), /holds a certificate request;/],
    ['curve parameters', toPem(Buffer.of(6, 0), 'EC PARAMETERS'), /holds curve parameters without a key;/],
    ['an OpenPGP key', toPem(Buffer.of(0), 'PGP PRIVATE KEY BLOCK'), /holds an OpenPGP block;/],
    ['an unknown block', toPem(Buffer.of(0), 'HUNTER TWO'), /holds a PEM block of another kind;/],
    ['a block without its end', pem.split('\n').slice(0, 3).join('\n'), /holds a damaged PEM block;/],
    ['a block with a broken inside', pem.replace('M', '!'), /holds a damaged PEM block;/],
    ['JSON', '{"key":"hunter2"}', /holds JSON;/],
    ['a list in JSON', '[{"kty":"EC"}]', /holds JSON;/],
    ['JSON that ends too soon', '{"kty":"EC","d":"hunter2hunter2hunter2hunter2', /holds damaged JSON;/],
    [
      'a JWK with a short number',
      '{"kty":"EC","crv":"P-256","d":"hunter2"}',
      /holds a damaged JSON Web Key;/,
    ],
    ['an RSA key as JWK', '{"kty":"RSA","n":"hunter2"}', /holds an RSA key \(JWK\);/],
    ['an Ed25519 key as JWK', '{"kty":"OKP","crv":"Ed25519"}', /holds a key on an Edwards .* curve \(JWK\);/],
    ['a JWK on another curve', '{"kty":"EC","crv":"P-521"}', /holds a key on another curve \(JWK\);/],
    ['a set of JWKs', '{"keys":[{"kty":"EC","d":"hunter2"}]}', /holds a set of JSON Web Keys;/],
    [
      'a key in a TPM',
      toPem(Buffer.of(48, 0), 'TSS2 PRIVATE KEY'),
      /holds a private key that only a TPM can use/,
    ],
    ['a PKCS#11 URI in PEM', toPem(Buffer.of(48, 0), 'PKCS#11 PROVIDER URI'), /holds a PKCS#11 URI/],
    ['a PKCS#11 URI', 'pkcs11:token=hunter2;object=key', /holds a PKCS#11 URI/],
    ['PEM in one line', pem.replaceAll('\n', '\\n'), /holds PEM with \\n in place of line ends;/],
    ['PEM as JSON text', JSON.stringify(pem.replaceAll('\n', '\r\n')), /holds PEM with \\n in place/],
    ['a PuTTY key', 'PuTTY-User-Key-File-3: ecdsa-sha2-nistp256\nEncryption: none\n', /holds a PuTTY key;/],
    ['an age key', 'AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ\n', /holds an age key;/],
    ['authorized_keys', `from="10.0.0.1" ${line}`, /holds an authorized_keys or known_hosts line;/],
    ['a line and more', `${line}more\n`, /holds an OpenSSH key and other lines;/],
    ['a line without a key', 'ecdsa-sha2-nistp256\n', /holds a damaged OpenSSH key;/],
    ['an unknown type', 'ecdsa-sha2-hunter2 AAAA\n', /holds an SSH key of an unknown kind;/],
  ];
  for (const [what, content, message] of cases) {
    const bytes = Buffer.from(content);
    for (const reader of [readPublicKey, readPrivateKey]) {
      const error = errorOf(() => reader(bytes));
      t.equal(error.code, 'KEY_UNSUPPORTED', what);
      t.match(error.message, message, what);
      t.notMatch(`${error.message} ${error.hint ?? ''}`, /hunter2/i);
      checkOneLine(t, error, bytes);
    }
  }
  t.end();
});

void t.test('a JSON Web Key is read: private for a node, public for the link', t => {
  for (const curve of ['P-256', 'P-384'] as const) {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
    const jwk = privateKey.export({ format: 'jwk' });
    const { fingerprint } = privateKeyFromKeyObject(privateKey).publicKey;
    const text = JSON.stringify({ kid: 'x', use: 'sig', ...jwk }, undefined, 2);
    t.equal(readPrivateKey(Buffer.from(`\ufeff ${text}\n`)).publicKey.fingerprint, fingerprint);
    t.equal(
      readPublicKey(Buffer.from(JSON.stringify(publicKey.export({ format: 'jwk' })))).fingerprint,
      fingerprint,
    );
    const isPrivate = errorOf(() => readPublicKey(Buffer.from(text)));
    t.match(isPrivate, {
      code: 'KEY_UNSUPPORTED',
      message: /holds a private key;/,
      hint: /without the member "d"/,
    });
    checkOneLine(t, isPrivate, Buffer.from(text));
    const isPublic = errorOf(() => readPrivateKey(Buffer.from(JSON.stringify({ ...jwk, d: undefined }))));
    t.match(isPublic, { message: /holds a public key;/, hint: /with the member "d"/ });
    const other = generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ format: 'jwk' });
    const mixed = errorOf(() =>
      readPrivateKey(Buffer.from(JSON.stringify({ ...jwk, x: other.x, y: other.y }))),
    );
    t.match(mixed, { message: /do not belong together/ });
    const padded = errorOf(() => readPrivateKey(Buffer.from(JSON.stringify({ ...jwk, d: `${jwk.d}=` }))));
    t.match(padded, { message: /holds a damaged JSON Web Key;/ });
    const off = errorOf(() =>
      readPublicKey(Buffer.from(JSON.stringify({ ...jwk, d: undefined, y: other.y }))),
    );
    t.equal(off.code, 'KEY_UNSUPPORTED', 'a point off the curve');
  }
  t.end();
});

void t.test('an OpenSSH line that is cut off or names two curves is refused as damaged', t => {
  const line = textNamed('OpenSSH public line, P-256');
  for (let length = 22; length < 160; length += 6) {
    const error = errorOf(() => readPublicKey(Buffer.from(line.slice(0, length))));
    t.match(error.message, /holds a damaged OpenSSH key/);
  }
  const [, base64 = ''] = line.split(' ');
  const blob = Buffer.from(base64, 'base64');
  blob.write('nistp384', blob.lastIndexOf('nistp256'));
  const twoCurves = `ecdsa-sha2-nistp256 ${blob.toString('base64')}`;
  t.match(errorOf(() => readPublicKey(Buffer.from(twoCurves))).message, /holds a damaged OpenSSH key/);
  t.end();
});

void t.test('an OpenSSH line whose type contradicts its key is refused', t => {
  for (const [curve, other] of [
    ['P-256', 'ecdsa-sha2-nistp384'],
    ['P-384', 'ecdsa-sha2-nistp256'],
  ] as const) {
    const [type = '', ...rest] = textNamed(`OpenSSH public line, ${curve}`).split(' ');
    t.equal(readPublicKey(Buffer.from([type, ...rest].join(' '))).curve, curve);
    const error = errorOf(() => readPublicKey(Buffer.from([other, ...rest].join(' '))));
    t.match(error, {
      code: 'KEY_UNSUPPORTED',
      message: /holds an OpenSSH line whose type contradicts its key/,
    });
  }
  t.end();
});

void t.test('a damaged private key is refused as damaged, wherever the damage is', t => {
  for (const name of ['PKCS#8, P-256', 'SEC1, P-384', 'OpenSSH private, P-256', 'OpenSSH private, P-384']) {
    const [head = '', ...rest] = textNamed(name).trim().split('\n');
    const body = Buffer.from(rest.slice(0, -1).join(''), 'base64');
    const label = head.slice('-----BEGIN '.length, -'-----'.length);
    const comments = name.startsWith('OpenSSH') ? 24 : 0;
    for (let at = 0; at < body.length - comments; at += 7) {
      const damaged = Buffer.from(body);
      damaged[at] = (damaged[at] ?? 0) ^ 0x01;
      const error = findError(() => readPrivateKey(Buffer.from(toPem(damaged, label))));
      if (error) t.equal(error.code, 'KEY_UNSUPPORTED');
      // A PKCS#8 version number or an OpenSSH check number of another value is no damage to the key.
      else t.ok(at < 10 || label.startsWith('OPENSSH'), `${name}, byte ${at}`);
      const cut = Buffer.from(toPem(body.subarray(0, Math.max(1, at)), label));
      t.equal(errorOf(() => readPrivateKey(cut)).code, 'KEY_UNSUPPORTED');
    }
  }
  t.end();
});

function findError(call: () => unknown): RollcallError | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (isRollcallError(error)) return error;
    throw error;
  }
}

void t.test('an encrypted key needs its passphrase, and no other opens it', t => {
  for (const { name, text, passphrase: secret } of vectors.accepted.filter(each => each.passphrase)) {
    const bytes = Buffer.from(text);
    t.equal(secret, passphrase);
    const missing = errorOf(() => readPrivateKey(bytes));
    t.equal(missing.code, 'KEY_PASSPHRASE', name);
    t.match(missing.message, /expected its passphrase/);
    if (name.includes('16 rounds')) continue; // a third of a second each
    const wrong = errorOf(() => readPrivateKey(bytes, 'hunter2'));
    t.equal(wrong.code, 'KEY_PASSPHRASE');
    t.match(wrong.message, /does not open it/);
    t.notMatch(wrong.message, /hunter2/);
  }
  t.end();
});

void t.test('a key file with too many rounds of key derivation is refused before they are computed', t => {
  const text = textNamed('OpenSSH private, P-384, aes256-ctr and 2 rounds of bcrypt');
  const body = Buffer.from(text.split('\n').slice(1, -2).join(''), 'base64');
  const rounds = body.indexOf(Buffer.from('0000000200000001', 'hex'));
  t.ok(rounds > 0);
  body.writeUInt32BE(1001, rounds);
  const error = errorOf(() => readPrivateKey(Buffer.from(toPem(body, 'OPENSSH PRIVATE KEY')), passphrase));
  t.equal(error.code, 'KEY_UNSUPPORTED');
  t.match(error.message, /1001 rounds of key derivation, more than 1000/);
  const corpus = new URL('../fuzz/corpus/keys.json', import.meta.url);
  const kept = JSON.parse(readFileSync(corpus, 'utf8')) as { note: string; text?: string }[];
  const costly = kept.filter(
    ({ note }) => note.includes('more than are done') || note.includes('more rounds'),
  );
  t.equal(costly.length, 3, 'PBKDF2, scrypt and PKCS#12');
  for (const { note, text: pem = '' } of costly) {
    const refused = errorOf(() => readPrivateKey(Buffer.from(pem), passphrase));
    t.match(refused.message, /more than 10000000 rounds of key derivation/, note);
  }
  t.end();
});

function write(name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

void t.test('errors of key files name the path', async t => {
  const key = generatePrivateKey('P-384');
  const path = write('a-key', formatOpensshPrivate(key, 'a comment'));
  const publicPath = write('a-key.pub', formatOpensshPublic(key.publicKey, 'a comment'), 0o644);
  t.equal((await loadPrivateKeyFile(path)).publicKey.fingerprint, key.publicKey.fingerprint);
  const loaded = await loadPublicKeyFile(publicPath);
  t.equal(loaded.fingerprint, key.publicKey.fingerprint);
  t.equal(loaded.comment, 'a comment');

  await t.rejects(loadPublicKeyFile(path), {
    code: 'KEY_UNSUPPORTED',
    message: `${path} holds a private key; expected an ECDSA public key on P-256 or P-384`,
    hint: `give its public half: ssh-keygen -y -f ${path} > ${path}.pub`,
  });
  await t.rejects(loadPrivateKeyFile(publicPath), {
    code: 'KEY_UNSUPPORTED',
    message: `${publicPath} holds a public key; expected an ECDSA private key on P-256 or P-384`,
  });
  const odd = write("odd \u001b[31m'name", 'hunter2');
  await t.rejects(loadPublicKeyFile(odd), { message: /odd \?\[31m'name holds data that is not a key/ });
});

void t.test('a private key that others can read is refused, and so is a file without a key', async t => {
  const path = write('open-key', toPkcs8Pem(generatePrivateKey('P-256')), 0o644);
  await t.rejects(loadPrivateKeyFile(path), { code: 'FILE_PERMISSIONS', hint: `chmod 600 ${path}` });
  const certificate = write('certificate.pem', toPem(Buffer.of(48, 0), 'CERTIFICATE'), 0o644);
  await t.rejects(loadPrivateKeyFile(certificate), {
    code: 'KEY_UNSUPPORTED',
    message: /holds a certificate/,
  });
  await t.rejects(loadPrivateKeyFile(join(folder, 'absent')), { code: 'FILE_UNREADABLE' });
  await t.rejects(loadPublicKeyFile(folder), { code: 'FILE_UNREADABLE' });
  const big = write('big', Buffer.alloc(10_000_000, 'A'));
  for (const load of [loadPublicKeyFile, loadPrivateKeyFile]) {
    await t.rejects(async (): Promise<unknown> => load(big), {
      code: 'FILE_UNREADABLE',
      message: /larger than 65536 bytes/,
    });
  }
});

void t.test('the passphrase is requested only for an encrypted key', async t => {
  const name = 'PKCS#8, P-256, PBES2 with PBKDF2';
  const encrypted = write('encrypted', textNamed(name));
  const plain = write('plain', textNamed('PKCS#8, P-256'));
  let asked = 0;
  const ask = () => {
    asked += 1;
    return Promise.resolve(passphrase);
  };
  await loadPrivateKeyFile(plain, { passphrase: ask });
  t.equal(asked, 0);
  t.ok(await loadPrivateKeyFile(encrypted, { passphrase: ask }));
  t.equal(asked, 1);
  await t.rejects(loadPrivateKeyFile(encrypted), { code: 'KEY_PASSPHRASE' });
  await t.rejects(loadPrivateKeyFile(encrypted, { passphrase: () => Promise.resolve('no') }), {
    code: 'KEY_PASSPHRASE',
  });
});

void t.test('the passphrase comes from a file, the environment or a prompt without echo', async t => {
  t.equal(createPassphraseSource({}), undefined);
  const file = write('passphrase', `${passphrase}\nanother line\n`);
  t.equal(await createPassphraseSource({ file, environment: 'other' })?.(), passphrase);
  t.equal(await createPassphraseSource({ environment: passphrase })?.(), passphrase);
  const open = write('open-passphrase', passphrase, 0o640);
  const ofOpenFile = createPassphraseSource({ file: open });
  await t.rejects(async () => ofOpenFile?.(), {
    code: 'FILE_PERMISSIONS',
  });

  const asked = ask(`${passphrase}\b\bXY\r`);
  t.equal(await asked.answer, `${passphrase.slice(0, -2)}XY`);
  t.equal(asked.shown(), 'passphrase: \n');
  for (const gaveUp of ['half\u0003', '\u0004']) {
    await t.rejects(ask(gaveUp).answer, { code: 'KEY_PASSPHRASE' });
  }
});

function ask(typed: string) {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const chunks: Buffer[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk));
  const answer = createPassphraseSource({ terminal: { input, output, question: 'passphrase: ' } })?.();
  input.write(typed);
  return {
    answer: answer ?? Promise.reject(new Error('no source')),
    shown: () => Buffer.concat(chunks).toString(),
  };
}

// With the real programs.

function isInstalled(program: string, args: readonly string[]): boolean {
  return spawnSync(program, args).error === undefined;
}

const hasSshKeygen = isInstalled('ssh-keygen', ['-?']);
const hasOpenssl = isInstalled('openssl', ['version']);
const withSshKeygen = { skip: hasSshKeygen ? false : 'ssh-keygen is not installed' };
const withBoth = { skip: hasSshKeygen && hasOpenssl ? false : 'ssh-keygen or openssl is not installed' };

function sshKeygen(...args: readonly string[]): string {
  return execFileSync('ssh-keygen', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

void t.test('ssh-keygen reads the keys that Rollcall writes, with the same fingerprint', withSshKeygen, t => {
  for (const curve of ['P-256', 'P-384'] as const) {
    const key = generatePrivateKey(curve);
    const line = formatOpensshPublic(key.publicKey, 'a comment');
    const files = {
      openssh: write(`written-${curve}`, formatOpensshPrivate(key, 'a comment')),
      pem: write(`written-${curve}.pem`, toPkcs8Pem(key)),
      line: write(`written-line-${curve}.pub`, line),
    };
    for (const path of Object.values(files)) {
      t.equal(sshKeygen('-l', '-f', path).split(' ')[1], key.publicKey.fingerprint);
    }
    t.equal(sshKeygen('-y', '-f', files.openssh), line);
    t.equal(sshKeygen('-y', '-f', files.pem).split(' ')[1]?.trim(), line.split(' ')[1]);
    const spki = write(`written-${curve}-spki`, toSpkiPem(key.publicKey));
    t.equal(sshKeygen('-i', '-m', 'PKCS8', '-f', spki).split(' ')[1]?.trim(), line.split(' ')[1]);
  }
  t.end();
});

void t.test('keys that the installed ssh-keygen writes are read', withSshKeygen, async t => {
  for (const bits of ['256', '384']) {
    for (const secret of ['', passphrase]) {
      for (const form of [[], ['-m', 'PEM'], ['-m', 'PKCS8']]) {
        const path = join(folder, `ssh-${bits}-${secret.length}-${form.join('')}`);
        sshKeygen('-q', '-t', 'ecdsa', '-b', bits, '-N', secret, '-C', 'it', '-a', '2', ...form, '-f', path);
        const fingerprint = sshKeygen('-l', '-f', `${path}.pub`).split(' ')[1];
        const key = await loadPrivateKeyFile(path, { passphrase: () => Promise.resolve(passphrase) });
        t.equal(
          key.publicKey.fingerprint,
          fingerprint,
          `${bits} ${form.join(' ')} ${secret ? 'encrypted' : ''}`,
        );
        t.equal((await loadPublicKeyFile(`${path}.pub`)).fingerprint, fingerprint);
      }
    }
  }
});

void t.test('keys that the installed openssl writes are read', withBoth, async t => {
  for (const [curve, name] of [
    ['P-256', 'prime256v1'],
    ['P-384', 'secp384r1'],
  ] as const) {
    const path = (form: string) => join(folder, `openssl-${curve}-${form}`);
    openssl('ecparam', '-name', name, '-genkey', '-out', path('sec1'));
    openssl('pkcs8', '-topk8', '-nocrypt', '-in', path('sec1'), '-out', path('pkcs8'));
    openssl(
      'pkcs8',
      '-topk8',
      '-in',
      path('sec1'),
      '-passout',
      `pass:${passphrase}`,
      '-out',
      path('pkcs8-enc'),
    );
    openssl('ec', '-in', path('sec1'), '-aes128', '-passout', `pass:${passphrase}`, '-out', path('sec1-enc'));
    openssl('pkey', '-in', path('sec1'), '-pubout', '-out', path('spki'));
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`, '-out', path('genpkey'));
    const { fingerprint } = await loadPublicKeyFile(path('spki'));
    for (const form of ['sec1', 'pkcs8', 'pkcs8-enc', 'sec1-enc']) {
      chmodSync(path(form), 0o600);
      const key = await loadPrivateKeyFile(path(form), { passphrase: () => Promise.resolve(passphrase) });
      t.equal(key.publicKey.fingerprint, fingerprint, `${curve} ${form}`);
      t.equal(sshKeygen('-i', '-m', 'PKCS8', '-f', path('spki')).split(' ')[0]?.slice(-3), curve.slice(-3));
    }
    chmodSync(path('genpkey'), 0o600);
    t.equal((await loadPrivateKeyFile(path('genpkey'))).publicKey.curve, curve);
  }
});

// The script.

async function runScript(...args: readonly string[]) {
  const output = { out: '', err: '' };
  const code = await generateKeys(args, {
    print: text => void (output.out += text),
    complain: text => void (output.err += text),
  });
  return { code, ...output };
}

void t.test('the commands that hints of key errors show produce the key or the certificate', withBoth, t => {
  const path = (name: string) => join(folder, `hint-${name}`);
  const named = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', path('key')];
  openssl('req', '-x509', ...named, '-subj', '/CN=node', '-out', path('crt'));
  const wanted = readPrivateKey(readFileSync(path('key'))).publicKey.fingerprint;
  const type = (hint: string | undefined): void => {
    const line = /: (openssl .*|printf .*)$/.exec(hint ?? '')?.[1] ?? 'false';
    execFileSync('sh', ['-c', line], { cwd: folder, input: '\n', stdio: ['pipe', 'pipe', 'ignore'] });
  };
  const hintOf = (name: string) =>
    errorOf(() => readPrivateKey(readFileSync(path(name)), undefined, path(name))).hint;

  openssl(
    'pkcs12',
    '-export',
    '-inkey',
    path('key'),
    '-in',
    path('crt'),
    '-passout',
    'pass:',
    '-out',
    path('p12'),
  );
  t.match(errorOf(() => readPrivateKey(readFileSync(path('p12')))).message, /holds a PKCS#12 bundle;/);
  type(`${hintOf('p12')} -passin pass:`);
  t.equal(
    readPrivateKey(readFileSync(join(folder, 'node-key.pem'))).publicKey.fingerprint,
    wanted,
    'PKCS#12',
  );

  writeFileSync(path('escaped'), readFileSync(path('key'), 'utf8').replaceAll('\n', '\\n'));
  type(hintOf('escaped'));
  t.equal(
    readPrivateKey(readFileSync(join(folder, 'node-key.pem'))).publicKey.fingerprint,
    wanted,
    'escaped PEM',
  );

  openssl('x509', '-in', path('crt'), '-outform', 'DER', '-out', path('der'));
  t.match(errorOf(() => readPublicKey(readFileSync(path('der')))).message, /holds a certificate in DER;/);
  type(`${hintOf('der')} > ${path('pub')}`);
  t.equal(readPublicKey(readFileSync(path('pub'))).fingerprint, wanted, 'a certificate in DER');

  openssl('x509', '-in', path('crt'), '-trustout', '-out', path('trusted'));
  const trusted = errorOf(() => fromPem(readFileSync(path('trusted'), 'utf8'), 'root certificates'));
  type(trusted.hint?.replace('FILE', path('trusted')));
  t.equal(fromPem(readFileSync(join(folder, 'plain.pem'), 'utf8'), 'x').length, 1, 'TRUSTED CERTIFICATE');
  const escaped = readFileSync(path('crt'), 'utf8').replaceAll('\n', '\\n');
  t.match(
    errorOf(() => fromPem(escaped, 'root certificates')),
    { message: /holds PEM with \\n in place of line ends/ },
  );
  t.end();
});

void t.test('generate-keys writes pairs that can be read, with private files for private keys', async t => {
  for (const [format, flag, curve] of [
    ['openssh', 'p256', 'P-256'],
    ['pem', 'p384', 'P-384'],
  ] as const) {
    const out = join(folder, `generated-${format}`);
    const run = await runScript('3', '--curve', flag, '--format', format, '--out', out);
    t.equal(run.code, 0);
    t.equal(run.err, '');
    t.equal(readdirSync(out).length, 6);
    for (const number of [1, 2, 3]) {
      const path = join(out, `client_credentials_${number}`);
      const key = await loadPrivateKeyFile(path);
      t.equal(key.publicKey.curve, curve);
      t.equal((await loadPublicKeyFile(`${path}.pub`)).fingerprint, key.publicKey.fingerprint);
      t.ok(run.out.includes(key.publicKey.fingerprint), 'it prints the fingerprint');
      t.equal(statSync(path).mode & 0o777, 0o600);
      t.match(readFileSync(path, 'utf8'), format === 'openssh' ? /BEGIN OPENSSH PRIVATE/ : /BEGIN PRIVATE/);
      t.notMatch(run.out, readFileSync(path, 'utf8').split('\n')[2] ?? '');
    }
  }
});

void t.test('generate-keys makes two pairs by default, and overwrites nothing', async t => {
  const out = join(folder, 'twice');
  t.equal((await runScript('--out', out)).code, 0);
  t.equal(readdirSync(out).length, 4);
  rmSync(join(out, 'client_credentials_1'));
  rmSync(join(out, 'client_credentials_1.pub'));
  rmSync(join(out, 'client_credentials_2'));
  const before = readdirSync(out);
  const again = await runScript('2', '--out', out);
  t.equal(again.code, 2);
  t.match(again.err, /^error: \S+client_credentials_2.pub is there already/);
  t.match(again.err, /\nhint: nothing was written/);
  t.same(readdirSync(out), before, 'one file in the way, and not one was written');
});

void t.test('generate-keys answers invalid arguments with one line and exit code 2', async t => {
  const nonsense = [
    ['0'],
    ['-1'],
    ['many'],
    ['2', '3'],
    ['--curve', 'p521'],
    ['--format', 'jwk'],
    ['--frob'],
  ];
  for (const args of nonsense) {
    const run = await runScript(...args);
    t.equal(run.code, 2, args.join(' '));
    t.match(run.err, /^error: [^\n]+\nhint: [^\n]+\n$/);
  }
  const help = await runScript('--help');
  t.equal(help.code, 0);
  t.match(help.out, /usage:/);
});

void t.test('generate-keys works through a symlink', t => {
  const folder = t.testdir({ 'make-keys.ts': t.fixture('symlink', resolve('scripts/generate-keys.ts')) });
  const command = ['--import=tsx', join(folder, 'make-keys.ts'), '1', '--out', join(folder, 'keys')];
  const { status, stdout } = spawnSync(process.execPath, command, { encoding: 'utf8' });
  t.equal(status, 0);
  t.match(stdout, 'client_credentials_1');
  t.end();
});
