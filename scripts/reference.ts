/**
 * `npm run reference`: writes the pages of docs/reference from the tables of the code. test/docs.test.ts fails when a
 * page is not what this writes.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpcStatuses } from '@grpc/grpc-js';
import { format, resolveConfig } from 'prettier';
import { appHostSettings, environmentPrefix as appHostPrefix } from '../src/app-host/hosting/config.js';
import { messageErrors } from '../src/app/message-error.js';
import { errorTable, type ErrorCode } from '../src/base/error-codes.js';
import { RollcallError } from '../src/base/errors.js';
import type { Setting, Settings } from '../src/base/settings.js';
import { exitCodeOf } from '../src/cli/failure.js';
import { formatDefault } from '../src/cli/settings-flags.js';
import { alertEvents } from '../src/link/access/alerts.js';
import { permissions } from '../src/link/access/permissions.js';
import { auditEvents, type AuditEventFacts } from '../src/link/audit/event-types.js';
import {
  environmentPrefix as linkPrefix,
  keyPassphraseVariable,
  linkSettings,
} from '../src/link/settings.js';
import { rates, routeRules, type Access, type RouteName } from '../src/link/doors/access-table.js';
import { maxBodyBytes } from '../src/link/doors/rest/http-app.js';
import type { Route } from '../src/link/doors/rest/route.js';
import { createRoutes } from '../src/link/doors/rest/routes.js';
import type { Schema } from '../src/link/doors/rest/schemas.js';
import { metricTable, type MetricFacts } from '../src/link/metrics.js';
import { environmentPrefix as nodePrefix, nodeSettings, passphraseVariable } from '../src/node/config.js';
import { statusTable } from '../src/protocol/status.js';
import { isMainModule } from './main-module.js';

const folder = join(import.meta.dirname, '../docs/reference');

/** The text of every page, by its file name. */
export async function referencePages(): Promise<ReadonlyMap<string, string>> {
  const pages = Object.entries({
    'settings.md': settingsPage(),
    'errors.md': errorsPage(),
    'audit-events.md': auditEventsPage(),
    'metrics.md': metricsPage(),
    'rest.md': restPage(),
  });
  const style = { ...(await resolveConfig(folder)), parser: 'markdown' };
  const note = '<!-- Made by `npm run reference` from the tables of the code. Change those. -->';
  const made = pages.map(
    async ([name, text]) => [name, await format(text.replace('\n', `\n\n${note}\n`), style)] as const,
  );
  return new Map(await Promise.all(made));
}

const code = (text: string): string => `\`${text}\``;
const list = (names: readonly string[]): string => names.map(code).join(', ');

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n');
}

function settingsPage(): string {
  return `# Settings

Each program reads its settings from flags (${code('--data-dir DIR')}), environment variables (${code('ROLLCALL_LINK_DATA_DIR')}) and a YAML file
that ${code('--config')} names (${code('data-dir: DIR')}), in this order: the first one that has a value wins. An empty variable is unset.
Unknown names are refused, and every problem is reported at once. A duration is a number with ${list(['ms', 's', 'm', 'h', 'd'])};
a size one with ${list(['KiB', 'MiB', 'GiB'])}; a list has commas, or is a list in the file.

## rollcall link

Variables begin with ${code(linkPrefix)}. ${code(keyPassphraseVariable)} holds a passphrase, and is a variable alone.

${settingsTable(linkSettings)}

## rollcall node

Variables begin with ${code(nodePrefix)}. ${code(passphraseVariable)} holds a passphrase, and is a variable alone.

${settingsTable(nodeSettings)}

## rollcall app-host

Variables begin with ${code(appHostPrefix)}.

${settingsTable(appHostSettings)}
`;
}

function settingsTable(settings: Settings): string {
  return table(
    ['Setting', 'Value', 'Default', 'Bounds', 'What it is'],
    Object.entries(settings).map(([name, setting]) => {
      const aliases = setting.aliases ?? [];
      const preset = formatDefault(setting);
      return [
        code(`--${name}`),
        setting.value === undefined ? '' : code(setting.value),
        preset === undefined ? '' : code(preset),
        boundsOf(setting),
        aliases.length === 0
          ? setting.description
          : `${setting.description}; also ${list(aliases.map(alias => `--${alias}`))}`,
      ];
    }),
  );
}

function boundsOf(setting: Setting<unknown>): string {
  const bounds = setting.parse.bounds ?? [];
  return bounds.map(bound => code(formatDefault({ ...setting, default: bound }) ?? '')).join(' to ');
}

function errorsPage(): string {
  const rows = Object.entries(errorTable).map(([name, { meaning, hint }]) => {
    const { grpc, http } = statusTable[name as ErrorCode];
    const exit = exitCodeOf(new RollcallError(name as ErrorCode, ''));
    return [code(name), meaning, hint, code(grpcStatuses[grpc]), `${http}`, `${exit}`];
  });
  return `# Error codes

An error has a code of this closed set, a message, and often a hint that fits the case better than the one here. gRPC calls carry the
code in the trailer ${code('rollcall-code')} and the hint in ${code('rollcall-hint')}; over HTTP both are in a problem document (RFC 9457), as
${code('code')} and ${code('detail')}. The token endpoint answers by RFC 6749 §5.2, with the same code beside. *Exit* is the
exit code of the command; 2 is for what it found itself, and becomes 1 when the link says so.

${table(['Code', 'What it says', 'What to do', 'gRPC', 'HTTP', 'Exit'], rows)}

## Answers of messages

The codes that an app gets when a message has an error for an answer ([docs/apps.md](../apps.md)):

${table(
  ['Code', 'What it says'],
  Object.entries(messageErrors).map(([name, meaning]) => [code(name), meaning]),
)}
`;
}

function auditEventsPage(): string {
  const rows = Object.entries<AuditEventFacts>(auditEvents).map(([type, { happened, detail = '' }]) => [
    code(type),
    happened,
    detail,
  ]);
  return `# Audit events

Every type of event in the [audit log](../audit-log.md). The subject is a node or run id, an account id, or a name, unless the table says
otherwise.

${table(['Type', 'What happened', 'Detail'], rows)}
`;
}

function metricsPage(): string {
  const rows = Object.entries<MetricFacts>(metricTable).map(([name, { kind, help, labels = {} }]) => [
    code(name),
    kind,
    help,
    Object.entries(labels)
      .map(([label, values]) => `${code(label)}: ${values}`)
      .join('; '),
  ]);
  return `# Metrics

${code('GET /metrics')} on the control port, with a token that has ${code('metrics:read')}, answers in the text format of Prometheus. Beside these
there are ${code('process_…')} and ${code('nodejs_…')} of prom-client: memory, processor time, descriptors, event loop, garbage collection.

${table(['Metric', 'Kind', 'What it counts', 'Labels'], rows)}

## Alerts

What ${code('rollcall_security_alerts_total')} counts is a warning in the log of the link as well:

${table(
  ['Event', 'What happened'],
  Object.entries(alertEvents).map(([event, text]) => [code(event), text]),
)}
`;
}

/** Nothing of what routes need to answer. */
const nothing = {} as never;

function restPage(): string {
  const routes = createRoutes({
    health: nothing,
    auth: { access: nothing, administration: nothing },
    nodes: nothing,
    runs: nothing,
    administration: nothing,
    audit: nothing,
  });
  const limits = Object.entries(rates).filter(([, limit]) => limit !== Infinity);
  const restRates = limits.map(([name, limit]) => `${code(name)} ${limit}`).join(', ');
  return `# REST routes

On the control port, over TLS. A body has at most ${maxBodyBytes / 1024} KiB and is a JSON object, or a form of texts. *Takes* lists its members, or those of
the query: in brackets those that may be left out, with the most characters of a text; others are refused. What the token endpoints take is
in [docs/tokens.md](../tokens.md). Errors are [problem documents](errors.md). ${code('GET')} routes answer ${code('HEAD')} too.

*Rate* is how many requests a minute one principal may make, or one network where nobody says who they are: ${restRates}. Beyond it the answer
is 429 with ${code('Retry-After')}.

*Needs* is a permission of the caller's roles, or:

${table(['Needs', 'Who gets in'], accessMeanings)}

${table(
  ['Route', 'What it does', 'Needs', 'Rate', 'Takes'],
  (Object.entries(routes) as [RouteName, Route][]).map(([name, route]) => [
    code(name),
    route.does,
    needs(routeRules[name].access),
    code(routeRules[name].rate),
    takes(route),
  ]),
)}

## Permissions

${table(
  ['Permission', 'What it allows'],
  Object.entries(permissions).map(([name, text]) => [code(name), text]),
)}
`;
}

const accessMeanings = [
  ['nothing', 'everybody; with `--require-auth` of the link a token, but not for logins and keys'],
  ['a token', 'every user and service'],
  ['a node', 'a node with its token'],
  ['any token', 'users, services and nodes'],
  ['…, or own', 'with the permission all of the tenant; without it what the caller registered or started'],
  ['…, or a service', 'also a service that proves itself as at the token endpoint, without a token'],
];

function needs(access: Access): string {
  if (typeof access === 'object')
    return 'orOwner' in access
      ? `${code(access.orOwner)}, or own`
      : `${code(access.orService)}, or a service`;
  if (access === 'public' || access === 'open' || access === 'optional') return 'nothing';
  if (access === 'anyone') return 'a token';
  if (access === 'node') return 'a node';
  return access === 'anyoneOrNode' ? 'any token' : code(access);
}

function takes({ schema = {} }: Route): string {
  const parts = [
    ['query', schema.querystring],
    ['body', schema.body],
  ] as const;
  return parts
    .filter(([, part]) => part !== undefined)
    .map(([name, part]) => `${name}: ${members(part as Schema)}`)
    .join('; ');
}

/** `name` (≤ 63), [`roles`]: what may be left out in brackets, texts with their greatest length. */
function members({ properties, required }: Schema): string {
  const needed = new Set(required as readonly string[]);
  return Object.entries(properties as Readonly<Record<string, Schema>>)
    .map(([name, { maxLength, enum: words }]) => {
      const bound = typeof maxLength === 'number' ? ` (≤ ${maxLength})` : '';
      const choice = Array.isArray(words) ? ` (${words.join(', ')})` : '';
      return needed.has(name) ? `${code(name)}${bound}${choice}` : `[${code(name)}]${bound}${choice}`;
    })
    .join(', ');
}

if (isMainModule(import.meta.url))
  for (const [name, text] of await referencePages()) await writeFile(join(folder, name), text);
