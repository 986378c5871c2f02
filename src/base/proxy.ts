/**
 * Whether connections to the link go through an HTTP proxy, and which. Only a setting says so: HTTPS_PROXY and NO_PROXY
 * count when the setting is `environment`, so that a variable that was set for browsing changes nothing by itself.
 */
import { RollcallError } from './errors.js';
import { isExempt } from './no-proxy.js';
import { fromPem } from './pem.js';
import { readSecretFile, readSmallFile, type Warn } from './secret-file.js';
import { formatAddress, type Address } from './settings.js';

/** The names of the options, for messages. */
export interface ProxyOptionNames {
  readonly proxy: string;
  readonly credentials: string;
  readonly roots: string;
}

/** Of the agent and the command. */
export const proxyFlagNames: ProxyOptionNames = {
  proxy: '--proxy',
  credentials: '--proxy-credentials-file',
  roots: '--proxy-root-certificates',
};

/** `none`, `environment`, or one proxy. */
export type ProxySetting = 'none' | 'environment' | ProxyAddress;

export interface ProxyAddress {
  readonly address: Address;
  /** TLS to the proxy itself. */
  readonly isSecure: boolean;
}

/** How connections get to the link. */
export interface Route {
  /** Undefined: straight. */
  readonly proxy?: HttpProxy | undefined;
  /** The hint when the link cannot be reached. */
  readonly hint?: string | undefined;
}

export interface RouteOptions {
  readonly setting: ProxySetting | undefined;
  /** `user:password`. Secret. */
  readonly credentials?: string | undefined;
  /** PEM: what an https:// proxy is recognised by. */
  readonly roots?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly link: Address;
  readonly names: ProxyOptionNames;
}

/** A proxy to ask by CONNECT. Its credentials are in no field that a log or an error could print. */
export class HttpProxy implements ProxyAddress {
  readonly address: Address;
  readonly isSecure: boolean;
  readonly roots: string | undefined;
  readonly names: ProxyOptionNames;
  readonly #credentials: string | undefined;

  constructor({ address, isSecure }: ProxyAddress, options: Omit<RouteOptions, 'setting'>) {
    this.address = address;
    this.isSecure = isSecure;
    this.roots = options.roots;
    this.names = options.names;
    this.#credentials = options.credentials;
  }

  /** For messages: `http://proxy.example.org:3128`. */
  get url(): string {
    return `${this.isSecure ? 'https' : 'http'}://${formatAddress(this.address)}`;
  }

  /** The value of Proxy-Authorization (RFC 7617). Secret. */
  get authorization(): string | undefined {
    if (this.#credentials === undefined) return undefined;
    return `Basic ${Buffer.from(this.#credentials).toString('base64')}`;
  }
}

/** Reads `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT`, `environment` or `none`. Never quotes what it was given. */
export function parseProxy(raw: unknown, names = proxyFlagNames): ProxySetting {
  if (raw === 'none' || raw === 'environment') return raw;
  if (typeof raw === 'string' && raw.includes('@')) {
    throw new Error(`expected a URL without user and password; give those by ${names.credentials}`);
  }
  const url = typeof raw === 'string' ? readUrl(raw) : undefined;
  if (!url) throw new Error('expected http://HOST:PORT, https://HOST:PORT, environment or none');
  const isSecure = url.protocol === 'https:';
  const port = url.port === '' ? (isSecure ? 443 : 80) : Number(url.port);
  return { address: { host: url.hostname.replace(/^\[|\]$/g, ''), port }, isSecure };
}

function readUrl(text: string): URL | undefined {
  const full = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(full)) return undefined;
  const url = new URL(full);
  const isBare = url.pathname === '/' && url.search === '' && url.hash === '' && url.port !== '0';
  return isBare && (url.protocol === 'http:' || url.protocol === 'https:') ? url : undefined;
}

/** Checks `user:password` (RFC 7617 §2) and gives it back; the message never quotes it. */
export function parseProxyCredentials(text: string, where: string): string {
  const credentials = text.replace(/\r?\n$/, '');
  if (/^[^:\p{Cc}]+:\P{Cc}*$/u.test(credentials)) return credentials;
  throw new RollcallError('CONFIG_INVALID', `${where}: expected user:password on one line`);
}

/** Decides by the setting, and by the environment where the setting says so. CONFIG_INVALID for what cannot work. */
export function chooseRoute(options: RouteOptions): Route {
  const { setting, environment, link, names } = options;
  if (typeof setting === 'object') return { proxy: new HttpProxy(setting, options) };
  if (setting === 'none') return {};
  const variable = variableThatApplies(environment, link);
  if (variable === undefined) return {};
  if (setting === undefined)
    return { hint: `${variable} is set but not used; to go through that proxy: ${names.proxy} environment` };
  try {
    const named = parseProxy(environment[variable], names);
    if (typeof named === 'object') return { proxy: new HttpProxy(named, options) };
  } catch (error) {
    throw new RollcallError('CONFIG_INVALID', `${variable}: ${(error as Error).message}`);
  }
  throw new RollcallError('CONFIG_INVALID', `${variable}: expected http://HOST:PORT or https://HOST:PORT`);
}

/** As curl has it: lower case first, empty is unset, and NO_PROXY lists the exceptions. */
function variableThatApplies(environment: RouteOptions['environment'], link: Address): string | undefined {
  const find = (name: string) =>
    [name.toLowerCase(), name].find(each => environment[each] !== undefined && environment[each] !== '');
  const variable = find('HTTPS_PROXY');
  const exceptions = find('NO_PROXY');
  const isExcepted = exceptions !== undefined && isExempt(environment[exceptions] ?? '', link);
  return isExcepted ? undefined : variable;
}

export interface RouteFiles {
  readonly credentialsFile: string | undefined;
  readonly rootsFile: string | undefined;
  /** Hears of credentials that a platform has mounted readable by all. */
  readonly warn?: Warn | undefined;
}

/** The same with credentials and roots from files; the first is a secret file. */
export async function loadRoute(
  { credentialsFile, rootsFile, warn }: RouteFiles,
  options: Pick<RouteOptions, 'setting' | 'environment' | 'link'>,
): Promise<Route> {
  const [credentials, roots] = await Promise.all([
    credentialsFile === undefined ? undefined : readCredentials(credentialsFile, warn),
    rootsFile === undefined ? undefined : readRoots(rootsFile),
  ]);
  return chooseRoute({ ...options, credentials, roots, names: proxyFlagNames });
}

async function readCredentials(path: string, warn: Warn | undefined): Promise<string> {
  const what = 'file of proxy credentials';
  const bytes = await readSecretFile(path, what, 4096, warn);
  return parseProxyCredentials(bytes.toString('utf8'), `${what} ${path}`);
}

async function readRoots(path: string): Promise<string> {
  const what = 'root certificates of the proxy';
  const text = (await readSmallFile(path, what)).toString('latin1');
  fromPem(text, `${what} ${path}`);
  return text;
}

/** An error of connecting, with what the route has to say about it. */
export function withRouteHint(error: RollcallError, { proxy, hint }: Route): RollcallError {
  let more: string | undefined;
  if (error.code === 'LINK_UNREACHABLE') more = hint;
  if (error.code === 'LINK_UNVERIFIED' && proxy)
    more = 'a proxy that inspects TLS must let connections to the link pass as they are';
  if (more === undefined) return error;
  const hints = error.hint === undefined ? more : `${error.hint}; ${more}`;
  return new RollcallError(error.code, error.message, { hint: hints, cause: error.cause });
}
