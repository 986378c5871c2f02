/** The audit log of a link, over HTTP. */
import type { Checkpoint } from '../audit-log/checkpoint.js';
import type { AskAudit, AuditPage, AuditSource } from './audit-source.js';
import { askHttp, askLines } from './control-http.js';
import type { HttpTarget } from './http-target.js';
import { openControlSettings } from './control-options.js';
import { exitCodes } from './failure.js';
import { startProgress } from './progress.js';

export const askAudit: AskAudit = async (shell, flags, ask) => {
  const { token, ...target } = await openControlSettings(flags, shell.environment);
  const progress = startProgress(shell, `waiting for ${target.addressText}`);
  try {
    return (await ask(sourceOf(target, token), progress)) ?? exitCodes.done;
  } finally {
    progress.clear();
  }
};

function sourceOf(target: HttpTarget, token: string): AuditSource {
  return {
    listEvents(query) {
      const parameters = new URLSearchParams();
      for (const [name, value] of Object.entries(query))
        if (value !== undefined) parameters.set(name, `${value}`);
      return askHttp<AuditPage>(target, {
        method: 'GET',
        path: `/v1/audit/events?${parameters.toString()}`,
        token,
      });
    },
    exportLines: () => askLines(target, { method: 'GET', path: '/v1/audit/export', token }),
    latestCheckpoint: () =>
      askHttp<Checkpoint>(target, { method: 'POST', path: '/v1/audit/checkpoint', token }),
  };
}
