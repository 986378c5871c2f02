/**
 * Tokens that must be refused, made from the means of an attacker: the public key, the claims of a valid token, and
 * time.
 */
import { constants, createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';

type Json = Readonly<Record<string, unknown>>;

export interface Victim {
  /** Header and payload of a token that would be taken. */
  readonly header: Json;
  readonly payload: Json;
  /** For tokens that only the issuer could make, and that are wrong all the same. */
  readonly key: KeyObject | Uint8Array;
  readonly publicKey?: KeyObject;
  readonly nowMs: number;
}

export type Part = Json | string | Buffer;

export function encodePart(part: Part): string {
  const bytes = typeof part === 'string' || Buffer.isBuffer(part) ? part : JSON.stringify(part);
  return Buffer.from(bytes).toString('base64url');
}

/** Signs anything at all, by the type of the key. */
export function forge(header: Part, payload: Part, key: KeyObject | Uint8Array): string {
  const input = `${encodePart(header)}.${encodePart(payload)}`;
  return `${input}.${signatureOf(Buffer.from(input), key).toString('base64url')}`;
}

function signatureOf(input: Buffer, key: KeyObject | Uint8Array): Buffer {
  if (key instanceof Uint8Array) return createHmac('sha256', key).update(input).digest();
  if (key.asymmetricKeyType === 'rsa')
    return sign('sha256', input, { key, padding: constants.RSA_PKCS1_PADDING });
  return sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' });
}

const without = (object: Json, name: string): Json =>
  Object.fromEntries(Object.entries(object).filter(([each]) => each !== name));

/** Names what is wrong, and the token. */
export function forgedTokens(victim: Victim): readonly (readonly [string, string])[] {
  return [
    ...wrongSignatures(victim),
    ...wrongHeaders(victim),
    ...wrongTimes(victim),
    ...wrongClaims(victim),
    ...wrongShapes(victim),
  ];
}

function wrongSignatures({ header, payload, key, publicKey }: Victim): [string, string][] {
  const good = forge(header, payload, key);
  const input = good.slice(0, good.lastIndexOf('.'));
  const unsigned = (alg: string): string => `${encodePart({ ...header, alg })}.${encodePart(payload)}.`;
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const hmac = { ...header, alg: 'HS256' };
  const confused: [string, Uint8Array][] = publicKey
    ? [
        ['PEM', Buffer.from(publicKey.export({ type: 'spki', format: 'pem' }).toString())],
        [
          'PEM without its last line end',
          Buffer.from(publicKey.export({ type: 'spki', format: 'pem' }).toString().trim()),
        ],
        ['DER', publicKey.export({ type: 'spki', format: 'der' })],
        ['JWK', Buffer.from(JSON.stringify(publicKey.export({ format: 'jwk' })))],
      ]
    : [];
  const last = good.at(-2) === 'A' ? 'B' : 'A';
  return [
    ...['none', 'None', 'NONE', 'nOnE', ''].map((alg): [string, string] => [`alg ${alg}`, unsigned(alg)]),
    ['alg none, but with a signature', `${unsigned('none')}${good.slice(good.lastIndexOf('.') + 1)}`],
    ['no signature', `${input}.`],
    ['no third part', input],
    ['another signature', `${good.slice(0, -2)}${last}${good.slice(-1)}`],
    ['a signature of zeros', `${input}.${Buffer.alloc(64).toString('base64url')}`],
    ['the key of somebody else', forge(header, payload, own.privateKey)],
    [
      'a payload changed after signing',
      `${encodePart(header)}.${encodePart({ ...payload, roles: ['admin'] })}.${good.slice(good.lastIndexOf('.') + 1)}`,
    ],
    ['HS256 with an empty secret', forge(hmac, payload, Buffer.of())],
    ...confused.map(([form, secret]): [string, string] => [
      `HS256 with the public key (${form})`,
      forge(hmac, payload, secret),
    ]),
    ...['HS384', 'HS512', 'ES384', 'PS256', 'EdDSA', 'es256', 'RS256 ', 'toString'].map(
      (alg): [string, string] => [`alg ${alg}`, forge({ ...header, alg }, payload, key)],
    ),
  ];
}

function wrongHeaders({ header, payload, key }: Victim): [string, string][] {
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = own.publicKey.export({ format: 'jwk' });
  const brought: Json[] = [
    { jwk },
    { jwk, kid: 'mine' },
    { jku: 'https://attacker.example/jwks.json' },
    { jku: 'http://169.254.169.254/latest/meta-data' },
    { x5u: 'https://attacker.example/chain.pem' },
    { x5c: ['MIIB'] },
    { x5t: 'AAAA' },
    { crit: ['exp'], exp: 1 },
    { crit: [] },
    { b64: true },
    { b64: false, crit: ['b64'] },
    { cty: 'JWT' },
    { zip: 'DEF' },
  ];
  const kids: unknown[] = [
    'mine',
    '../../../../dev/null',
    '/dev/null',
    '0',
    '',
    ' ',
    'x'.repeat(4000),
    '__proto__',
    'constructor',
    "' OR 1=1 --",
    'a\0b',
    `${String(header['kid'])} `,
    0,
    null,
    true,
    [header['kid']],
    { kid: header['kid'] },
  ];
  const types: unknown[] = ['JWT', 'jwt', 'logout+jwt', 'dpop+jwt', '', null, 1, ['at+jwt']];
  const name = (value: unknown): string => JSON.stringify(value).slice(0, 60);
  return [
    ...brought.flatMap((more): [string, string][] => [
      [`header ${name(more)}, own key`, forge({ ...header, alg: 'ES256', ...more }, payload, own.privateKey)],
      [`header ${name(more)}, right key`, forge({ ...header, ...more }, payload, key)],
    ]),
    ...kids.map((kid): [string, string] => [`kid ${name(kid)}`, forge({ ...header, kid }, payload, key)]),
    [
      'kid of a file that is empty',
      forge({ ...header, alg: 'HS256', kid: '../../../../dev/null' }, payload, Buffer.of()),
    ],
    ['no kid', forge(without(header, 'kid'), payload, key)],
    ...types.map((typ): [string, string] => [`typ ${name(typ)}`, forge({ ...header, typ }, payload, key)]),
    ['no typ', forge(without(header, 'typ'), payload, key)],
    ['no alg', forge(without(header, 'alg'), payload, key)],
    ['alg twice', forge(`{"alg":"none",${JSON.stringify(header).slice(1)}`, payload, key)],
    [
      'kid twice, once escaped',
      forge(`{"k\\u0069d":"mine",${JSON.stringify(header).slice(1)}`, payload, key),
    ],
    ['a header that is a list', forge('[]', payload, key)],
    ['a header that is null', forge('null', payload, key)],
    ['a header that is no JSON', forge('{alg:1}', payload, key)],
  ];
}

function wrongTimes({ header, payload, key, nowMs }: Victim): [string, string][] {
  const now = Math.floor(nowMs / 1000);
  const odd: unknown[] = [
    null,
    '',
    '9999999999',
    `${now + 60}`,
    -1,
    0,
    now + 0.5,
    1e18,
    [now + 60],
    { now },
    true,
  ];
  const raw = (name: string, value: string): string =>
    forge(header, `${JSON.stringify(without(payload, name)).slice(0, -1)},"${name}":${value}}`, key);
  return [
    ...['exp', 'iat', 'nbf'].flatMap(name => [
      [`no ${name}`, forge(header, without(payload, name), key)] as [string, string],
      ...odd
        .filter(value => name === 'exp' || value !== 0)
        .map((value): [string, string] => [
          `${name} ${JSON.stringify(value)}`,
          forge(header, { ...payload, [name]: value }, key),
        ]),
      [`${name} 1e308`, raw(name, '1e308')] as [string, string],
      [`${name} 1e999`, raw(name, '1e999')] as [string, string],
    ]),
    ['nbf in ten minutes', forge(header, { ...payload, nbf: now + 600, exp: now + 900 }, key)],
    ['iat in ten minutes', forge(header, { ...payload, iat: now + 600, exp: now + 900 }, key)],
    ['exp before iat', forge(header, { ...payload, iat: now, nbf: now - 10, exp: now - 1 }, key)],
    ['a life of 401 days', forge(header, { ...payload, iat: now, exp: now + 401 * 86_400 }, key)],
  ];
}

function wrongClaims({ header, payload, key }: Victim): [string, string][] {
  const aud = String(payload['aud']);
  const wrong: Json[] = [
    { iss: 'https://attacker.example' },
    { iss: `${String(payload['iss'])}/` },
    { iss: [payload['iss']] },
    { iss: 1 },
    { aud: 'another' },
    { aud: '' },
    { aud: [] },
    { aud: [aud, 'another'] },
    { aud: ['another', aud] },
    { aud: [[aud]] },
    { aud: aud.toUpperCase() },
    { aud: `${aud} ` },
    { aud: null },
    { aud: { 0: aud, length: 1 } },
    { sub: '' },
    { sub: 7 },
    { sub: null },
    { sub: ['user:1'] },
    { sub: 'x'.repeat(600) },
    { sub: 'user:\u001b[2J' },
    { sub: 'user:\nx' },
    { jti: '' },
    { jti: 1 },
    { tenant_id: '' },
    { tenant_id: null },
    { tenant_id: ['default'] },
    { tenant_id: 'a\u202eb' },
    { roles: 'admin' },
    { roles: [1] },
    { roles: [['admin']] },
    { roles: null },
    { roles: { 0: 'admin' } },
    { roles: Array.from({ length: 101 }, () => 'r') },
    { scope: ['nodes:read'] },
    { scope: null },
    { scope: 1 },
    { sid: 1 },
    { sid: '' },
    { sid: {} },
    { cnf: 'x' },
    { cnf: {} },
    { cnf: { jkt: 'A'.repeat(43) } },
    { cnf: { 'x5t#S256': 'short' } },
    { cnf: null },
    { cnf: { 'x5t#S256': 'A'.repeat(43), jkt: 'A'.repeat(43) } },
  ];
  const text = JSON.stringify(payload);
  return [
    ...wrong.map((claims): [string, string] => [
      JSON.stringify(claims).slice(0, 60),
      forge(header, { ...payload, ...claims }, key),
    ]),
    ...['iss', 'sub', 'aud', 'jti', 'tenant_id'].map((name): [string, string] => [
      `no ${name}`,
      forge(header, without(payload, name), key),
    ]),
    ['a claim from the prototype', forge(header, `{"__proto__":${text}}`, key)],
    ['aud twice, the last is right', forge(header, `{"aud":"another",${text.slice(1)}`, key)],
    [
      'aud twice, both right',
      forge(header, `{"aud":${JSON.stringify(payload['aud'])},${text.slice(1)}`, key),
    ],
    ['sub twice, once escaped', forge(header, `{"s\\u0075b":"user:root",${text.slice(1)}`, key)],
    ['a member twice, further in', forge(header, `{"x":[{"a":1,"a":2}],${text.slice(1)}`, key)],
    ['half a character', forge(header, text.replace('"sub":"', '"sub":"\\ud800'), key)],
    ['a payload that is a list', forge(header, `[${text}]`, key)],
    ['a payload that is null', forge(header, 'null', key)],
    ['a payload that is text', forge(header, '"x"', key)],
    ['no payload', forge(header, '', key)],
    ['2,000 levels', forge(header, `{"x":${'['.repeat(2000)}${']'.repeat(2000)}}`, key)],
    [
      'bytes that are no UTF-8',
      forge(
        header,
        Buffer.concat([Buffer.from('{"x":"'), Buffer.of(0xff), Buffer.from(`",${text.slice(1)}`)]),
        key,
      ),
    ],
    ['a byte order mark', forge(header, `\ufeff${text}`, key)],
    ['JSON and more', forge(header, `${text}{}`, key)],
  ];
}

function wrongShapes({ header, payload, key }: Victim): [string, string][] {
  const good = forge(header, payload, key);
  const [head = '', body = '', signature = ''] = good.split('.');
  const parts = { protected: head, payload: body, signature };
  return [
    ['nothing', ''],
    ['dots', '..'],
    ['more dots', '...'],
    ['four parts', `${good}.${signature}`],
    ['five parts', `${head}.${head}.${body}.${body}.${signature}`],
    ['JSON serialization', JSON.stringify(parts)],
    ['JSON serialization with signatures', JSON.stringify({ payload: body, signatures: [parts] })],
    ['a line end after it', `${good}\n`],
    ['a space before it', ` ${good}`],
    ['padding', `${head}=.${body}.${signature}`],
    ['base64 that is not the URL kind', `${head}.${body}.${signature.slice(0, -1)}+`],
    ...otherSpelling(good),
    ['a NUL in it', `${head}.${body}\0.${signature}`],
    ['Cyrillic in it', `${head}.${body}.${signature.slice(0, -1)}а`],
    ['the header as payload', `${head}.${head}.${signature}`],
    ['1 MB of payload, well signed', forge(header, { ...payload, more: 'x'.repeat(1_000_000) }, key)],
    ['1 MB of header', forge({ ...header, more: 'x'.repeat(1_000_000) }, payload, key)],
    ['1 MB of dots', '.'.repeat(1_000_000)],
    ['1 MB of signature', `${head}.${body}.${'A'.repeat(1_000_000)}`],
    [
      'one byte more than is looked at',
      `${head}.${body}.${'A'.repeat(8 * 1024 + 1 - head.length - body.length - 2)}`,
    ],
  ];
}

/** The same bytes with another last character, where base64url leaves bits over: one token with two texts. */
function otherSpelling(good: string): [string, string][] {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const signature = good.slice(good.lastIndexOf('.') + 1);
  if (signature.length % 4 === 0) return [];
  const last = alphabet[alphabet.indexOf(good.slice(-1)) ^ 1] ?? '';
  return [['the same signature, spelt otherwise', `${good.slice(0, -1)}${last}`]];
}
