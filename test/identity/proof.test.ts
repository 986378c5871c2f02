import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { privateKeyFromNumber } from '../../src/identity/private-key.js';
import { parseSpki, type Curve } from '../../src/identity/public-key.js';
import { isStrictSignature, verifySignature } from '../../src/identity/signature.js';
import { encodeTranscript, transcriptLabel, type Transcript } from '../../src/identity/transcript.js';

function readVectors(name: string, folder = '../../docs/vectors'): unknown {
  return JSON.parse(readFileSync(new URL(`${folder}/${name}`, import.meta.url), 'utf8'));
}

const bytes = (hex: string) => Buffer.from(hex, 'hex');

/** A transcript as JSON writes it. */
type Fields = Readonly<Record<Exclude<keyof Transcript, 'role'>, string>> & Pick<Transcript, 'role'>;

function transcriptOf(fields: Fields): Transcript {
  return {
    ...fields,
    binding: bytes(fields.binding),
    nonce: bytes(fields.nonce),
    nodeKey: bytes(fields.nodeKey),
    sessionKey: bytes(fields.sessionKey),
    generation: BigInt(fields.generation),
  };
}

void t.test('transcripts are encoded as in the vectors', t => {
  const { label, cases } = readVectors('transcript.json') as {
    readonly label: string;
    readonly cases: readonly { readonly name: string; readonly fields: Fields; readonly encoded: string }[];
  };
  t.equal(label, transcriptLabel);
  for (const { name, fields, encoded } of cases) {
    t.equal(encodeTranscript(transcriptOf(fields)).toString('hex'), encoded, name);
  }
  t.equal(new Set(cases.map(({ encoded }) => encoded)).size, cases.length, 'all different');
  t.end();
});

/** Reads the length-prefixed fields back; written here anew, from the description alone. */
function splitFields(encoded: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let at = 0; at < encoded.length;) {
    const length = encoded.readUInt32BE(at);
    if (at + 4 + length > encoded.length) throw new Error('cut off');
    fields.push(encoded.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields;
}

const arbitraryText = fc.string({ unit: fc.constantFrom('a', 'b', '\0', 'é', '\u0001'), maxLength: 4 });
const arbitraryBytes = fc.uint8Array({ max: 4, maxLength: 5 });
const arbitraryTranscript: fc.Arbitrary<Transcript> = fc.record({
  role: fc.constantFrom('node' as const, 'session' as const),
  trustDomain: arbitraryText,
  tenant: arbitraryText,
  bindingType: arbitraryText,
  binding: arbitraryBytes,
  nonce: arbitraryBytes,
  nodeKey: arbitraryBytes,
  sessionKey: arbitraryBytes,
  generation: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
});

void t.test('different transcripts never encode to the same bytes', t => {
  fc.assert(
    fc.property(arbitraryTranscript, transcript => {
      const fields = splitFields(encodeTranscript(transcript));
      const { role, trustDomain, tenant, bindingType, binding, nonce, nodeKey, sessionKey } = transcript;
      const wanted = [
        transcriptLabel,
        role,
        trustDomain,
        tenant,
        bindingType,
        binding,
        nonce,
        nodeKey,
        sessionKey,
      ];
      return (
        fields.length === 10 &&
        wanted.every((field, index) => fields[index]?.equals(Buffer.from(field))) &&
        fields[9]?.readBigUInt64BE() === transcript.generation
      );
    }),
  );
  fc.assert(
    fc.property(arbitraryTranscript, arbitraryTranscript, (a, b) => {
      const same = JSON.stringify(a, bigintText) === JSON.stringify(b, bigintText);
      return encodeTranscript(a).equals(encodeTranscript(b)) === same;
    }),
  );
  t.end();
});

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

void t.test('a generation outside of unsigned 64 bits is refused in a transcript', t => {
  const transcript = fc.sample(arbitraryTranscript, 1)[0];
  if (!transcript) throw new Error('no sample');
  for (const generation of [-1n, 1n << 64n]) {
    t.throws(() => encodeTranscript({ ...transcript, generation }), { code: 'PROTOCOL_INVALID' });
  }
  t.end();
});

interface ProofVectors {
  readonly keys: Readonly<
    Record<
      string,
      { readonly curve: Curve; readonly scalar: string; readonly spki: string; readonly fingerprint: string }
    >
  >;
  readonly cases: readonly {
    readonly name: string;
    readonly key: string;
    readonly fields: Fields;
    readonly signature: string;
    readonly valid: boolean;
    readonly deterministic?: boolean;
    readonly strictDer?: boolean;
  }[];
}

function keyNamed(keys: ProofVectors['keys'], name: string): ProofVectors['keys'][string] {
  const key = keys[name];
  if (!key) throw new Error(`no key ${name}`);
  return key;
}

void t.test('node:crypto accepts and refuses the proofs of the vectors as stated', async t => {
  const { keys, cases } = readVectors('proof.json') as ProofVectors;
  for (const { name, key, fields, signature, valid, deterministic, strictDer } of cases) {
    const { spki, curve, scalar, fingerprint } = keyNamed(keys, key);
    const publicKey = parseSpki(bytes(spki));
    t.equal(publicKey.fingerprint, fingerprint);
    const message = encodeTranscript(transcriptOf(fields));
    t.equal(await verifySignature(publicKey, message, bytes(signature)), valid, name);
    t.equal(isStrictSignature(bytes(signature), curve), strictDer !== false, `strict DER: ${name}`);
    if (deterministic) {
      const privateKey = privateKeyFromNumber({ curve, scalar: bytes(scalar) });
      t.equal(privateKey.publicKey.spki.toString('hex'), spki);
      t.equal(privateKey.sign(message).toString('hex'), signature, `by @noble/curves: ${name}`);
    }
  }
  t.ok(cases.filter(({ valid }) => valid).length >= 6 && cases.some(({ valid }) => !valid));
});

interface Wycheproof {
  readonly numberOfTests: number;
  readonly testGroups: readonly {
    readonly publicKeyDer: string;
    readonly tests: readonly {
      readonly tcId: number;
      readonly comment: string;
      readonly flags: readonly string[];
      readonly msg: string;
      readonly sig: string;
      readonly result: 'valid' | 'invalid' | 'acceptable';
    }[];
  }[];
}

/**
 * Cases with one of these flags are refused for their encoding or range, before any arithmetic. `acceptable` does not
 * occur in this edition (BER encodings are `invalid` in it); if it did, strict DER would mean refused.
 */
const encodingFlags = ['BerEncodedSignature', 'InvalidEncoding', 'InvalidTypesInSignature', 'MissingZero'];

for (const file of ['ecdsa_secp256r1_sha256_test.json', 'ecdsa_secp384r1_sha384_test.json']) {
  void t.test(`every case of Wycheproof's ${file} gives the expected answer`, async t => {
    const { numberOfTests, testGroups } = readVectors(file, '../vectors/wycheproof') as Wycheproof;
    const wrong: string[] = [];
    const laterThanExpected: string[] = [];
    let count = 0;
    for (const { publicKeyDer, tests } of testGroups) {
      const key = parseSpki(bytes(publicKeyDer));
      for (const { tcId, comment, flags, msg, sig, result } of tests) {
        count += 1;
        const verdict = await verifySignature(key, bytes(msg), bytes(sig));
        if (verdict !== (result === 'valid')) wrong.push(`${tcId} ${comment}: ${result}`);
        const isEncoding = flags.some(flag => encodingFlags.includes(flag));
        if (isEncoding && isStrictSignature(bytes(sig), key.curve))
          laterThanExpected.push(`${tcId} ${comment}`);
      }
    }
    t.same(wrong, []);
    t.same(laterThanExpected, [], 'bad encodings stop at the first check');
    t.equal(count, numberOfTests);
    t.ok(count > 400);
  });
}

void t.test('checking a signature never throws, and only a valid signature passes', async t => {
  const { keys, cases } = readVectors('proof.json') as ProofVectors;
  const valid = cases.filter(each => each.valid && each.deterministic);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...valid),
      fc.nat(110),
      fc.integer({ min: 1, max: 255 }),
      fc.uint8Array({ maxLength: 120 }),
      async ({ key, fields, signature }, at, flip, noise) => {
        const publicKey = parseSpki(bytes(keyNamed(keys, key).spki));
        const message = encodeTranscript(transcriptOf(fields));
        const changed = bytes(signature);
        changed[at % changed.length] = (changed[at % changed.length] ?? 0) ^ flip;
        return (
          !(await verifySignature(publicKey, message, changed)) &&
          !(await verifySignature(publicKey, message, noise))
        );
      },
    ),
    { numRuns: 300 },
  );
  t.pass('300 changed signatures');
});
