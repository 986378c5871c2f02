/**
 * The identity of the link: its certificate and key, and the server roots it hands out so that nodes can
 * recognise it. Judged whole, as a node will judge it, before anything of it is used: a bad file never replaces a good
 * one, and a configuration that is called good is one that nodes accept.
 */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { RollcallError, toRollcallError, withHint } from '../../../base/errors.js';
import { visibleText } from '../../../base/text.js';
import { certificateFingerprint } from '../../../identity/certificate.js';
import { limits } from '../../../protocol/limits.js';
import { rehearse } from './rehearsal.js';
import { findHandedOut, findPath } from './server-chain.js';
import { readServerFiles, type ServerFilePaths, type ServerFiles } from './server-files.js';

export interface ServerIdentity {
  /** PEM, for the TLS context; the key is not encrypted. */
  readonly certificate: string;
  readonly key: string;
  /** DER, for the trust bundle. */
  readonly roots: readonly Buffer[];
  /** SPKI DER of every key above: none of them is a node's. */
  readonly publicKeys: readonly Buffer[];
  /** SHA-256 of the DER of the certificate, hex. */
  readonly fingerprint: string;
  /** When nodes begin to refuse it, ms since 1970: the first end in the chain. */
  readonly expiresAt: number;
  /** From the first moment of the certificate to its last, ms. */
  readonly lifeMs: number;
  /** Warnings about files that are accepted, a sentence each. */
  readonly warnings: readonly string[];
}

export interface JudgingOptions {
  readonly files: ServerFilePaths;
  /** Opens an encrypted key. */
  readonly passphrase?: (() => Promise<string>) | undefined;
  /** The hosts of the addresses that nodes get. */
  readonly hosts: readonly string[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** Reads and judges; throws one error that lists every problem found. */
export async function loadServerIdentity(options: JudgingOptions): Promise<ServerIdentity> {
  return judgeServerFiles(await readServerFiles(options.files, options.passphrase), options);
}

interface Parts {
  readonly chain: readonly X509Certificate[];
  readonly anchors: readonly X509Certificate[];
  readonly key: KeyObject;
}

export async function judgeServerFiles(read: ServerFiles, options: JudgingOptions): Promise<ServerIdentity> {
  const { files, now } = options;
  const parts = await takeApart(read);
  const [leaf, ...intermediates] = orderedChain(parts, files);
  const path = findPath(leaf, intermediates, parts.anchors, now);
  if (!path) throw unrelated(files);
  const handedOut = findHandedOut(leaf, intermediates, parts.anchors);
  throwAll([...findDateProblems(path, files, now), ...findBundleProblems(handedOut, files)]);
  const identity = {
    certificate: parts.chain.map(each => each.toString()).join(''),
    key: parts.key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    roots: handedOut.map(({ raw }) => raw),
  };
  const roots = handedOut.map(each => each.toString());
  const { refused, notFor } = await rehearse(
    { cert: identity.certificate, key: identity.key },
    roots,
    options.hosts,
  );
  throwAll([
    ...(refused === undefined || isAboutDates(refused) ? [] : [describeRefusal(refused, path, files)]),
    ...notFor.map(host => describeWrongName(host, leaf, files)),
  ]);
  return {
    ...identity,
    publicKeys: [leaf, ...handedOut].map(each => each.publicKey.export({ type: 'spki', format: 'der' })),
    fingerprint: certificateFingerprint(leaf.raw),
    expiresAt: Math.min(...path.map(({ validTo }) => Date.parse(validTo))),
    lifeMs: Date.parse(leaf.validTo) - Date.parse(leaf.validFrom),
    warnings: [...read.warnings, ...findWarnings(leaf, handedOut, parts.anchors, files)],
  };
}

/** All parts, or every problem at once. */
async function takeApart({ chain, anchors, key }: ServerFiles): Promise<Parts> {
  const problems: RollcallError[] = [];
  const attempt = async <T>(read: () => T): Promise<Awaited<T> | undefined> => {
    try {
      return await read();
    } catch (error) {
      problems.push(toRollcallError(error));
      return undefined;
    }
  };
  const parts = { chain: await attempt(chain), key: await attempt(key), anchors: await attempt(anchors) };
  throwAll(problems);
  return parts as Parts;
}

/** One error for all: with several, each line carries its own hint. */
function throwAll(problems: readonly RollcallError[]): void {
  const [first] = problems;
  if (!first) return;
  if (problems.length === 1) throw first;
  const lines = problems.map(withHint);
  throw new RollcallError(first.code, lines.join('\n'), { cause: first.cause });
}

function invalid(message: string, hint: string): RollcallError {
  return new RollcallError('CONFIG_INVALID', message, { hint });
}

/** The certificate of the key must come first: TLS sends the file as it is (RFC 8446 §4.4.2). */
function orderedChain(
  { chain, key }: Parts,
  { certificateFile, keyFile }: ServerFilePaths,
): readonly [X509Certificate, ...X509Certificate[]] {
  const [leaf, ...rest] = chain;
  if (leaf?.checkPrivateKey(key)) return [leaf, ...rest];
  const position = rest.findIndex(each => each.checkPrivateKey(key)) + 2;
  throw position > 1
    ? invalid(
        `${certificateFile}: the certificate of ${keyFile} is number ${position}, and must come first`,
        'put it before the certificates of its issuers',
      )
    : invalid(
        `${keyFile} is not the key of ${certificateFile}`,
        'give the certificate and the key that were made together',
      );
}

function unrelated({ certificateFile, rootsFile }: ServerFilePaths): RollcallError {
  return invalid(
    `${certificateFile} was not issued by a root in ${rootsFile}`,
    'nodes that trust these roots could not recognise the link; give the CA that issued the certificate, and put intermediate certificates behind that of the link',
  );
}

function nameOf({ subject }: X509Certificate): string {
  return `"${visibleText((subject as string | undefined)?.replaceAll('\n', ', ') ?? '')}"`;
}

/** The name of a member of the path in messages. */
function describeMember(path: readonly X509Certificate[], position: number, files: ServerFilePaths): string {
  const member = path[position];
  if (position === 0 || !member) return files.certificateFile;
  const file = position === path.length - 1 ? files.rootsFile : files.certificateFile;
  return `the issuer ${nameOf(member)} in ${file}`;
}

function findDateProblems(
  path: readonly X509Certificate[],
  files: ServerFilePaths,
  now: number,
): RollcallError[] {
  return path.flatMap((each, position) => {
    const member = describeMember(path, position, files);
    if (Date.parse(each.validTo) <= now) {
      const hint = 'get a new one; for development: rollcall certs --force';
      return [invalid(`${member} expired on ${each.validTo}`, hint)];
    }
    if (now < Date.parse(each.validFrom)) {
      const hint = `this machine's clock says ${new Date(now).toUTCString()}; is it right?`;
      return [invalid(`${member} is not valid before ${each.validFrom}`, hint)];
    }
    return [];
  });
}

/** A node takes no larger bundle, and would find out by refusing it. */
function findBundleProblems(
  handedOut: readonly X509Certificate[],
  { rootsFile }: ServerFilePaths,
): RollcallError[] {
  const hint = 'keep the roots that nodes need: the one of the link, and the next one';
  const sizes = handedOut.map(({ raw }) => raw.length);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  if (handedOut.length > limits.serverRoots) {
    return [
      invalid(
        `${rootsFile}: at most ${limits.serverRoots} roots can be handed out, found ${handedOut.length} that belong to the link`,
        hint,
      ),
    ];
  }
  if (Math.max(...sizes) <= limits.serverRootBytes && bytes <= limits.trustBundleBytes) return [];
  return [
    invalid(
      `${rootsFile}: at most ${limits.serverRootBytes} bytes a root and ${limits.trustBundleBytes} bytes of roots can be handed out, found ${Math.max(...sizes)} and ${bytes}`,
      hint,
    ),
  ];
}

/** They were judged by the clock that was passed in. */
function isAboutDates(refused: string): boolean {
  return refused === 'CERT_HAS_EXPIRED' || refused === 'CERT_NOT_YET_VALID';
}

const serverAuth = '1.3.6.1.5.5.7.3.1';

/** Explains an invalid path by the reason a node would give, and names the member at fault where it can be found. */
function describeRefusal(
  refused: string,
  path: readonly X509Certificate[],
  files: ServerFilePaths,
): RollcallError {
  // Node.js calls the extended key usage keyUsage.
  const elsewhere = path.findIndex(each => {
    const uses = each.keyUsage as readonly string[] | undefined;
    return uses !== undefined && !uses.includes(serverAuth);
  });
  if (elsewhere !== -1) {
    return invalid(
      `${describeMember(path, elsewhere, files)} is not for servers: its extended key usage lacks serverAuth`,
      'have the certificate issued for servers (extendedKeyUsage = serverAuth)',
    );
  }
  const mayNotSign = path.findIndex((each, position) => position > 0 && !each.ca);
  if (mayNotSign !== -1) {
    return invalid(
      `${describeMember(path, mayNotSign, files)} is not a certificate authority`,
      'it needs basicConstraints CA:TRUE and, if it states a key usage, keyCertSign',
    );
  }
  const hint = reasons[refused] ?? 'have the certificate issued anew; openssl verify says more';
  return invalid(`${files.certificateFile}: nodes would refuse it (${visibleText(refused, 80)})`, hint);
}

const reasons: Readonly<Partial<Record<string, string>>> = {
  INVALID_PURPOSE: 'its key usage must include digitalSignature',
  PATH_LENGTH_EXCEEDED: 'an authority above it allows fewer authorities below (pathlen)',
  CERT_SIGNATURE_FAILURE: 'a signature in the chain does not hold: copy the files again, whole',
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM:
    'use a key on P-256 or P-384, an Ed25519 key, or an RSA key of 2048 bits or more',
  ERR_SSL_EE_KEY_TOO_SMALL: 'use a key on P-256 or P-384, or an RSA key of 2048 bits or more',
};

function describeWrongName(host: string, leaf: X509Certificate, files: ServerFilePaths): RollcallError {
  const names = leaf.subjectAltName;
  return invalid(
    `${files.certificateFile} is not for ${host}, where --link-addresses sends nodes`,
    `it is for ${visibleText(names ?? 'no name at all', 400)}; use one of its names, or have it issued for ${host}`,
  );
}

function findWarnings(
  leaf: X509Certificate,
  handedOut: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
  { certificateFile, rootsFile }: ServerFilePaths,
): string[] {
  const warnings: string[] = [];
  if (leaf.subjectAltName === undefined) {
    warnings.push(
      `${certificateFile} has no subject alternative name; many programs refuse a certificate that has only a common name`,
    );
  }
  const left = anchors.length - handedOut.length;
  if (left > 0) {
    warnings.push(
      `${rootsFile}: ${left} of ${anchors.length} certificates are not handed out to nodes: the certificate of the link does not lead to them, and no root of it has signed them`,
    );
  }
  return warnings;
}
