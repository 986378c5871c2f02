/** The order of versions by Semantic Versioning 2.0.0 §11. Build metadata does not count, as the standard says. */

const number = '(?:0|[1-9]\\d{0,15})';
const pattern = new RegExp(
  `^(${number})\\.(${number})\\.(${number})(?:-([0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*))?(?:\\+[0-9A-Za-z.-]+)?$`,
);
const maxLength = 255;

interface Version {
  /** Major, minor, patch. */
  readonly numbers: readonly number[];
  /** Empty for a release. */
  readonly prerelease: readonly string[];
}

function parseVersion(text: string): Version | undefined {
  const match = text.length <= maxLength ? pattern.exec(text) : null;
  if (!match) return undefined;
  const prerelease = match[4]?.split('.') ?? [];
  if (prerelease.some(each => /^0\d+$/.test(each))) return undefined;
  return { numbers: match.slice(1, 4).map(Number), prerelease };
}

export function isVersion(text: string): boolean {
  return parseVersion(text) !== undefined;
}

/** Below 0 when the first comes before the second. Throws TypeError for an invalid version. */
export function compareVersions(one: string, other: string): number {
  const [first, second] = [parseVersion(one), parseVersion(other)];
  if (!first || !second) throw new TypeError('invalid version');
  return compareLists(first.numbers, second.numbers, (a, b) => a - b) || comparePrereleases(first, second);
}

/** A version with a prerelease comes before the one without; more parts come after fewer. */
function comparePrereleases({ prerelease: one }: Version, { prerelease: other }: Version): number {
  if (one.length === 0 || other.length === 0) return other.length - one.length;
  return compareLists(one, other, compareParts) || one.length - other.length;
}

/** Numbers by value and before texts; texts by their characters. */
function compareParts(one: string, other: string): number {
  const [first, second] = [one, other].map(part => /^\d+$/.test(part));
  if (first && second) return one.length - other.length || compareTexts(one, other);
  if (first !== second) return first ? -1 : 1;
  return compareTexts(one, other);
}

function compareTexts(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function compareLists<T>(
  one: readonly T[],
  other: readonly T[],
  compare: (one: T, other: T) => number,
): number {
  for (let index = 0; index < Math.min(one.length, other.length); index++) {
    const order = compare(one[index] as T, other[index] as T);
    if (order !== 0) return order;
  }
  return 0;
}
