/**
 * Checks values against the JSON Schemas of the routes: the keywords that schemas.ts uses and no others, so that no
 * keyword of a schema is ignored. A compiler of all of JSON Schema would generate code, and take longer to
 * load than the rest of the link.
 */
import { RollcallError } from '../../../base/errors.js';
import type { Schema } from './schemas.js';

/** Gives the problem of a value, which the message calls `name`; undefined for a valid one. */
type Check = (value: unknown, name: string) => string | undefined;

/** Gives a check that throws a REQUEST_INVALID, which names the place; reads the schema once. */
export function compileSchema(schema: Schema, what: string): (value: unknown) => void {
  const check = checkFor(schema);
  return value => {
    const problem = check(value, what);
    if (problem !== undefined) throw new RollcallError('REQUEST_INVALID', problem);
  };
}

const keywords: Readonly<Record<string, readonly string[]>> = {
  string: ['minLength', 'maxLength', 'enum'],
  integer: ['minimum'],
  boolean: [],
  array: ['items'],
  object: ['properties', 'required', 'additionalProperties', 'maxProperties'],
};

function checkFor(schema: Schema): Check {
  const { type = 'string' } = schema;
  const known = typeof type === 'string' && Object.hasOwn(keywords, type) ? keywords[type] : undefined;
  const foreign = Object.keys(schema).find(each => each !== 'type' && !known?.includes(each));
  if (!known || foreign !== undefined) throw new Error(`unsupported ${foreign ?? 'type'} in a schema`);
  if (type === 'string') return checkText(schema);
  if (type === 'array') return checkList(schema);
  if (type === 'object') return checkObject(schema);
  if (type === 'boolean')
    return (value, name) => (typeof value === 'boolean' ? undefined : `${name} must be true or false`);
  const { minimum = -Infinity } = schema as { minimum?: number };
  return (value, name) =>
    Number.isSafeInteger(value) && Number(value) >= minimum
      ? undefined
      : `${name} must be a whole number${minimum === -Infinity ? '' : `, at least ${minimum}`}`;
}

function checkText(schema: Schema): Check {
  const {
    minLength = 0,
    maxLength = Infinity,
    enum: words,
  } = schema as { minLength?: number; maxLength?: number; enum?: readonly string[] };
  if (words) {
    return (value, name) =>
      words.some(each => each === value) ? undefined : `${name} must be one of ${words.join(', ')}`;
  }
  return (value, name) => {
    if (typeof value === 'string' && value.length >= minLength && value.length <= maxLength) return undefined;
    return `${name} must be a text of ${minLength} to ${maxLength} characters`;
  };
}

function checkList(schema: Schema): Check {
  const { items } = schema as { items: Schema };
  const check = checkFor(items);
  return (value, name) => {
    if (!Array.isArray(value)) return `${name} must be a list`;
    return firstOf(value, (each, index) => check(each, `${name}[${index}]`));
  };
}

function checkObject(schema: Schema): Check {
  const {
    properties = {},
    required = [],
    additionalProperties,
    maxProperties = Infinity,
  } = schema as {
    properties?: Readonly<Record<string, Schema>>;
    required?: readonly string[];
    additionalProperties: false | Schema;
    maxProperties?: number;
  };
  const checks = new Map(Object.entries(properties).map(([name, each]) => [name, checkFor(each)]));
  const checkOther = additionalProperties === false ? undefined : checkFor(additionalProperties);
  return (value, name) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return `${name} must be an object`;
    const members = Object.entries(value);
    if (members.length > maxProperties) return `${name} must have at most ${maxProperties} members`;
    const missing = required.find(each => !Object.hasOwn(value, each));
    if (missing !== undefined) return `${name} must have ${missing}`;
    return firstOf(members, ([member, each]) => {
      const check = checks.get(member) ?? checkOther;
      // The message does not repeat a name that an unknown caller made up.
      return check
        ? check(each, checks.has(member) ? `${name}.${member}` : `each of ${name}`)
        : `unknown member in ${name}: expected ${[...checks.keys()].join(', ') || 'none'}`;
    });
  };
}

function firstOf<T>(
  values: readonly T[],
  find: (value: T, index: number) => string | undefined,
): string | undefined {
  for (const [index, value] of values.entries()) {
    const problem = find(value, index);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
