/** NO_PROXY: which hosts are reached without the proxy. As curl reads it, with the `*.name` and `host:port` of others. */
import { BlockList, isIP } from 'node:net';
import type { Address } from './settings.js';

interface Entry {
  readonly host: string;
  /** Undefined for every port. */
  readonly port: number | undefined;
}

/**
 * True when an entry of the list, separated by commas or spaces, names the address: `*` for every host, a name for
 * itself and all names below it (`example.org`, `.example.org` and `*.example.org` say the same), an IP address with
 * or without brackets, a network (`10.0.0.0/8`). A port after the host limits the entry to that port.
 */
export function isExempt(list: string, { host, port }: Address): boolean {
  const wanted = plainName(host);
  return list
    .split(/[\s,]+/)
    .filter(text => text !== '')
    .map(text => readEntry(text))
    .some(entry => (entry.port === undefined || entry.port === port) && matches(entry.host, wanted));
}

function readEntry(text: string): Entry {
  if (isIP(text) === 6) return { host: text, port: undefined };
  const [, bracketed, plain, port] = /^(?:\[(.*)\]|(.*?))(?::(\d{1,5}))?$/.exec(text) ?? [];
  return { host: bracketed ?? plain ?? text, port: port === undefined ? undefined : Number(port) };
}

function matches(entry: string, host: string): boolean {
  if (entry === '*') return true;
  if (isIP(host) !== 0) return holdsAddress(entry, host);
  const name = plainName(entry.replace(/^\*?\./, ''));
  return name !== '' && (host === name || host.endsWith(`.${name}`));
}

/** `entry` is an address or a network; anything else holds none. */
function holdsAddress(entry: string, host: string): boolean {
  const [address = '', bits] = entry.split('/');
  const family = familyOf(address);
  if (family === undefined) return false;
  const networks = new BlockList();
  if (bits === undefined) networks.addAddress(address, family);
  else if (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 'ipv4' ? 32 : 128))
    networks.addSubnet(address, Number(bits), family);
  return networks.check(host, familyOf(host));
}

function familyOf(address: string): 'ipv4' | 'ipv6' | undefined {
  const version = isIP(address);
  if (version === 0) return undefined;
  return version === 4 ? 'ipv4' : 'ipv6';
}

function plainName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}
