import fc from 'fast-check';
import t from 'tap';
import { isRollcallError } from '../../src/base/errors.js';
import {
  maxNodeConfigBytes,
  nodeConfigFromMapping,
  parseNodeConfig,
  type NodeConfigValue,
} from '../../src/node/node-config.js';
import { showPosition } from '../../src/node/text-cursor.js';

/** The message of the refusal. */
function refusal(text: string): string {
  try {
    parseNodeConfig(text);
  } catch (error) {
    if (isRollcallError(error, 'CONFIG_INVALID')) return error.message;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

/** The line above the caret, and the column of the caret. */
function pointed(text: string): { wanted: string; at: string } {
  const [wanted = '', line = '', caret = ''] = refusal(text).split('\n');
  return { wanted, at: line.slice(caret.indexOf('^')) };
}

void t.test('node-config pairs give strings, integers, floats and booleans', t => {
  t.same(
    { ...parseNodeConfig('dataset-path="datasets/part_1" partition-id=1 rate=0.5 flag=true other=false') },
    { 'dataset-path': 'datasets/part_1', 'partition-id': 1, rate: 0.5, flag: true, other: false },
  );
  t.end();
});

void t.test('white space, new lines and comments separate node-config pairs', t => {
  t.same({ ...parseNodeConfig('') }, {});
  t.same({ ...parseNodeConfig(' \t\r\n # nothing\n') }, {});
  t.same(
    { ...parseNodeConfig('# a file\r\na = 1 # one\r\n\r\n\tb= "#not a comment"\nc =3') },
    {
      a: 1,
      b: '#not a comment',
      c: 3,
    },
  );
  t.end();
});

void t.test('numbers in node-config are written as in TOML', t => {
  const cases: readonly [string, NodeConfigValue][] = [
    ['0', 0],
    ['-0', 0],
    ['+7', 7],
    ['-17', -17],
    ['1_000_000', 1000000],
    ['0xdead_BEEF', 0xdeadbeef],
    ['0o755', 0o755],
    ['0b1010', 10],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['9007199254740993', 9007199254740993n],
    ['-9223372036854775808', -(2n ** 63n)],
    ['9223372036854775807', 2n ** 63n - 1n],
    ['3.14', 3.14],
    ['-0.01', -0.01],
    ['+1.0', 1],
    ['5e+22', 5e22],
    ['1e06', 1e6],
    ['-2E-2', -2e-2],
    ['6.626e-34', 6.626e-34],
    ['224_617.445_991', 224617.445991],
  ];
  for (const [text, value] of cases) t.equal(parseNodeConfig(`n=${text}`)['n'], value, text);
  t.end();
});

void t.test('numbers that are invalid in TOML are refused at their place', t => {
  const words = [
    ...[
      '01',
      '-01',
      '0_1',
      '1_',
      '_1',
      '1__0',
      '.5',
      '5.',
      '1.e5',
      '1e',
      '0x',
      '0xg',
      '0X1',
      '+0x1',
      '-0b1',
      '0b2',
    ],
    ...[
      'inf',
      'nan',
      '-inf',
      '1e999',
      '--1',
      '1.2.3',
      '9223372036854775808',
      '-9223372036854775809',
      '0o8',
      '٣',
    ],
    ...['True', 'FALSE', 'yes', 'null', 'datasets/part_1', '[1]', '{a=1}', '1979-05-27', '1d', '\\"'],
  ];
  for (const word of words) t.equal(pointed(`key=${word}`).at, word, word);
  t.end();
});

void t.test('basic strings have the escapes of TOML, literal strings have none', t => {
  t.equal(parseNodeConfig(String.raw`s="\b\t\n\f\r\"\\"`)['s'], '\b\t\n\f\r"\\');
  t.equal(parseNodeConfig(String.raw`s="\u00e9\U0001F600é😀"`)['s'], 'é😀é😀');
  t.equal(parseNodeConfig(String.raw`s='C:\data\n "x"'`)['s'], String.raw`C:\data\n "x"`);
  t.same({ ...parseNodeConfig(`a="" b=''`) }, { a: '', b: '' });
  t.equal(parseNodeConfig('s="a\tb"')['s'], 'a\tb');
  t.end();
});

void t.test('errors of node-config point at the character and name the expected syntax', t => {
  const cases: readonly [string, RegExp, string][] = [
    ['=1', /expected a key/, '=1'],
    ['"a"=1', /expected a key/, '"a"=1'],
    ['a', /expected "=" after the key/, ''],
    ['a b=1', /expected "=" after the key/, 'b=1'],
    ['a=', /expected a value/, ''],
    ['a= # no', /expected a value/, '# no'],
    ['a==1', /expected a value/, '=1'],
    ['a=1,b=2', /expected a space between pairs, nothing else/, ',b=2'],
    ['a="x"b=2', /expected a space before the next pair/, 'b=2'],
    ['a="""x"""', /expected a space before the next pair/, '"x"""'],
    ['a=1 a=2', /this key was given before/, 'a=2'],
    ['ok=1 a..b=1', /single dots/, 'a..b=1'],
    ['.a=1', /single dots/, '.a=1'],
    ['a="open', /closing " for the text that starts here/, '"open'],
    ["a='open", /closing ' for the text that starts here/, "'open"],
    ['a="x\ny"', /closing " on the same line/, ''],
    [String.raw`a="\x41"`, /expected one of/, String.raw`\x41"`],
    [String.raw`a="\u12"`, /expected one of/, String.raw`\u12"`],
    [String.raw`a="\ud800"`, /expected the number of a Unicode character/, String.raw`\ud800"`],
    [String.raw`a="\U00110000"`, /expected the number of a Unicode character/, String.raw`\U00110000"`],
    ['a="x\u0000y"', /control characters/, '·y"'],
    ["a='x\u001by'", /control characters/, "·y'"],
    ['schlüssel=1', /expected "=" after the key/, 'üssel=1'],
  ];
  for (const [text, wanted, at] of cases) {
    const found = pointed(text);
    t.match(found.wanted, wanted, text);
    t.equal(found.at, at, text);
  }
  t.end();
});

void t.test('an error of node-config shows only its line, and of a long line only the surroundings', t => {
  t.equal(
    refusal('good=1\nbad=oops\nlater=1'),
    ['expected a number, true, false or text in quotes', '  bad=oops', '      ^'].join('\n'),
  );
  const [, line = '', caret = ''] = refusal(
    `long="${'x'.repeat(500)}" bad=? after="${'y'.repeat(500)}"`,
  ).split('\n');
  t.ok(line.length < 120);
  t.match(line.slice(caret.indexOf('^')), /^\? after="y+…$/);
  t.end();
});

void t.test('the caret of an error counts characters, and control characters are replaced', t => {
  t.equal(showPosition('a="😀" b=\u001b[31m', 7), '  a="😀" b=·[31m\n        ^');
  t.notMatch(refusal('a=\u001b[31m\u202ex'), /[\u001b\u202e]/);
  t.end();
});

void t.test('keys such as __proto__ are plain keys in node-config', t => {
  const config = parseNodeConfig('__proto__="x" constructor=1 toString=true a.b-c_d=2');
  t.same(Object.keys(config).sort(), ['__proto__', 'a.b-c_d', 'constructor', 'toString']);
  t.equal(Object.getPrototypeOf(config), null);
  t.equal(config['__proto__'], 'x');
  t.equal(({} as Record<string, unknown>)['x'], undefined);
  t.ok(Object.isFrozen(config));
  t.match(refusal('__proto__=1 __proto__=2'), /this key was given before/);
  t.end();
});

void t.test('the text of node-config has an upper bound in bytes', t => {
  const filler = (bytes: number) => `a="${'é'.repeat((bytes - 4) / 2)}"`;
  t.equal((parseNodeConfig(filler(maxNodeConfigBytes))['a'] as string).length, (maxNodeConfigBytes - 4) / 2);
  t.match(refusal(filler(maxNodeConfigBytes + 2)), /at most 65536 bytes/);
  t.end();
});

void t.test('a mapping of a YAML file is read with the same values', t => {
  t.same(
    { ...nodeConfigFromMapping({ a: 'x', 'b-c': 1, d: 0.5, e: true, f: 2n ** 60n, g: 3n }) },
    {
      a: 'x',
      'b-c': 1,
      d: 0.5,
      e: true,
      f: 2n ** 60n,
      g: 3,
    },
  );
  for (const value of [null, undefined, [], {}, NaN, Infinity, 2 ** 60, new Date(0)]) {
    t.throws(() => nodeConfigFromMapping({ key: value }), {
      code: 'CONFIG_INVALID',
      message: /"key" must be/,
    });
  }
  for (const key of ['', 'a b', 'a..b', 'ä', '.']) {
    t.throws(() => nodeConfigFromMapping({ [key]: 1 }), { code: 'CONFIG_INVALID', message: /expected keys/ });
  }
  t.equal(Object.getPrototypeOf(nodeConfigFromMapping({ a: 1 })), null);
  t.end();
});

const keys = fc.stringMatching(/^[A-Za-z0-9_-]{1,8}(\.[A-Za-z0-9_-]{1,4})?$/);
const values = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.boolean(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);

function write(value: string | boolean | bigint | number): string {
  if (typeof value === 'number') return value.toExponential();
  if (typeof value !== 'string') return String(value);
  const escaped = Array.from(value, each =>
    /["\\\p{Cc}]/u.test(each) ? `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}` : each,
  );
  return `"${escaped.join('')}"`;
}

void t.test('node-config that is written is read back equal', t => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(keys, values), { selector: ([key]) => key }), pairs => {
      const config = parseNodeConfig(pairs.map(([key, value]) => `${key}=${write(value)}`).join(' '));
      return pairs.every(([key, value]) => {
        const read = config[key];
        if (typeof value === 'string' || typeof value === 'boolean') return read === value;
        return typeof read === 'bigint' ? read === value : Number(read) === Number(value);
      });
    }),
  );
  t.end();
});

void t.test('parsing any text gives a configuration or one error with a caret', t => {
  const tokens = fc.constantFrom(
    'a',
    '=',
    '"',
    "'",
    '\\',
    ' ',
    '\n',
    '#',
    '1',
    '-',
    '.',
    'e',
    '_',
    'true',
    '\u0000',
    '😀',
  );
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(tokens).map(parts => parts.join('')),
  );
  fc.assert(
    fc.property(texts, text => {
      try {
        parseNodeConfig(text);
        return true;
      } catch (error) {
        if (!isRollcallError(error, 'CONFIG_INVALID')) return false;
        const lines = error.message.split('\n');
        return lines.length === 3 && /^ *\^$/.test(lines[2] ?? '');
      }
    }),
    { numRuns: 200 },
  );
  t.end();
});
