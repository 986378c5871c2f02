/** JSON Schema of what routes take, written once: what is not named is refused. */

export interface Schema {
  readonly [keyword: string]: unknown;
}

export function text(longest: number): Schema {
  return { type: 'string', minLength: 1, maxLength: longest };
}

/** May be empty, to take something away. */
export function anyText(longest: number): Schema {
  return { type: 'string', maxLength: longest };
}

/** How many there may be is for the domain to say, which knows what each costs. */
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
