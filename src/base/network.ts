/**
 * The network stands for a party that has not authenticated yet. One IPv4 address is one; of IPv6 it is the
 * /64, the least that one customer gets, so that a customer with 2^64 addresses has one share and not as many.
 *
 * Every bound that is held by where a peer comes from (connections, requests, enrollments, refusals, logins) goes by
 * this and by nothing else.
 */
import { isIP, SocketAddress } from 'node:net';

/**
 * `192.0.2.1` or `2001:db8:1:2::/64`. IPv4 in IPv6 is the IPv4 address, a zone (`%eth0`) does not count, and what is not
 * an address stays as it is.
 */
export function networkOf(address: string): string {
  if (isIP(address) === 4) return address;
  const [plain = ''] = address.split('%');
  if (isIP(plain) !== 6) return address;
  const short = shorten(plain);
  const mapped = /^::ffff:([0-9.]+)$/.exec(short)?.[1];
  return mapped ?? `${shorten(`${groupsOf(short).slice(0, 4).join(':')}::`)}/64`;
}

/** As RFC 5952 writes an IPv6 address. */
function shorten(address: string): string {
  return new SocketAddress({ address, family: 'ipv6' }).address;
}

/** The eight groups of a shortened address; one that is written as IPv4 stands for the last two. */
function groupsOf(short: string): string[] {
  const [before = [], after = []] = short
    .split('::')
    .map(part => part.split(':').filter(each => each !== ''));
  const written = before.length + after.length + (short.includes('.') ? 1 : 0);
  return [...before, ...Array<string>(8 - written).fill('0'), ...after];
}
