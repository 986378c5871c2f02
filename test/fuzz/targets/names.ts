/** Short texts that mean something: ids, names in certificates, hosts, page tokens. */
import { createPrivateKey } from 'node:crypto';
import fc from 'fast-check';
import { isRollcallError } from '../../../src/base/errors.js';
import { findNodeId, isNodeId, parseNodeId } from '../../../src/identity/node-id.js';
import { toPkcs8Pem } from '../../../src/identity/private-key.js';
import {
  formatSpiffeId,
  isTrustDomain,
  parseSpiffeId,
  parseTrustDomain,
} from '../../../src/identity/spiffe.js';
import { parseHost } from '../../../src/link/authority/development.js';
import { writeCertificate, type AlternativeName } from '../../../src/link/authority/x509.js';
import { checkLabels, checkName } from '../../../src/link/registry/labels.js';
import { makePageToken, readPageToken } from '../../../src/link/registry/page-token.js';
import { demand, tried, type Target } from '../fuzzing.js';
import { changedTexts } from '../texts.js';
import { fixedKey } from './keys.js';

const numbers = [
  '1',
  '16019329408659850374',
  '18446744073709551615',
  '18446744073709551616',
  '0',
  '007',
  '-1',
  '1e3',
];
const odd = ['\0', '\n', ' ', '%2f', '..', '/', '０', '١', '\u202e', 'É', '_', '-', '255', '0x1'];

const nodeIds: Target = {
  name: 'parseNodeId',
  inputs: changedTexts(numbers, [...numbers, ...odd]),
  reaches: ['read', 'REQUEST_INVALID'],
  check(input) {
    const text = input.toString();
    const found = findNodeId(text);
    demand(found === undefined || (isNodeId(found) && `${found}` === text), 'one spelling for one id');
    const result = tried(() => parseNodeId(text), 'REQUEST_INVALID');
    demand(('value' in result ? result.value : undefined) === found, 'both readers agree');
    return found === undefined ? 'REQUEST_INVALID' : 'read';
  },
};

const domains = ['fleet.example.org', 'a', 'x'.repeat(255), 'fleet-1a2b3c4d', 'a_b.c'];
const ids = domains.map(domain => `spiffe://${domain}/node/16019329408659850374`);

const spiffeIds: Target = {
  name: 'parseSpiffeId',
  inputs: changedTexts(
    [...ids, ...ids, 'spiffe://a/node/0', 'spiffe://a:1/node/1', 'spiffe://a/node/1?b#c'],
    [...numbers, ...odd, 'spiffe', 'node'],
  ),
  reaches: ['read', 'refused'],
  check(input) {
    const text = input.toString();
    const found = parseSpiffeId(text);
    if (!found) return 'refused';
    demand(formatSpiffeId(found.trustDomain, found.nodeId) === text, 'one spelling for one node');
    demand(new URL(text).host === found.trustDomain, 'the domain is what a URL has as its host');
    return 'read';
  },
};

const trustDomains: Target = {
  name: 'parseTrustDomain',
  inputs: changedTexts(domains, odd),
  reaches: ['read', 'CONFIG_INVALID'],
  check(input) {
    const text = input.toString();
    const result = tried(() => parseTrustDomain(text), 'CONFIG_INVALID');
    demand('value' in result === isTrustDomain(text), 'both readers agree');
    if ('refusal' in result) return 'CONFIG_INVALID';
    demand(
      result.value === text && parseSpiffeId(formatSpiffeId(text, 1n))?.trustDomain === text,
      'it can be used',
    );
    return 'read';
  },
};

const hosts = [
  'link.example.org',
  '*.example.org',
  '192.0.2.1',
  '2001:db8::1',
  'localhost',
  '::ffff:1.2.3.4',
  'a.1',
];
const key = fixedKey('P-256');
const signWith = createPrivateKey(toPkcs8Pem(key));

/** Not by `tried`: what was typed is in the message, for the one who typed it. */
function findHost(text: string): AlternativeName | undefined {
  try {
    return parseHost(text);
  } catch (error) {
    if (!isRollcallError(error, 'REQUEST_INVALID')) throw error;
    return undefined;
  }
}

const hostNames: Target = {
  name: 'parseHost',
  inputs: changedTexts(hosts, [...hosts, ...odd, '*', ':', '%eth0']),
  reaches: ['name', 'address', 'REQUEST_INVALID'],
  check(input) {
    const host = findHost(input.toString());
    if (!host) return 'REQUEST_INVALID';
    const { spki } = key.publicKey;
    // Throws when it is no name after all.
    writeCertificate({
      ...{
        subject: 'a',
        issuer: 'a',
        publicKey: spki,
        issuerPublicKey: spki,
        signWith,
        serial: Buffer.of(1),
      },
      ...{ notBefore: 0, notAfter: 1, keyUsage: [], alternativeNames: [host] },
    });
    return 'dns' in host ? 'name' : 'address';
  },
};

const nodeNames: Target = {
  name: 'checkName and checkLabels',
  inputs: changedTexts(['node-1', 'a', 'x'.repeat(64), '0a', 'site/rack_1', 'é', '42'], [...odd, ...numbers]),
  reaches: ['name', 'label', 'REQUEST_INVALID'],
  check(input) {
    const text = input.toString();
    const asName = tried(() => checkName(text), 'REQUEST_INVALID');
    const asLabel = tried(() => checkLabels(Object.fromEntries([['key', text]])), 'REQUEST_INVALID');
    tried(() => checkLabels(Object.fromEntries([[text, 'value']])), 'REQUEST_INVALID');
    if ('value' in asName) {
      demand(findNodeId(text) === undefined && !text.startsWith('SHA256:'), 'a name is nothing else');
      demand(text.length <= 64 && /^[\w.-]*$/.test(text), 'a name is safe anywhere');
      return 'name';
    }
    if ('refusal' in asLabel) return 'REQUEST_INVALID';
    demand(!/\p{C}/u.test(text) && text.length <= 256, 'a label is safe to print');
    return 'label';
  },
};

const questions = [
  ['nodes', 'default', [], [], ''],
  ['history', 'default', '42'],
];
const places = [0n, 1n, 16019329408659850374n, 99999999999999999999n];
const tokens = questions.flatMap(asked => places.map(place => makePageToken(asked, place)));

const pageTokens: Target = {
  name: 'readPageToken',
  inputs: fc.oneof(
    changedTexts(tokens, ['=', '+', '/', '.', 'A', 'MA']),
    changedTexts(
      tokens.map(token => Buffer.from(token, 'base64url').toString()),
      ['.', '-1', '00', '0'],
    ).map(text => Buffer.from(text.toString('base64url'))),
  ),
  reaches: ['read', 'none', 'REQUEST_INVALID'],
  check(input) {
    const text = input.toString();
    const answers = questions.map(asked => {
      const result = tried(() => readPageToken(asked, text), 'REQUEST_INVALID');
      if ('refusal' in result) return 'REQUEST_INVALID';
      if (result.value === undefined) return 'none';
      demand(makePageToken(asked, result.value) === text, 'one token for one place');
      return 'read';
    });
    demand(answers.filter(answer => answer === 'read').length < 2, 'a token is for one listing');
    return answers.find(answer => answer !== 'REQUEST_INVALID') ?? 'REQUEST_INVALID';
  },
};

export const nameTargets = [nodeIds, spiffeIds, trustDomains, hostNames, nodeNames, pageTokens];
