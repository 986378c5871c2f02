/**
 * The closed list of permissions, and those that the built-in roles hold. A role is a name for a set of
 * permissions; an admin may define more of them, but no permission that is not here.
 */

/** Each with what it allows, for people. */
export const permissions = {
  'nodes:read': 'see all nodes, their status and their history',
  'nodes:register': 'register node keys, and write node configuration files for own nodes',
  'nodes:revoke': 'revoke any node',
  'runs:read': 'see all runs and their logs',
  'runs:submit': 'start runs',
  'runs:stop': 'stop any run',
  'tokens:issue': 'make API tokens with own permissions, at most',
  'tokens:introspect': 'ask whether tokens of others hold, and read the list of those that were revoked',
  'users:manage': 'create, change and disable users, and end their sessions',
  'services:manage': 'register services and what they may ask tokens for',
  'roles:manage': 'define roles',
  'audit:read': 'read, export and verify the audit log',
  'metrics:read': 'read the metrics of the link',
  'keys:rotate': 'rotate the keys that sign tokens',
  'tenants:manage': 'create and delete tenants',
} as const;

export type Permission = keyof typeof permissions;

export const permissionNames = Object.keys(permissions) as readonly Permission[];

/** They concern the whole link, so that only principals of the default tenant can hold them. */
export const linkWide: ReadonlySet<Permission> = new Set<Permission>([
  'metrics:read',
  'keys:rotate',
  'tenants:manage',
]);

export const builtInRoles: Readonly<Record<string, readonly Permission[]>> = {
  admin: permissionNames,
  operator: [
    'nodes:read',
    'nodes:register',
    'nodes:revoke',
    'runs:read',
    'runs:submit',
    'runs:stop',
    'tokens:issue',
    'metrics:read',
  ],
  viewer: ['nodes:read', 'runs:read', 'metrics:read'],
};

export function isPermission(text: string): text is Permission {
  return Object.hasOwn(permissions, text);
}
