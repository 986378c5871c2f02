/** An IP address as a certificate holds it (RFC 5280 §4.2.1.6): 4 or 16 octets in network order. */
import { isIPv4, isIPv6 } from 'node:net';

/** Octets of an IPv4 or IPv6 address in its usual text form, without zone; RangeError for anything else. */
export function ipOctets(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number));
  if (isIPv6(text) && !text.includes('%')) return ipv6Octets(text);
  throw new RangeError('not an IP address');
}

/** Expects what isIPv6 accepts: at most one `::`, perhaps an IPv4 address in the last four octets. */
function ipv6Octets(text: string): Buffer {
  const [head = [], tail] = text.split('::').map(groupOctets);
  if (tail === undefined) return Buffer.from(head);
  const zeros = new Array<number>(16 - head.length - tail.length).fill(0);
  return Buffer.from([...head, ...zeros, ...tail]);
}

function groupOctets(groups: string): number[] {
  return groups
    .split(':')
    .filter(group => group !== '')
    .flatMap(group =>
      group.includes('.')
        ? group.split('.').map(Number)
        : [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff],
    );
}
