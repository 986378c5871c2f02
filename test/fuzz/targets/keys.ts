/** Key files in every form people have them, and the keys inside. */
import { createCipheriv, createHash, createPublicKey, pbkdf2Sync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { p256, p384 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import type { RollcallError } from '../../../src/base/errors.js';
import { toPem } from '../../../src/base/pem.js';
import { curveNames, curves } from '../../../src/identity/curve.js';
import { nameOfSpki } from '../../../src/identity/foreign-key.js';
import { readPrivateKey, readPublicKey } from '../../../src/identity/key-file.js';
import { formatOpensshPrivate, formatOpensshPublic } from '../../../src/identity/openssh.js';
import { encodePkcs8 } from '../../../src/identity/private-key-der.js';
import { privateKeyFromNumber, revealScalar, toPkcs8Pem } from '../../../src/identity/private-key.js';
import { parseSpki, toPoint, type Curve, type PublicKey } from '../../../src/identity/public-key.js';
import { changeBytes, changedBytes, pick, steps, type Step } from '../bytes.js';
import { branch, changeTree, leaf, nodesOf, readTree, writeTree, type DerNode } from '../der-tree.js';
import { demand, tried, type Target } from '../fuzzing.js';
import {
  changeFields,
  rawField,
  readFields,
  stringField,
  writeFields,
  type SshField,
} from '../ssh-fields.js';

const vectors = JSON.parse(
  readFileSync(new URL('../../vectors/key-files.json', import.meta.url), 'utf8'),
) as Readonly<
  Record<'accepted' | 'refused', readonly { readonly wanted: 'public' | 'private'; readonly text: string }[]>
>;
const texts = [...vectors.accepted, ...vectors.refused].map(({ text }) => text);

/** The same key in every run, so that what is kept stays valid. It protects nothing. */
export function fixedKey(curve: Curve, name = 'rollcall fuzz') {
  const { fieldBytes } = curves[curve];
  const digest = createHash('sha512').update(`${name} ${curve}`).digest();
  return privateKeyFromNumber({ curve, scalar: digest.subarray(0, fieldBytes) });
}

const keys = curveNames.map(curve => fixedKey(curve));

// The inside of a file, changed with a matching armour around it.

interface Armoured {
  readonly head: string;
  readonly body: Buffer;
  readonly tail: string;
}

function readArmour(text: string): Armoured | undefined {
  const match =
    /^([^]*-----BEGIN [A-Z0-9 ]+-----\n)((?:[A-Za-z0-9+/=]+\n)+)([^]*)$/.exec(text) ??
    /^(\S+ )(AAAA[A-Za-z0-9+/=]+)([^]*)$/.exec(text);
  const [, head = '', base64 = '', tail = ''] = match ?? [];
  return match ? { head, body: Buffer.from(base64, 'base64'), tail } : undefined;
}

function writeArmour({ head, body, tail }: Armoured): Buffer {
  const base64 = body.toString('base64');
  const lines = head.startsWith('-----') ? base64.replaceAll(/.{1,64}/g, '$&\n') : base64;
  return Buffer.from(head + lines + tail);
}

const magic = Buffer.from('openssh-key-v1\0');
const derPool = texts
  .flatMap(text => readArmour(text) ?? [])
  .filter(({ body }) => body[0] === 0x30)
  .flatMap(({ body }) => nodesOf(readTree(body)));

function changeArmoured(file: Armoured, list: readonly Step[]): Buffer {
  const { body } = file;
  const changed =
    body[0] === 0x30 ? writeTree(changeTree(readTree(body), list, derPool)) : changeSsh(body, list);
  return writeArmour({ ...file, body: changed });
}

/** The fields of a public blob, or of a private file with those of its unencrypted secret. */
function changeSsh(body: Buffer, list: readonly Step[]): Buffer {
  if (!body.subarray(0, magic.length).equals(magic)) return writeFields(changeFields(readFields(body), list));
  const inner = body.subarray(magic.length);
  const outer = readFields(inner);
  const half = list.length >> 1;
  const count = outer.findIndex(({ isString }) => !isString);
  const [start, rest] =
    count === -1 ? [outer, Buffer.of()] : [outer.slice(0, count), outer[count]?.bytes ?? Buffer.of()];
  const strings = [...start, rawField(rest.subarray(0, 4)), ...readFields(rest.subarray(4))];
  const secret = strings.at(-1)?.bytes ?? Buffer.of();
  const changed = changeFields(
    [rawField(secret.subarray(0, 8)), ...readFields(secret.subarray(8))],
    list.slice(half),
  );
  const whole = [...strings.slice(0, -1), stringField(writeFields(changed))];
  return Buffer.concat([magic, writeFields(changeFields(whole, list.slice(0, half)))]);
}

/** Accepted inputs, three times of four; refused ones otherwise. */
function keyFiles(wanted: 'public' | 'private'): fc.Arbitrary<Buffer> {
  const good = vectors.accepted.filter(each => each.wanted === wanted).map(({ text }) => text);
  return fc
    .tuple(fc.nat(3), fc.noBias(fc.nat()), fc.boolean(), steps)
    .map(([from, number, isInside, list]) => {
      const text = pick(from === 0 ? texts : good, number);
      const file = isInside ? readArmour(text) : undefined;
      return file ? changeArmoured(file, list) : changeBytes(Buffer.from(text), list, files);
    });
}

const files = texts.map(text => Buffer.from(text));

// The promises of a key reader.

function checkPublicKey(key: PublicKey): void {
  demand(parseSpki(key.spki).spki.equals(key.spki), 'the SPKI is canonical');
  const { Point } = key.curve === 'P-256' ? p256 : p384;
  demand(!Point.fromBytes(toPoint(key)).is0(), 'the point is on its curve');
}

/** Nothing of the file is in the words; what is shorter may be a word of the sentence. */
function checkSecrecy(input: Buffer, { message, hint = '' }: RollcallError): void {
  const said = `${message} ${hint}`;
  demand(!said.includes('\n'), 'one line');
  const words = input.subarray(0, 16_384).toString('latin1').split(/\s+/);
  demand(!words.some(word => word.length > 24 && said.includes(word)), 'nothing of the file is repeated');
}

function reading<T>(input: Buffer, read: () => T, keep: (value: T) => void): string {
  const result = tried(read, 'KEY_UNSUPPORTED', 'KEY_PASSPHRASE');
  if ('refusal' in result) {
    checkSecrecy(input, result.refusal);
    return result.refusal.code;
  }
  keep(result.value);
  return 'read';
}

const proven = new Set<string>();

function checkPrivateFile(input: Buffer, passphrase?: string): string {
  return reading(
    input,
    () => readPrivateKey(input, passphrase),
    key => {
      // Most changes leave the key as it was, and keys take long to make.
      if (proven.has(key.publicKey.fingerprint)) return;
      proven.add(key.publicKey.fingerprint);
      checkPublicKey(key.publicKey);
      for (const text of [toPkcs8Pem(key), formatOpensshPrivate(key, 'again')]) {
        const again = readPrivateKey(Buffer.from(text));
        demand(Buffer.from(revealScalar(again)).equals(revealScalar(key)), 'what is written is read again');
      }
    },
  );
}

const publicFiles: Target = {
  name: 'readPublicKey',
  inputs: keyFiles('public'),
  reaches: ['read', 'KEY_UNSUPPORTED'],
  check: input =>
    reading(
      input,
      () => readPublicKey(input),
      key => {
        checkPublicKey(key);
        const { comment = '' } = key;
        demand(
          comment.length <= 256 && !/\p{C}/u.test(comment),
          `a comment to print: ${JSON.stringify(comment)}`,
        );
        const again = readPublicKey(Buffer.from(formatOpensshPublic(key, comment)));
        demand(again.spki.equals(key.spki), 'what is written is read again');
      },
    ),
};

const privateFiles: Target = {
  name: 'readPrivateKey',
  inputs: keyFiles('private'),
  reaches: ['read', 'KEY_UNSUPPORTED', 'KEY_PASSPHRASE'],
  check: input => checkPrivateFile(input),
};

// Encrypted files: every change outside the encryption and inside of it, under the right passphrase.

const passphrase = 'fuzz';
const hex = (text: string) => Buffer.from(text, 'hex');
const plainKeys = keys.map(key => {
  const { curve } = key.publicKey;
  return readTree(encodePkcs8(curve, revealScalar(key), toPoint(key.publicKey)));
});
const plainPool = [...plainKeys.flatMap(nodesOf), ...derPool];

/** RFC 8018: PBES2, PBKDF2 with HMAC-SHA-256, AES-256-CBC. */
function encryptPkcs8(plain: Buffer): DerNode {
  const [salt, iv] = [Buffer.alloc(8, 1), Buffer.alloc(16, 2)];
  const cipher = createCipheriv('aes-256-cbc', pbkdf2Sync(passphrase, salt, 1, 32, 'sha256'), iv);
  const parameters = branch(
    0x30,
    leaf(0x04, salt),
    leaf(0x02, Buffer.of(1)),
    branch(0x30, leaf(0x06, hex('2a864886f70d0209')), leaf(0x05, hex(''))),
  );
  const scheme = branch(
    0x30,
    branch(0x30, leaf(0x06, hex('2a864886f70d01050c')), parameters),
    branch(0x30, leaf(0x06, hex('60864801650304012a')), leaf(0x04, iv)),
  );
  return branch(
    0x30,
    branch(0x30, leaf(0x06, hex('2a864886f70d01050d')), scheme),
    leaf(0x04, Buffer.concat([cipher.update(plain), cipher.final()])),
  );
}

const encryptedFiles: Target = {
  name: 'readPrivateKey, encrypted',
  inputs: fc.tuple(fc.noBias(fc.nat()), steps, steps, fc.nat(3)).map(([number, inside, outside, mode]) => {
    if (mode === 0) return changeBytes(pick(encryptedPems, number), outside, encryptedPems);
    const plain = writeTree(changeTree(pick(plainKeys, number), mode === 1 ? [] : inside, plainPool));
    const whole = changeTree(encryptPkcs8(plain), mode === 2 ? [] : outside, derPool);
    return Buffer.from(toPem(writeTree(whole), 'ENCRYPTED PRIVATE KEY'));
  }),
  reaches: ['read', 'KEY_UNSUPPORTED', 'KEY_PASSPHRASE'],
  check: input => checkPrivateFile(input, passphrase),
};

const encryptedPems = plainKeys.map(plain =>
  Buffer.from(toPem(writeTree(encryptPkcs8(writeTree(plain))), 'ENCRYPTED PRIVATE KEY')),
);

/** The P-256 key above, by `ssh-keygen -a 1 -Z aes256-ctr -N fuzz`: one round, since each costs 20 ms. */
const opensshEncrypted = Buffer.from(
  'b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABCWAnOBY8EvE+c1ckZGg4cyAAAAAQAAAAEAAABoAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGjtvRa7BxEJUl9TIR4LQlM88aLmvyxNl1rI+EntRwh35rx5D1zXnEPvWHM+s570nfAv0D3ybmkkI4MweAtxpkgAAACg0CML+JA6H5S0ad5gJo7Q2Jpq5tbQXF0tV1ORD/wkYzFLQtsOjPXz4E6jgihUe/tHv7hDdaLrGrgo5njccam6Mb8pXIcxe6L4LydNayP30MWTQyTtLTj5o2Sh+UAwzSq/w/FFAlGMuoPXnn1wUoGmSOeF5w+VMjmb65GXCwPP3EQhzag3MBagWctV8J1zn8/iJqnU2HR45HGy1o2xnlhmiw==',
  'base64',
);

/** The fields of its secret behind the two check numbers, which were drawn. */
function opensshSecret(): SshField[] {
  const [key] = keys;
  if (!key) throw new Error('no key');
  const scalar = Buffer.from(revealScalar(key));
  const mpint = (scalar[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), scalar]) : scalar;
  return [
    stringField('ecdsa-sha2-nistp256'),
    stringField('nistp256'),
    stringField(toPoint(key.publicKey)),
    stringField(mpint),
    stringField('fuzz'),
  ];
}

/** In counter mode anyone who knows the text can write another one in its place without the key. */
function rewriteSecret(container: Buffer, list: readonly Step[]): Buffer {
  const start = container.length - 160 + 8;
  const padded = (fields: readonly SshField[]) =>
    Buffer.concat([writeFields(fields), Buffer.from(Array.from({ length: 16 }, (_, index) => index + 1))]);
  const old = padded(opensshSecret());
  const wanted = padded(changeFields(opensshSecret(), list));
  const changed = container
    .subarray(start)
    .map((byte, index) => byte ^ (old[index] ?? 0) ^ (wanted[index] ?? 0));
  return Buffer.concat([container.subarray(0, start), changed]);
}

const encryptedOpenssh: Target = {
  name: 'readPrivateKey, encrypted OpenSSH',
  weight: 100,
  inputs: fc.tuple(steps, steps, fc.nat(2)).map(([inside, outside, mode]) => {
    const body = rewriteSecret(opensshEncrypted, mode === 0 ? [] : inside);
    const changed = mode === 1 ? body : changeOuter(body, outside);
    return Buffer.from(toPem(changed, 'OPENSSH PRIVATE KEY'));
  }),
  reaches: ['read', 'KEY_UNSUPPORTED', 'KEY_PASSPHRASE'],
  check: input => checkPrivateFile(input, passphrase),
};

/** The fields around the encryption; the public blob is what a passphrase does not guard. */
function changeOuter(body: Buffer, list: readonly Step[]): Buffer {
  const inner = body.subarray(magic.length);
  const strings = readFields(inner);
  return Buffer.concat([magic, writeFields(changeFields(strings, list))]);
}

// Keys that come over the wire.

const spkis = keys.map(({ publicKey }) => readTree(publicKey.spki));

function opensslTakes(der: Buffer): boolean {
  try {
    return createPublicKey({ key: der, format: 'der', type: 'spki' }).asymmetricKeyType === 'ec';
  } catch {
    return false;
  }
}

const spkiBytes: Target = {
  name: 'parseSpki',
  inputs: fc.oneof(
    changedBytes(keys.map(({ publicKey }) => publicKey.spki)),
    fc
      .tuple(fc.noBias(fc.nat()), steps)
      .map(([number, list]) => writeTree(changeTree(pick(spkis, number), list, derPool))),
  ),
  reaches: ['read', 'KEY_UNSUPPORTED'],
  check(input) {
    demand(nameOfSpki(input).length > 0, 'every key has a name');
    const isCanonical = curveNames.some(curve => {
      const { spkiPrefix, fieldBytes } = curves[curve];
      return (
        input.length === spkiPrefix.length + 2 * fieldBytes &&
        input.subarray(0, spkiPrefix.length).equals(spkiPrefix)
      );
    });
    const result = tried(() => parseSpki(input), 'KEY_UNSUPPORTED');
    // Only the canonical form may be shown to OpenSSL: others can end the process.
    demand('value' in result === (isCanonical && opensslTakes(input)), 'the canonical form and nothing else');
    if ('refusal' in result) return 'KEY_UNSUPPORTED';
    demand(result.value.spki.equals(input), 'what is kept is what came');
    checkPublicKey(result.value);
    return 'read';
  },
};

export const keyTargets = [publicFiles, privateFiles, encryptedFiles, encryptedOpenssh, spkiBytes];
