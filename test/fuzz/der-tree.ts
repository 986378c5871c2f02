/**
 * DER as a tree that can be changed anywhere and written again with the lengths around the change made right, so that
 * a change deep inside is still found by a reader. Also writes what no honest writer would.
 */
import { changeBytes, pick, type Step } from './bytes.js';

export interface DerNode {
  readonly tag: number;
  /** Before the children: the zero of a bit string that holds DER. */
  readonly prefix: Buffer;
  readonly content: Buffer | readonly DerNode[];
  /** Instead of the true length. */
  readonly length?: Buffer;
}

export const leaf = (tag: number, content: Buffer): DerNode => ({ tag, prefix: Buffer.of(), content });
export const branch = (tag: number, ...content: readonly DerNode[]): DerNode => ({
  tag,
  prefix: Buffer.of(),
  content,
});

const deepest = 40;

function readAll(bytes: Buffer, depth: number): DerNode[] | undefined {
  const nodes: DerNode[] = [];
  for (let at = 0; at < bytes.length;) {
    const [tag = 0, first = 0x80] = bytes.subarray(at);
    const count = first < 0x80 ? 0 : first & 0x7f;
    if (first === 0x80 || count > 3 || at + 2 + count > bytes.length) return undefined;
    const length = count === 0 ? first : bytes.readUIntBE(at + 2, count);
    const start = at + 2 + count;
    if (start + length > bytes.length) return undefined;
    nodes.push(nodeOf(tag, bytes.subarray(start, start + length), depth));
    at = start + length;
  }
  return nodes;
}

function nodeOf(tag: number, content: Buffer, depth: number): DerNode {
  const constructed = (tag & 0x20) !== 0;
  const wraps = (tag === 0x04 || (tag === 0x03 && content[0] === 0)) && content.length > 4;
  if (depth > deepest || !(constructed || wraps)) return leaf(tag, content);
  const prefix = tag === 0x03 ? content.subarray(0, 1) : Buffer.of();
  const children = readAll(content.subarray(prefix.length), depth + 1);
  return children ? { tag, prefix, content: children } : leaf(tag, content);
}

/** The one element these bytes are; an octet string when they are no DER. */
export function readTree(bytes: Buffer): DerNode {
  const [node, ...rest] = readAll(bytes, 0) ?? [];
  return node && rest.length === 0 ? node : leaf(0x04, bytes);
}

function lengthOf({ length }: Buffer): Buffer {
  if (length < 0x80) return Buffer.of(length);
  if (length < 0x100) return Buffer.of(0x81, length);
  return length < 0x10000
    ? Buffer.of(0x82, length >> 8, length & 0xff)
    : Buffer.concat([Buffer.of(0x83), bigEndian(length)]);
}

function contentOf({ prefix, content }: DerNode): Buffer {
  return Buffer.isBuffer(content) ? content : Buffer.concat([prefix, ...content.map(writeTree)]);
}

export function writeTree(node: DerNode): Buffer {
  const content = contentOf(node);
  return Buffer.concat([Buffer.of(node.tag), node.length ?? lengthOf(content), content]);
}

const hex = (text: string) => Buffer.from(text, 'hex');

/** Elements to insert between others: unusual values of every type. */
const strangers: readonly DerNode[] = [
  leaf(0x05, hex('')),
  leaf(0x01, hex('ff')),
  leaf(0x01, hex('01')),
  leaf(0x02, hex('')),
  leaf(0x02, hex('ff')),
  leaf(0x02, hex('0001')),
  leaf(0x02, Buffer.alloc(200, 0x7f)),
  leaf(0x03, hex('')),
  leaf(0x03, hex('0780')),
  leaf(0x06, hex('80')),
  leaf(0x06, hex('2a864886f70d010101')),
  leaf(0x06, Buffer.alloc(64, 0xff)),
  leaf(0x17, Buffer.from('310230000000Z')),
  leaf(0x17, Buffer.from('310101000000+0100')),
  leaf(0x18, Buffer.from('20310101000000Z')),
  leaf(0x18, Buffer.from('99991231235959Z')),
  leaf(0x0c, Buffer.from('a\0b')),
  leaf(0x86, Buffer.from('spiffe://fleet.example.org/node/1\0')),
  leaf(0x30, hex('')),
  branch(0x31, leaf(0x05, hex(''))),
  leaf(0x1f, hex('00')),
  leaf(0x00, hex('')),
];

const tags = [0x30, 0x31, 0x02, 0x03, 0x04, 0x06, 0x0c, 0x13, 0x17, 0x18, 0x86, 0xa0, 0xa3, 0x24, 0x00, 0xff];
const lengths = [
  '80',
  '8100',
  '820001',
  '84ffffffff',
  '84000000ff',
  '7f',
  'ff',
  '00',
  '8900000000000000',
].map(hex);

/** Instead of a node: none, one or several. */
type Change = (node: DerNode, value: number, pool: readonly DerNode[]) => readonly DerNode[];

const changes: readonly Change[] = [
  () => [],
  node => [node, node],
  (_node, value, pool) => [pick(pool, value)],
  (node, value, pool) => [node, pick(pool, value)],
  (node, value) => [{ ...node, tag: pick(tags, value) }],
  (node, value) => [{ ...node, length: pick(lengths, value) }],
  // The right length in more bytes than it needs.
  node => [{ ...node, length: Buffer.concat([hex('83'), bigEndian(contentOf(node).length)]) }],
  (node, value) => [pick(strangers, value), node],
  (node, value) => [node, pick(strangers, value)],
  (_node, value) => [pick(strangers, value)],
  node => [{ ...node, content: hex('') }],
  node => (Buffer.isBuffer(node.content) ? [] : node.content),
  (node, value) => {
    const depth = value % 37 === 0 ? 400 : 1 + (value % 5);
    return [Array.from({ length: depth }).reduce<DerNode>(inner => branch(0x30, inner), node)];
  },
  ...Array.from({ length: 5 }, (): Change => changeContent),
];

function changeContent(node: DerNode, value: number): readonly DerNode[] {
  const step = { kind: value >> 3, at: value >> 7, value: value >> 5 };
  return [{ ...node, content: changeBytes(contentOf(node), [step]) }];
}

function bigEndian(length: number): Buffer {
  return Buffer.of(length >> 16, (length >> 8) & 0xff, length & 0xff);
}

/** Every node below this one and itself, from the top; those too deep for a stack stay out. */
export function nodesOf(root: DerNode): DerNode[] {
  const all: DerNode[] = [];
  const visit = (node: DerNode, depth: number): void => {
    all.push(node);
    if (!Buffer.isBuffer(node.content) && depth < deepest)
      node.content.forEach(each => visit(each, depth + 1));
  };
  visit(root, 0);
  return all;
}

function replaceNode(root: DerNode, old: DerNode, replacement: readonly DerNode[]): DerNode {
  let done = false;
  const visit = (node: DerNode, depth: number): readonly DerNode[] => {
    if (!done && node === old) {
      done = true;
      return replacement;
    }
    if (done || Buffer.isBuffer(node.content) || depth >= deepest) return [node];
    const content = node.content.flatMap(each => visit(each, depth + 1));
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition
    return [done ? { ...node, content } : node];
  };
  return visit(root, 0)[0] ?? root;
}

/** The tree after the steps; `pool` are nodes of other samples. */
export function changeTree(root: DerNode, list: readonly Step[], pool: readonly DerNode[]): DerNode {
  return list.reduce((tree, { kind, at, value }) => {
    const node = pick(nodesOf(tree), at);
    return replaceNode(tree, node, pick(changes, kind)(node, value, pool));
  }, root);
}
