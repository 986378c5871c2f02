/** `rollcall nodes config NODE`: a configuration file that a node starts from; its private key is only pointed at. */
import { formatConfig } from '../../base/config-file.js';
import { RollcallError } from '../../base/errors.js';
import { isThere, writeWholeFile } from '../../base/secret-file.js';
import { askNodeConfig } from '../../control-client/administration.js';
import { createAsk } from '../../control-client/control-http.js';
import { openControlSettings, type ControlFlags } from '../control-options.js';
import { exitCodes } from '../failure.js';
import { toJson } from '../format.js';
import { printHint, warnOn, type Shell } from '../shell.js';
import { plainText } from '../../base/text.js';

export interface ConfigFlags extends ControlFlags {
  readonly output?: string;
  readonly privateKey?: string;
  readonly stateDir?: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

const placeOfKey = 'PATH-OF-THE-PRIVATE-KEY';

export async function writeNodeConfig(shell: Shell, node: string, flags: ConfigFlags): Promise<number> {
  const output = flags.output ?? 'node.yaml';
  // Before tokens are made that would be in no file.
  if (!flags.json && !flags.force) await refuseExisting(output);
  const { target, tokens } = await openControlSettings(flags, shell.environment, warnOn(shell));
  const answer = await askNodeConfig(createAsk(target, tokens), node);
  if (flags.json) {
    shell.stdout.write(`${toJson(answer, 2)}\n`);
    return exitCodes.done;
  }
  const settings = {
    link: answer.links[0]?.address ?? '',
    tenant: answer.tenant,
    'root-certificates': answer.serverRoots,
    'auth-private-key': flags.privateKey ?? placeOfKey,
    ...(flags.stateDir !== undefined && { 'state-dir': flags.stateDir }),
    access: {
      control: answer.control,
      'access-token': answer.accessToken,
      'refresh-token': answer.refreshToken,
    },
  };
  const head = `# Node ${answer.id}${answer.name === '' ? '' : ` (${answer.name})`}. Start it with: rollcall node --config ${output}\n`;
  await writeWholeFile(output, head + (await formatConfig(settings)), {
    overwrite: flags.force ?? false,
  });
  shell.stdout.write(`✅ ${plainText(output)} written.\n`);
  if (flags.privateKey === undefined)
    printHint(shell, `put the path of the node's private key in place of ${placeOfKey}`);
  return exitCodes.done;
}

async function refuseExisting(path: string): Promise<void> {
  if (!(await isThere(path))) return;
  throw new RollcallError('FILE_EXISTS', `${path} exists already`, {
    hint: '--force replaces it, and --output FILE writes elsewhere',
  });
}
