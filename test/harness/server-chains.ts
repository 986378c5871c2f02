/** Certificate authorities and server certificates as a site may have them, the odd ones among them. */
import { generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { toPem } from '../../src/base/pem.js';
import { systemRandom } from '../../src/base/random.js';
import { writeCertificate, type CertificateTemplate } from '../../src/link/authority/x509.js';
import { createSerial } from '../../src/link/authority/issuer.js';

export interface ChainAuthority {
  readonly name: string;
  readonly pem: string;
  readonly key: KeyObject;
  readonly spki: Buffer;
}

/** PEM, as `--ssl-certfile`, `--ssl-keyfile` and `--ssl-ca-certfile` take them. */
export interface ServerFiles {
  readonly certificate: string;
  readonly key: string;
  readonly roots: string;
}

type Changes = Partial<CertificateTemplate>;

export const dayMs = 86_400_000;

/** Signs itself unless an issuer is given. With `like`, it is for the name and the key of that authority. */
export function makeAuthority(
  name: string,
  issuer?: ChainAuthority,
  changes: Changes = {},
  like?: ChainAuthority,
): ChainAuthority {
  const { key, spki } = like ?? newPair();
  const by = issuer ?? { name, key, spki };
  const pem = write({ subject: name, publicKey: spki, ca: {}, keyUsage: ['keyCertSign'] }, by, changes);
  return { name, pem, key, spki };
}

/** For localhost and 127.0.0.1, with the certificates of the given authorities after its own. */
export function makeServer(
  issuer: ChainAuthority,
  changes: Changes = {},
  sent: readonly ChainAuthority[] = [],
): Pick<ServerFiles, 'certificate' | 'key'> {
  const { key, spki } = newPair();
  const own = write(
    {
      subject: 'a link',
      publicKey: spki,
      keyUsage: ['digitalSignature'],
      extendedKeyUsage: ['serverAuth'],
      alternativeNames: [{ dns: 'localhost' }, { ip: '127.0.0.1' }],
    },
    issuer,
    changes,
  );
  return {
    certificate: [own, ...sent.map(({ pem }) => pem)].join(''),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** The subject of a PEM certificate, as `CN=…`. */
export function subjectOf(pem: string): string {
  return new X509Certificate(pem).subject;
}

function write(
  template: Pick<CertificateTemplate, 'subject' | 'publicKey' | 'keyUsage'> & Changes,
  issuer: Omit<ChainAuthority, 'pem'>,
  changes: Changes,
): string {
  return toPem(
    writeCertificate({
      issuer: issuer.name,
      issuerPublicKey: issuer.spki,
      signWith: issuer.key,
      serial: createSerial(systemRandom),
      notBefore: Date.now() - dayMs,
      notAfter: Date.now() + 30 * dayMs,
      ...template,
      ...changes,
    }),
  );
}

function newPair(): { key: KeyObject; spki: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { key: privateKey, spki: publicKey.export({ type: 'spki', format: 'der' }) };
}
