/** `rollcall services list|create|change|secret`: programs that ask for tokens in their own name. */
import type { ServiceView } from '../../link/administration.js';
import { exitCodes } from '../failure.js';
import { formatCount } from '../format.js';
import { printHint, type Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { requireChange } from './arguments.js';
import { openAsk, pathOf, type Ask, type AskFlags } from './asking.js';
import { readServiceFlags, type ServiceFlags } from './service-flags.js';
import {
  enabledShade,
  enabledText,
  formatDuration,
  momentOrNull,
  printDone,
  printFacts,
  printJson,
  printSecret,
  printTable,
} from './showing.js';

export interface NewServiceFlags extends AskFlags, ServiceFlags {
  readonly secret?: boolean;
}

export interface ServiceChangeFlags extends AskFlags, ServiceFlags {
  readonly endTokens?: boolean;
}

interface SecretAnswer {
  readonly service: ServiceView;
  readonly secret: string;
}

const columns: readonly Column[] = [
  { header: 'Service' },
  { header: 'Status', shade: enabledShade },
  { header: 'Roles' },
  { header: 'Audiences' },
  { header: 'Scopes' },
  { header: 'Addresses' },
  { header: 'Tokens Last' },
  { header: 'Comes With' },
  { header: 'ID' },
];

export async function listServices(shell: Shell, flags: AskFlags): Promise<number> {
  const ask = await openAsk(shell, flags);
  const { services } = await ask<{ services: ServiceView[] }>('GET', '/v1/services');
  if (flags.json) printJson(shell, services.map(serviceJson));
  else printTable(shell, columns, services.map(serviceRow));
  if (services.length === 0 && !flags.json)
    printHint(shell, 'no service is registered yet; register one with rollcall services create NAME');
  return exitCodes.done;
}

function serviceRow(service: ServiceView): Row {
  const { id, name, enabled, roles, audiences, scopes, addresses, tokenLifetimeMs } = service;
  const lists = [roles, audiences, scopes, addresses].map(each => each.join(', '));
  return [name, enabledText(enabled), ...lists, formatDuration(tokenLifetimeMs), proofText(service), id];
}

function proofText({ secrets, publicKeys, certificates }: ServiceView): string {
  const counts = [
    [secrets, 'secret'],
    [publicKeys.length, 'key'],
    [certificates.length, 'certificate'],
  ] as const;
  return counts
    .filter(([count]) => count > 0)
    .map(([count, noun]) => formatCount(count, noun))
    .join(', ');
}

function serviceJson({ validAfter: _, createdAt, ...service }: ServiceView): object {
  return { ...service, createdAt: momentOrNull(createdAt) };
}

export async function createService(shell: Shell, name: string, flags: NewServiceFlags): Promise<number> {
  const settings = await readServiceFlags(flags);
  const ask = await openAsk(shell, flags);
  const service = await ask<ServiceView>('POST', '/v1/services', { name, ...settings });
  if (!flags.json) {
    printDone(shell, `Service ${service.name} created.`);
    printFacts(shell, [['client_id', service.id]]);
  }
  const made = flags.secret ? await makeSecret(shell, ask, service) : undefined;
  if (flags.json)
    printJson(shell, { ...serviceJson(made?.service ?? service), ...(made && { secret: made.secret }) });
  else if (made) printFacts(shell, [['client_secret', made.secret]]);
  if (made) printHint(shell, onceHint);
  return exitCodes.done;
}

const onceHint = 'the secret is shown this once; hand it to the service by a file that only it can read';

/** The service is there already when this goes wrong. */
async function makeSecret(shell: Shell, ask: Ask, { id, name }: ServiceView): Promise<SecretAnswer> {
  try {
    return await ask<SecretAnswer>('POST', `${pathOf('services', 'service', id)}/secret`);
  } catch (error) {
    printHint(shell, `the service is there without a secret; make one with rollcall services secret ${name}`);
    throw error;
  }
}

export async function changeService(shell: Shell, name: string, flags: ServiceChangeFlags): Promise<number> {
  const settings = await readServiceFlags(flags);
  const change = requireChange({ ...settings, ...(flags.endTokens && { endTokens: true }) });
  const path = pathOf('services', 'service', name);
  const ask = await openAsk(shell, flags);
  const service = await ask<ServiceView>('PATCH', path, change);
  if (flags.json) printJson(shell, serviceJson(service));
  else {
    const ended = flags.endTokens ? '; its tokens have ended' : '';
    printDone(shell, `Service ${service.name} changed${ended}.`);
  }
  return exitCodes.done;
}

/** The secret alone on standard output. */
export async function renewSecret(shell: Shell, name: string, flags: AskFlags): Promise<number> {
  const path = `${pathOf('services', 'service', name)}/secret`;
  const ask = await openAsk(shell, flags);
  const { service, secret } = await ask<SecretAnswer>('POST', path);
  if (flags.json) printJson(shell, { ...serviceJson(service), secret });
  else printSecret(shell, secret);
  printHint(shell, onceHint);
  if (service.secrets > 1) printHint(shell, 'the one before it still works, until the next is made');
  return exitCodes.done;
}
