/**
 * Checks the vectors of the proof as docs/protocol.md describes it, with node:crypto alone and nothing of Rollcall: what
 * an implementation in another language does first.
 *
 *   node docs/vectors/check-proofs.js [TRANSCRIPTS PROOFS]
 */
import { createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [transcripts, proofs] = ['transcript.json', 'proof.json'].map((name, position) =>
  JSON.parse(readFileSync(process.argv[2 + position] ?? new URL(name, import.meta.url), 'utf8')),
);
const hex = text => Buffer.from(text, 'hex');
const uint = (value, bytes) =>
  hex(
    BigInt(value)
      .toString(16)
      .padStart(2 * bytes, '0'),
  );

/** Ten fields, each after its length. */
function transcriptOf(fields) {
  const { role, trustDomain, tenant, bindingType, binding, nonce, nodeKey, sessionKey, generation } = fields;
  const texts = ['rollcall enroll v1', role, trustDomain, tenant, bindingType].map(text => Buffer.from(text));
  const bytes = [binding, nonce, nodeKey, sessionKey].map(hex);
  const all = [...texts, ...bytes, uint(generation, 8)];
  return Buffer.concat(all.flatMap(field => [uint(field.length, 4), field]));
}

/** The hash goes by the curve of the key that signs. */
function isSignedBy({ curve, spki }, fields, signature) {
  const key = createPublicKey({ key: hex(spki), format: 'der', type: 'spki' });
  return verify(curve === 'P-256' ? 'sha256' : 'sha384', transcriptOf(fields), key, hex(signature));
}

const wrong = [
  ...transcripts.cases.filter(({ fields, encoded }) => !transcriptOf(fields).equals(hex(encoded))),
  ...proofs.cases.filter(
    ({ key, fields, signature, valid }) => isSignedBy(proofs.keys[key], fields, signature) !== valid,
  ),
];
for (const { name } of wrong) console.log(`wrong: ${name}`);
console.log(
  `${transcripts.cases.length + proofs.cases.length - wrong.length} as they should be, ${wrong.length} wrong`,
);
process.exitCode = wrong.length === 0 ? 0 : 1;
