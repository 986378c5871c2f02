/**
 * Which apps a node runs. By default none; by its settings those of trusted signers, the one in a folder of its own, or – for
 * development – any. The decision goes by what the author of the app signed and by the digest of the files, never by the link
 * that hands the app out; app-source.ts checks that the files have this digest. No I/O.
 */
import { visibleText } from '../../base/text.js';
import { parseSpki, type PublicKey } from '../../identity/public-key.js';
import { isSignedBy, type SignedApp } from '../../app-package/app-signature.js';
import { compareVersions, isVersion } from './compare-versions.js';

/** An app as the link describes it. */
export interface AppClaim extends SignedApp {
  /** SPKI DER, unchecked. */
  readonly signer: Uint8Array;
  readonly signature: Uint8Array;
}

export interface TrustedSigner {
  /** On P-256. */
  readonly key: PublicKey;
  /** Older versions of this signer's apps are refused: they may have holes that the newer one closed. */
  readonly lowestVersion?: string | undefined;
}

export interface TrustRules {
  readonly signers: readonly TrustedSigner[];
  /** The app in the node's own folder, as it is now. */
  readonly local?: SignedApp | undefined;
  /** Any app that the link hands out. */
  readonly any: boolean;
}

export type TrustDecision =
  | { readonly trusted: true; readonly by: 'local' | 'signer' | 'any' }
  /** For people, also those on the other side of the link. */
  | { readonly trusted: false; readonly reason: string };

export async function decideTrust(rules: TrustRules, claim: AppClaim): Promise<TrustDecision> {
  if (!isVersion(claim.version)) return refuse('invalid version');
  if (isSameApp(rules.local, claim)) return { trusted: true, by: 'local' };
  if (rules.any) return { trusted: true, by: 'any' };
  if (rules.signers.length > 0) return decideBySigner(rules.signers, claim);
  return refuse(
    rules.local
      ? `this node runs only the app of its own folder, ${rules.local.name} ${rules.local.version} with the digest ${rules.local.digest.slice(0, 12)}…`
      : 'this node runs no apps: it was started without --trust-app-signer and without --app',
  );
}

function isSameApp(local: SignedApp | undefined, claim: AppClaim): boolean {
  return (
    local !== undefined &&
    local.digest === claim.digest &&
    local.name === claim.name &&
    local.version === claim.version
  );
}

async function decideBySigner(
  signers: readonly TrustedSigner[],
  { signer, signature, name, version, digest }: AppClaim,
): Promise<TrustDecision> {
  const [first, ...more] = signers.filter(({ key }) => key.spki.equals(signer));
  if (!first) return refuse(`this node does not trust its signer, ${describeSigner(signer)}`);
  const tooOld = [first, ...more].every(
    ({ lowestVersion }) => lowestVersion !== undefined && compareVersions(version, lowestVersion) < 0,
  );
  if (tooOld)
    return refuse(
      `version ${visibleText(version)} is older than ${first.lowestVersion ?? ''}, the oldest that this node takes of its signer`,
    );
  return (await isSignedBy(first.key, { name, version, digest }, signature))
    ? { trusted: true, by: 'signer' }
    : refuse('its signature does not hold');
}

function describeSigner(spki: Uint8Array): string {
  try {
    return parseSpki(spki).fingerprint;
  } catch {
    return 'whose key cannot sign apps: expected a key on P-256';
  }
}

function refuse(reason: string): TrustDecision {
  return { trusted: false, reason };
}
