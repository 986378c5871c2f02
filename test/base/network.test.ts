import fc from 'fast-check';
import t from 'tap';
import { networkOf } from '../../src/base/network.js';

void t.test('the network of an IPv4 address is the address, of an IPv6 address its /64', t => {
  const networks: readonly (readonly [string, string])[] = [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::ffff:c000:201', '192.0.2.1'],
    ['::FFFF:192.0.2.1%2', '192.0.2.1'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:db8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002:0:0:0:9', '2001:db8:1:2::/64'],
    ['2001:db8:1:3::1', '2001:db8:1:3::/64'],
    ['2001:db8::1.2.3.4', '2001:db8::/64'],
    ['1:0:0:2:3:4:5:6', '1:0:0:2::/64'],
    ['0:1::', '0:1::/64'],
    ['::1', '::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['fe80::2%eth1', 'fe80::/64'],
    ['unknown', 'unknown'],
    ['192.0.2.1.', '192.0.2.1.'],
    ['2001:db8:1:2::/64', '2001:db8:1:2::/64'],
    ['', ''],
  ];
  for (const [address, network] of networks) t.equal(networkOf(address), network, `"${address}"`);
  t.end();
});

void t.test(
  'the network of any text is its own network, and two addresses share one exactly when they share 64 bits',
  t => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()),
        text => networkOf(networkOf(text)) === networkOf(text),
      ),
    );
    // Not below ::/80, where IPv4 is mapped.
    const group = fc.integer({ min: 1, max: 0xffff }).map(value => value.toString(16));
    const groups = fc.array(group, { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(groups, groups, groups, (front, one, other) => {
        const [first = '', ...rest] = front;
        const another = [(parseInt(first, 16) ^ 1).toString(16), ...rest];
        const network = networkOf([...front, ...one].join(':'));
        return (
          network === networkOf([...front, ...other].join(':')) &&
          network !== networkOf([...another, ...one].join(':'))
        );
      }),
    );
    t.end();
  },
);
