/** JSON Schema of what routes take, written once: a member without a schema is refused. */

export interface Schema {
  readonly [keyword: string]: unknown;
}

export function text(max: number): Schema {
  return { type: 'string', minLength: 1, maxLength: max };
}

/** May be empty, which removes the value. */
export function anyText(max: number): Schema {
  return { type: 'string', maxLength: max };
}

/** Of any length: the domain bounds it, since it knows the cost of each. */
export function listOf(items: Schema): Schema {
  return { type: 'array', items };
}

export const flag: Schema = { type: 'boolean' };

/** All of `required` and any of `optional`, and nothing else. */
export function objectOf(required: Record<string, Schema>, optional: Record<string, Schema> = {}): Schema {
  return {
    type: 'object',
    properties: { ...required, ...optional },
    required: Object.keys(required),
    additionalProperties: false,
  };
}
