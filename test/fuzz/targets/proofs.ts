/** The parts of a proof: the signed transcript, and the signatures over it. */
import { verify } from 'node:crypto';
import { p256, p384 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import { curves, type Curve } from '../../../src/identity/curve.js';
import { isStrictSignature, verifySignature } from '../../../src/identity/signature.js';
import { encodeTranscript, transcriptLabel, type Transcript } from '../../../src/identity/transcript.js';
import { changeBytes, pick, steps } from '../bytes.js';
import { branch, changeTree, leaf, nodesOf, readTree, writeTree } from '../der-tree.js';
import { demand, type Target } from '../fuzzing.js';
import { fixedKey } from './keys.js';

// The transcript, as the texts of its fields in JSON: two of them that differ little, or not at all.

const fieldNames = [
  'role',
  'trustDomain',
  'tenant',
  'bindingType',
  'binding',
  'nonce',
  'nodeKey',
  'sessionKey',
] as const;
type Fields = readonly string[];

const texts = fc.string({
  unit: fc.constantFrom('a', 'b', '\0', 'é', '\u0001', '\u0004', 'node', '\0\0\0\u0001'),
  maxLength: 4,
});
const someFields = fc
  .tuple(
    fc.constantFrom('node', 'session'),
    fc.array(texts, { minLength: 7, maxLength: 7 }),
    fc.bigInt(0n, 3n),
  )
  .map(([role, rest, generation]): Fields => [role, ...rest, `${generation}`]);

/** Moves a character over the border between two fields, which is how two transcripts could become one. */
function moveBorder(fields: Fields, at: number): Fields {
  const index = 1 + (at % 6);
  const [left = '', right = ''] = fields.slice(index, index + 2);
  const moved =
    left === '' ? [right.slice(0, 1), right.slice(1)] : [left.slice(0, -1), left.slice(-1) + right];
  return [...fields.slice(0, index), ...moved, ...fields.slice(index + 2)];
}

const pairs = fc
  .tuple(someFields, someFields, fc.array(fc.nat(), { maxLength: 3 }), fc.nat(3))
  .map(([one, other, moves, mode]) => [one, mode === 0 ? other : moves.reduce(moveBorder, one)])
  .map(pair => Buffer.from(JSON.stringify(pair)));

function transcriptOf(fields: Fields): Transcript {
  const [role, trustDomain = '', tenant = '', bindingType = '', ...rest] = fields;
  const [binding, nonce, nodeKey, sessionKey] = rest.map(field => Buffer.from(field));
  const none = Buffer.of();
  return {
    role: role === 'session' ? 'session' : 'node',
    ...{ trustDomain, tenant, bindingType },
    ...{
      binding: binding ?? none,
      nonce: nonce ?? none,
      nodeKey: nodeKey ?? none,
      sessionKey: sessionKey ?? none,
    },
    generation: BigInt(fields.at(-1) ?? 0),
  };
}

/** The fields read back; written from the description alone. */
function splitFields(encoded: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let at = 0; at < encoded.length;) {
    const end = at + 4 + encoded.readUInt32BE(at);
    demand(end <= encoded.length, 'no field is cut off');
    fields.push(encoded.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

const transcripts: Target = {
  name: 'encodeTranscript',
  inputs: pairs,
  reaches: ['two', 'one'],
  check(input) {
    const pair = JSON.parse(input.toString()) as readonly [Fields, Fields];
    const [one, other] = pair.map(fields => encodeTranscript(transcriptOf(fields)));
    if (!one || !other) throw new Error('no pair');
    const [label, ...fields] = splitFields(one);
    demand(label?.toString() === transcriptLabel && fields.length === 9, 'label and nine fields');
    demand(
      fieldNames.every((_, index) => fields[index]?.toString() === pair[0][index]),
      'every field can be read back',
    );
    demand(fields[8]?.readBigUInt64BE() === BigInt(pair[0].at(-1) ?? 0), 'the generation too');
    const same = JSON.stringify(pair[0]) === JSON.stringify(pair[1]);
    demand(one.equals(other) === same, 'two transcripts are never the same bytes');
    return same ? 'one' : 'two';
  },
};

// Signatures over one message: real ones, their other S, and numbers around the order, in all kinds of DER.

const message = Buffer.from('rollcall fuzz');
const libraries = { 'P-256': p256, 'P-384': p384 };

function integer(value: bigint): Buffer {
  const digits = value.toString(16);
  const bytes = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
  return (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes;
}

function samplesOn(curve: Curve): Buffer[] {
  const { Point, Signature } = libraries[curve];
  const order = Point.Fn.ORDER;
  const { r, s } = Signature.fromBytes(fixedKey(curve).sign(message), 'der');
  const other = Signature.fromBytes(fixedKey(curve).sign(Buffer.from('another')), 'der');
  const numbers: readonly (readonly [bigint, bigint])[] = [
    ...Array.from({ length: 4 }, () => [r, s] as const),
    ...Array.from({ length: 4 }, () => [r, order - s] as const),
    [order - r, s],
    [r + order, s],
    [r, s + order],
    [r, order],
    [order, s],
    [r, 0n],
    [0n, s],
    [1n, 1n],
    [order - 1n, order - 1n],
    [s, r],
    [other.r, s],
    [1n << BigInt(8 * curves[curve].fieldBytes), s],
  ];
  return numbers.map(pair => writeTree(branch(0x30, ...pair.map(number => leaf(0x02, integer(number))))));
}

/** noble's own verdicts by what it read: checking once more costs milliseconds. */
function createJudge(curve: Curve): (signature: Buffer, thorough: boolean) => boolean | undefined {
  const { Signature, verify: verifyByNoble } = libraries[curve];
  const point = fixedKey(curve).publicKey.spki.subarray(curves[curve].spkiPrefix.length - 1);
  const verdicts = new Map<string, boolean>();
  return (bytes, thorough) => {
    let numbers: string;
    try {
      const { r, s } = Signature.fromBytes(bytes, 'der');
      numbers = `${r} ${s}`;
    } catch {
      return false;
    }
    if (!thorough && !verdicts.has(numbers)) return undefined;
    const verdict =
      verdicts.get(numbers) ??
      verifyByNoble(bytes, message, point, { format: 'der', lowS: false, prehash: true });
    verdicts.set(numbers, verdict);
    return verdict;
  };
}

function signaturesOn(curve: Curve): Target {
  const samples = samplesOn(curve);
  const trees = samples.map(readTree);
  const pool = trees.flatMap(nodesOf);
  const { publicKey } = fixedKey(curve);
  const judge = createJudge(curve);
  const acceptedByNode = (signature: Buffer): boolean => {
    try {
      return verify(curves[curve].hash, message, publicKey.keyObject, signature);
    } catch {
      return false;
    }
  };
  return {
    name: `verifySignature on ${curve}`,
    inputs: fc
      .tuple(fc.boolean(), fc.noBias(fc.nat()), steps)
      .map(([isTree, number, list]) =>
        isTree
          ? writeTree(changeTree(pick(trees, number), list, pool))
          : changeBytes(pick(samples, number), list, samples),
      ),
    reaches: ['accepted', 'refused', 'not strict'],
    async check(input) {
      const isStrict = isStrictSignature(input, curve);
      const isAccepted = await verifySignature(publicKey, message, input);
      const byNode = acceptedByNode(input);
      const byNoble = judge(input, isAccepted || byNode || (input[8] ?? 0) % 64 === 0);
      demand(!isAccepted || (isStrict && byNode && byNoble === true), 'both libraries accept it');
      demand(isAccepted || !(byNode && byNoble), 'what both accept is accepted');
      demand(isStrict || byNoble !== true, 'strict is what noble calls strict');
      if (!isStrict) return 'not strict';
      return isAccepted ? 'accepted' : 'refused';
    },
  };
}

export const proofTargets = [transcripts, signaturesOn('P-256'), signaturesOn('P-384')];
