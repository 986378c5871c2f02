/** `rollcall services list|create|change|secret`: programs that ask for tokens in their own name. */
import type { Services } from '../../control-client/administration.js';
import type { Service, ServiceSecret } from '../../control-client/answers.js';
import { formatDuration } from '../../base/settings.js';
import { exitCodes } from '../failure.js';
import { formatCount } from '../format.js';
import { printHint, type Shell } from '../shell.js';
import type { Column, Row } from '../table.js';
import { requireChange } from './arguments.js';
import { openAccess, type AskFlags } from './with-link.js';
import { readServiceFlags, type ServiceFlags } from './service-flags.js';
import {
  enabledShade,
  enabledText,
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

const columns: readonly Column[] = [
  { header: 'Service' },
  { header: 'Status', shade: enabledShade },
  { header: 'Roles', clipTo: 8, dropRank: 5 },
  { header: 'Audiences', clipTo: 10, dropRank: 6 },
  { header: 'Scopes', clipTo: 8, dropRank: 4 },
  { header: 'Addresses', dropRank: 2 },
  { header: 'Tokens Last', dropRank: 1 },
  { header: 'Comes With', dropRank: 3 },
  { header: 'ID', dropRank: 7 },
];

export async function listServices(shell: Shell, flags: AskFlags): Promise<number> {
  const services = await (await openAccess(shell, flags)).services.list();
  if (flags.json) printJson(shell, services.map(serviceJson));
  else printTable(shell, columns, services.map(serviceRow));
  if (services.length === 0 && !flags.json)
    printHint(shell, 'no service is registered yet; register one with rollcall services create NAME');
  return exitCodes.done;
}

function serviceRow(service: Service): Row {
  const { id, name, enabled, roles, audiences, scopes, addresses, tokenLifetimeMs } = service;
  const lists = [roles, audiences, scopes, addresses].map(each => each.join(', '));
  return [name, enabledText(enabled), ...lists, formatDuration(tokenLifetimeMs), proofText(service), id];
}

function proofText({ secrets, publicKeys, certificates }: Service): string {
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

function serviceJson({ validAfter: _, createdAt, ...service }: Service): object {
  return { ...service, createdAt: momentOrNull(createdAt) };
}

export async function createService(shell: Shell, name: string, flags: NewServiceFlags): Promise<number> {
  const settings = await readServiceFlags(flags);
  const { services } = await openAccess(shell, flags);
  const service = await services.create(name, settings);
  if (!flags.json) {
    printDone(shell, `Service ${service.name} created.`);
    printFacts(shell, [['client_id', service.id]]);
  }
  const made = flags.secret ? await makeSecret(shell, services, service) : undefined;
  if (flags.json)
    printJson(shell, { ...serviceJson(made?.service ?? service), ...(made && { secret: made.secret }) });
  else if (made) printFacts(shell, [['client_secret', made.secret]]);
  if (made) printHint(shell, onceHint);
  return exitCodes.done;
}

const onceHint = 'the secret is shown this once; hand it to the service by a file that only it can read';

/** The service is there already when this goes wrong. */
async function makeSecret(shell: Shell, services: Services, { id, name }: Service): Promise<ServiceSecret> {
  try {
    return await services.makeSecret(id);
  } catch (error) {
    printHint(shell, `the service is there without a secret; make one with rollcall services secret ${name}`);
    throw error;
  }
}

export async function changeService(shell: Shell, name: string, flags: ServiceChangeFlags): Promise<number> {
  const settings = await readServiceFlags(flags);
  const change = requireChange({ ...settings, ...(flags.endTokens && { endTokens: true }) });
  const { services } = await openAccess(shell, flags);
  const service = await services.change(name, change);
  if (flags.json) printJson(shell, serviceJson(service));
  else {
    const ended = flags.endTokens ? '; its tokens have ended' : '';
    printDone(shell, `Service ${service.name} changed${ended}.`);
  }
  return exitCodes.done;
}

/** The name is free for another service afterwards. */
export async function deleteService(shell: Shell, name: string, flags: AskFlags): Promise<number> {
  const { services } = await openAccess(shell, flags);
  await services.delete(name);
  if (flags.json) printJson(shell, { deleted: name });
  else printDone(shell, `Service ${name} deleted; its tokens have ended.`);
  return exitCodes.done;
}

/** Prints the secret alone on standard output. */
export async function renewSecret(shell: Shell, name: string, flags: AskFlags): Promise<number> {
  const { services } = await openAccess(shell, flags);
  const { service, secret } = await services.makeSecret(name);
  if (flags.json) printJson(shell, { ...serviceJson(service), secret });
  else printSecret(shell, secret);
  printHint(shell, onceHint);
  if (service.secrets > 1) printHint(shell, 'the one before it still works, until the next is made');
  return exitCodes.done;
}
