/** The settings of the app host: one schema for flags, environment (`ROLLCALL_APP_HOST_*`) and file. */
import { RollcallError } from '../../base/errors.js';
import { logFormatSetting, logLevels, type LogLevel } from '../../base/log.js';
import { as, type Setting, type Settings, type ValuesOf } from '../../base/settings.js';

export const environmentPrefix = 'ROLLCALL_APP_HOST_';

export const appHostSettings = {
  config: {
    value: 'FILE',
    description: 'these settings as "key: value" lines of YAML',
    parse: as.text,
  } as Setting<string | undefined>,
  socket: {
    value: 'PATH',
    description: 'the socket of the link or the agent whose apps run here',
    parse: as.text,
  } as Setting<string | undefined>,
  key: {
    value: 'FILE',
    description:
      'the key of that socket, which the link or the agent keeps as app-host.key; "-" reads it from standard input, so that the apps cannot',
    parse: as.text,
  } as Setting<string | undefined>,
  'allow-root': {
    description: 'run as root, so that apps are root as well',
    default: false,
    parse: as.flag,
  },
  'log-level': {
    value: 'LEVEL',
    description: logLevels.join(', '),
    default: 'info',
    parse: as.oneOf(logLevels),
  } as Setting<LogLevel>,
  'log-format': logFormatSetting,
} satisfies Settings;

export type AppHostSettings = ValuesOf<typeof appHostSettings>;

export interface UsableAppHostSettings extends AppHostSettings {
  readonly socket: string;
  readonly key: string;
}

/** Throws CONFIG_INVALID for settings that nothing can be run with, and for root. `userId`: undefined where there are none. */
export function requireUsable(
  settings: AppHostSettings,
  userId: number | undefined,
): asserts settings is UsableAppHostSettings {
  const missing = (['socket', 'key'] as const).filter(name => settings[name] === undefined);
  if (missing.length > 0) {
    throw new RollcallError('CONFIG_INVALID', missing.map(name => `--${name} is needed`).join('\n'), {
      hint: 'rollcall app-host --help shows all settings and an example',
    });
  }
  if (userId === 0 && !settings['allow-root']) {
    throw new RollcallError('CONFIG_INVALID', 'this is root, and apps run as the user of their app host', {
      hint: 'give it a user of its own that can read nothing else; --allow-root runs it as root all the same',
    });
  }
}
