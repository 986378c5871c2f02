/** The settings of a service and their checks: pure, made before anything is stored. */
import { RollcallError } from '../../../base/errors.js';
import { visibleText } from '../../../base/text.js';
import { parseAddresses } from './address-list.js';
import { maxServiceTokenMs } from '../tokens/lifetimes.js';

export interface ServiceSetting {
  readonly enabled: boolean;
  /** The roles that it has at the link. */
  readonly roles: readonly string[];
  /** Whom it may ask tokens for. */
  readonly audiences: readonly string[];
  /** Scopes it may ask for at other audiences than the link. */
  readonly scopes: readonly string[];
  /** Networks it may ask from (`10.0.0.0/8`); none: from anywhere. */
  readonly addresses: readonly string[];
  /** How long its tokens last, ms. */
  readonly tokenLifetimeMs: number;
  /** Public keys for `private_key_jwt` (RFC 7523), SPKI PEM. */
  readonly publicKeys: readonly string[];
  /** `x5t#S256` of certificates it may come with (RFC 8705 §2.2), base64url. */
  readonly certificates: readonly string[];
}

/** A setting that is left out stays as it is, or has its default in a new service. */
export type ServiceSettings = { readonly [Name in keyof ServiceSetting]?: ServiceSetting[Name] | undefined };

const shortestLifetimeMs = 60_000;
export const defaultLifetimeMs = 15 * 60_000;

/** Entries in each list. */
const maxEntries = 64;
/** The one in use and the next; every login of the service may try each. */
const maxKeys = 5;
/** RFC 6749 §3.3: no white space, which divides scopes, no quote and no backslash. */
const scopePattern = /^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/;
/** SHA-256, base64url. */
const thumbprintPattern = /^[A-Za-z0-9_-]{43}$/;
const maxKeyLength = 2_000;
/** A private key would be taken for its public part too, and has no business here. */
const publicKeyPattern = /^-----BEGIN PUBLIC KEY-----\s[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*$/;

const settable = [
  'enabled',
  'roles',
  'audiences',
  'scopes',
  'addresses',
  'tokenLifetimeMs',
  'publicKeys',
  'certificates',
] as const satisfies readonly (keyof ServiceSetting)[];

/** Only what may be set, and only what is: whatever else an object from outside holds stays outside. */
export function pickServiceSettings(settings: ServiceSettings): Partial<ServiceSetting> {
  const entries = settable.map(name => [name, settings[name]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** Throws REQUEST_INVALID. Roles are for others to look up. */
export function checkServiceSettings(settings: ServiceSettings): void {
  const { audiences = [], scopes = [], addresses = [], publicKeys = [], certificates = [] } = settings;
  requireAtMost(maxKeys, publicKeys, certificates);
  checkEach('public key in PEM', publicKeys, publicKeyPattern, maxKeyLength);
  checkEach('SHA-256 of a certificate in base64url', certificates, thumbprintPattern);
  requireAtMost(maxEntries, audiences, scopes, addresses);
  audiences.forEach(checkAudience);
  checkEach('scope', scopes, scopePattern);
  parseAddresses(addresses);
  checkLifetime(settings.tokenLifetimeMs ?? defaultLifetimeMs);
}

/** Whom a token is for. Throws REQUEST_INVALID. */
export function checkAudience(audience: string): void {
  checkEach('audience', [audience], scopePattern);
}

function checkEach(what: string, texts: readonly string[], pattern: RegExp, longest = 200): void {
  const unfit = texts.find(text => text.length > longest || !pattern.test(text));
  if (unfit === undefined) return;
  // A private key given by mistake must not end up in a message.
  const shown = unfit.includes('-----') ? 'that' : `"${visibleText(unfit, 60)}"`;
  throw new RollcallError('REQUEST_INVALID', `${shown} is no ${what}`);
}

function checkLifetime(lifetimeMs: number): void {
  const isFit =
    Number.isInteger(lifetimeMs) && lifetimeMs >= shortestLifetimeMs && lifetimeMs <= maxServiceTokenMs;
  if (isFit) return;
  throw new RollcallError('REQUEST_INVALID', 'tokens of a service last 1 to 60 minutes', {
    hint: 'a service asks for a new one when it needs it',
  });
}

function requireAtMost(max: number, ...lists: readonly (readonly string[])[]): void {
  if (lists.every(({ length }) => length <= max)) return;
  throw new RollcallError('REQUEST_INVALID', `this list of a service holds at most ${max} entries`);
}
