import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { isRollcallError } from '../../src/base/errors.js';
import { formatOpensshPrivate, formatOpensshPublic } from '../../src/identity/openssh.js';
import {
  generatePrivateKey,
  privateKeyFromKeyObject,
  privateKeyFromNumber,
  revealScalar,
  toPkcs8Pem,
  toSpkiPem,
  type PrivateKey,
} from '../../src/identity/private-key.js';
import { parseSpki, toSshBlob, type Curve } from '../../src/identity/public-key.js';
import { verifySignature } from '../../src/identity/signature.js';

const bothCurves: readonly Curve[] = ['P-256', 'P-384'];
const sizes = { 'P-256': 91, 'P-384': 120 };

function spkiOf(curve: string, form: 'uncompressed' | 'compressed' | 'hybrid' = 'uncompressed'): Buffer {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
  const der = publicKey.export({ type: 'spki', format: 'der' });
  if (form === 'uncompressed') return der;
  const { x, y } = publicKey.export({ format: 'jwk' });
  const [left, right] = [Buffer.from(x ?? '', 'base64url'), Buffer.from(y ?? '', 'base64url')];
  const parity = (right.at(-1) ?? 0) & 1;
  const point =
    form === 'compressed'
      ? Buffer.concat([Buffer.of(2 + parity), left])
      : Buffer.concat([Buffer.of(6 + parity), left, right]);
  const algorithm = der.subarray(2, 2 + 2 + (der[3] ?? 0));
  const bits = Buffer.concat([Buffer.of(0x03, point.length + 1, 0), point]);
  return Buffer.concat([Buffer.of(0x30, algorithm.length + bits.length), algorithm, bits]);
}

/** The message of the refusal, after checking that it is one. */
function refusalOf(der: Uint8Array): string {
  try {
    parseSpki(der);
  } catch (error) {
    if (isRollcallError(error, 'KEY_UNSUPPORTED')) return error.message;
    throw error;
  }
  throw new Error(`accepted: ${Buffer.from(der).toString('hex')}`);
}

void t.test('a public key in canonical form is read without any change', t => {
  for (const curve of bothCurves) {
    const der = spkiOf(curve);
    const key = parseSpki(der);
    t.equal(key.curve, curve);
    t.equal(key.spki.length, sizes[curve]);
    t.same(key.spki, der);
    t.not(key.spki.buffer, der.buffer, 'it keeps a copy');
    t.same(key.keyObject.export({ type: 'spki', format: 'der' }), der);
    t.match(key.fingerprint, /^SHA256:[A-Za-z0-9+/]{43}$/);
    t.ok(key.spki.equals(parseSpki(der).spki));
    t.notOk(key.spki.equals(parseSpki(spkiOf(curve)).spki));
  }
  t.end();
});

void t.test('a public key in another form is refused by name before a parser sees it', t => {
  const valid = spkiOf('P-256');
  const flipped = Buffer.from(valid);
  flipped[90] = (flipped[90] ?? 0) ^ 1;
  const outsideField = Buffer.concat([valid.subarray(0, 27), Buffer.alloc(64, 0xff)]);
  const foreign = (type: 'rsa' | 'ed25519' | 'x25519' | 'ed448') =>
    (type === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateOkp(type)
    ).publicKey.export({
      type: 'spki',
      format: 'der',
    });
  const explicit = generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' });
  const explicitSpki = explicit.publicKey.export({ type: 'spki', format: 'der' });
  const takenByOpenssl = [explicitSpki, spkiOf('P-256', 'compressed'), spkiOf('P-256', 'hybrid')];
  for (const der of takenByOpenssl) {
    const { type } = createPublicKey({ key: der, format: 'der', type: 'spki' });
    t.equal(type, 'public', 'a bare parser takes it, so what refuses it below stands before the parser');
  }
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['explicit curve parameters', explicitSpki, /explicit curve parameters/],
    ['a compressed point', spkiOf('P-256', 'compressed'), /compressed point/],
    ['a compressed point on P-384', spkiOf('P-384', 'compressed'), /compressed point/],
    ['a hybrid point', spkiOf('P-256', 'hybrid'), /hybrid point/],
    ['a byte after the end', Buffer.concat([valid, Buffer.of(0)]), /cut off or has bytes after/],
    ['a whole key after the end', Buffer.concat([valid, valid]), /cut off or has bytes after/],
    ['the last byte missing', valid.subarray(0, -1), /cut off or has bytes after/],
    ['a point off the curve', flipped, /not on its curve/],
    ['coordinates outside the field', outsideField, /not on its curve/],
    ['x = y = 0', Buffer.concat([valid.subarray(0, 27), Buffer.alloc(64)]), /not on its curve/],
    ['a P-384 point said to be on P-256', mixed(), /not on its curve or not of its size/],
    ['secp256k1', spkiOf('secp256k1'), /an EC key on secp256k1/],
    ['P-521', spkiOf('P-521'), /an EC key on P-521/],
    ['P-224', spkiOf('secp224r1'), /an EC key on P-224/],
    ['Ed25519', foreign('ed25519'), /an Ed25519 key/],
    ['X25519', foreign('x25519'), /an X25519 key/],
    ['Ed448', foreign('ed448'), /an Ed448 key/],
    ['RSA', foreign('rsa'), /an RSA key of 2048 bits/],
    ['nothing', Buffer.of(), /not a public key/],
    ['text', Buffer.from('-----BEGIN PUBLIC KEY-----'), /not a public key/],
    ['ten megabytes of zeros', Buffer.alloc(10_000_000), /not a public key/],
  ];
  for (const [what, der, message] of cases) {
    const refusal = refusalOf(der);
    t.match(refusal, message, what);
    t.match(
      refusal,
      /^this key is [^\n]+; expected an ECDSA public key on P-256 or P-384[^\n]*$/,
      'one line',
    );
  }
  t.end();
});

function generateOkp(type: 'ed25519' | 'x25519' | 'ed448') {
  if (type === 'ed25519') return generateKeyPairSync('ed25519');
  return type === 'x25519' ? generateKeyPairSync('x25519') : generateKeyPairSync('ed448');
}

function mixed(): Buffer {
  const algorithm = Buffer.from('301306072a8648ce3d020106082a8648ce3d030107', 'hex');
  const bits = Buffer.concat([Buffer.of(0x03, 98, 0), spkiOf('P-384').subarray(-97)]);
  return Buffer.concat([Buffer.of(0x30, algorithm.length + bits.length), algorithm, bits]);
}

void t.test('every key that parseSpki accepts encodes to the same bytes', t => {
  const seeds = bothCurves.map(curve => spkiOf(curve));
  const mutated = fc
    .record({
      seed: fc.constantFrom(...seeds),
      at: fc.nat(130),
      drop: fc.nat(3),
      insert: fc.uint8Array({ maxLength: 3 }),
      flip: fc.integer({ min: 0, max: 255 }),
    })
    .map(({ seed, at, drop, insert, flip }) => {
      const bytes = Buffer.concat([seed.subarray(0, at), insert, seed.subarray(at + drop)]);
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ flip;
      return bytes;
    });
  let accepted = 0;
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 130 })), bytes => {
      try {
        const key = parseSpki(bytes);
        accepted += 1;
        return key.spki.equals(bytes) && key.keyObject.export({ type: 'spki', format: 'der' }).equals(bytes);
      } catch (error) {
        return isRollcallError(error, 'KEY_UNSUPPORTED');
      }
    }),
    { numRuns: 3000 },
  );
  t.ok(accepted > 0, `${accepted} were accepted`);
  t.end();
});

void t.test('a private key shows only its fingerprint when it is printed', t => {
  for (const curve of bothCurves) {
    const key = generatePrivateKey(curve);
    const scalar = Buffer.from(revealScalar(key));
    const views = [
      inspect(key, { depth: 9, showHidden: true, getters: true }),
      inspect(key, { customInspect: false, depth: 9, showHidden: true }),
      inspect({ nested: [key] }),
      JSON.stringify({ key }),
      ''.concat(key as unknown as string),
      Object.values(key).map(String).join(),
      JSON.stringify(Object.getOwnPropertyDescriptors(key)),
    ];
    const secrets = [scalar.toString('hex'), scalar.toString('base64'), scalar.join(','), scalar.join(', ')];
    for (const view of views) t.notOk(secrets.some(secret => view.includes(secret)));
    t.match(inspect(key), key.publicKey.fingerprint);
    t.equal((JSON.parse(JSON.stringify(key)) as string).includes(key.publicKey.fingerprint), true);
    t.throws(() => {
      (key as { sign: unknown }).sign = undefined;
    }, 'it cannot be changed');
  }
  t.end();
});

void t.test('a key held elsewhere signs but cannot be written to a file', t => {
  const inside = generatePrivateKey('P-256');
  const elsewhere: PrivateKey = { publicKey: inside.publicKey, sign: message => inside.sign(message) };
  t.throws(() => toPkcs8Pem(elsewhere), { code: 'KEY_UNSUPPORTED' });
  t.end();
});

void t.test('signatures are those of RFC 6979 A.2.5 and A.2.6', t => {
  const cases = [
    {
      curve: 'P-256',
      scalar: 'C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721',
      r: 'EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716',
      s: 'F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8',
    },
    {
      curve: 'P-384',
      scalar:
        '6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5',
      r: '94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46',
      s: '99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8',
    },
  ] as const;
  for (const { curve, scalar, r, s } of cases) {
    const key = privateKeyFromNumber({ curve, scalar: Buffer.from(scalar, 'hex') });
    const signature = key.sign(Buffer.from('sample')).toString('hex').toUpperCase();
    t.ok(signature.includes(r) && signature.endsWith(s), curve);
  }
  t.end();
});

void t.test('signatures of node:crypto and of noble verify with each other', async t => {
  const message = Buffer.from('a message');
  for (const curve of bothCurves) {
    const hash = curve === 'P-256' ? 'sha256' : 'sha384';
    const key = generatePrivateKey(curve);
    const signature = key.sign(message);
    t.same(key.sign(message), signature, 'deterministic');
    t.ok(verify(hash, message, key.publicKey.keyObject, signature));
    t.ok(await verifySignature(key.publicKey, message, signature));
    const again = sign(hash, message, createPrivateKey(toPkcs8Pem(key)));
    t.ok(await verifySignature(key.publicKey, message, again));
    t.notOk(await verifySignature(generatePrivateKey(curve).publicKey, message, signature));
  }
});

void t.test('PKCS#8 and SPKI are the bytes OpenSSL writes', t => {
  for (const curve of bothCurves) {
    const pair = generateKeyPairSync('ec', { namedCurve: curve });
    const key = privateKeyFromKeyObject(pair.privateKey);
    t.equal(toPkcs8Pem(key), pair.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    t.equal(toSpkiPem(key.publicKey), pair.publicKey.export({ type: 'spki', format: 'pem' }));
    t.same(createPublicKey(toPkcs8Pem(key)).export({ type: 'spki', format: 'der' }), key.publicKey.spki);
  }
  t.end();
});

void t.test('key objects of other types are refused', t => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  t.throws(() => privateKeyFromKeyObject(rsa.privateKey), { code: 'KEY_UNSUPPORTED' });
  t.throws(() => privateKeyFromKeyObject(rsa.publicKey), { code: 'KEY_UNSUPPORTED' });
  const k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
  t.throws(() => privateKeyFromKeyObject(k1.privateKey), { code: 'KEY_UNSUPPORTED' });
  t.end();
});

void t.test('a private number out of range, or with the wrong public key, is refused', t => {
  const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');
  for (const scalar of [Buffer.alloc(32), order, Buffer.alloc(32, 0xff)]) {
    t.throws(() => privateKeyFromNumber({ curve: 'P-256', scalar }), { code: 'KEY_UNSUPPORTED' });
  }
  const key = generatePrivateKey('P-256');
  const point = generatePrivateKey('P-256').publicKey.spki.subarray(26);
  t.throws(() => privateKeyFromNumber({ curve: 'P-256', scalar: revealScalar(key), point }), {
    code: 'KEY_UNSUPPORTED',
    message: /do not belong together/,
  });
  t.end();
});

void t.test('keys are generated from all of the given randomness', t => {
  for (const curve of bothCurves) {
    const drawn: number[] = [];
    const fixed = (size: number) => {
      drawn.push(size);
      return Buffer.alloc(size, 5);
    };
    const key = generatePrivateKey(curve, fixed);
    t.ok(key.publicKey.spki.equals(generatePrivateKey(curve, fixed).publicKey.spki));
    t.ok((drawn[0] ?? 0) >= (curve === 'P-256' ? 40 : 56), 'at least 64 bits more than the order');
    t.notOk(generatePrivateKey(curve).publicKey.spki.equals(generatePrivateKey(curve).publicKey.spki));
  }
  t.end();
});

void t.test('a comment of a key cannot break out of its line', t => {
  const key = generatePrivateKey('P-256');
  t.equal(formatOpensshPublic(key.publicKey, 'a\nssh-rsa AAAA').split('\n').length, 2);
  t.equal(formatOpensshPublic(key.publicKey, '').split(' ').length, 2);
  t.match(formatOpensshPrivate(key, 'x'), /^-----BEGIN OPENSSH PRIVATE KEY-----\n/);
  t.match(toSshBlob(key.publicKey).toString('latin1'), 'ecdsa-sha2-nistp256');
  t.end();
});
