/** Lists of networks: `10.1.0.0/16`, `2001:db8::/32`, or single addresses. */
import { BlockList, isIP } from 'node:net';
import { RollcallError } from '../../../base/errors.js';
import { visibleText } from '../../../base/text.js';

function unfit(text: string): RollcallError {
  return new RollcallError('REQUEST_INVALID', `"${visibleText(text, 60)}" is no address or network`, {
    hint: 'for example 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32',
  });
}

/** Throws REQUEST_INVALID for an invalid one. */
export function parseAddresses(texts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of texts) {
    const [address = '', bits, ...more] = text.split('/');
    const family = address.includes('%') ? 0 : isIP(address);
    const widest = family === 6 ? 128 : 32;
    if (family === 0 || more.length > 0 || (bits !== undefined && !/^\d{1,3}$/.test(bits))) throw unfit(text);
    const prefix = bits === undefined ? widest : Number(bits);
    if (prefix > widest) throw unfit(text);
    list.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

/** No list means anywhere. */
export function isAddressIn(texts: readonly string[], address: string): boolean {
  if (texts.length === 0) return true;
  // Of a link-local address, without the interface.
  const [plain = ''] = address.split('%');
  const family = isIP(plain);
  return family !== 0 && parseAddresses(texts).check(plain, family === 6 ? 'ipv6' : 'ipv4');
}
