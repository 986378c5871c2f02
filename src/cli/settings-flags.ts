/**
 * Flags made from a settings schema, so that a setting is described once: `data-dir` becomes `--data-dir <DIR>` with
 * its description, default and aliases in the help. What was typed comes out as it is, keyed by the
 * setting's name; the schema parses it later, together with the environment and the file.
 */
import { Option, type Command } from 'commander';
import {
  formatAddress,
  formatDuration,
  formatSize,
  type Address,
  type Setting,
  type Settings,
} from '../base/settings.js';

export type Flags = Record<string, unknown>;

/** Adds an option for every setting and its aliases; the object given back is filled while arguments are parsed. */
export function addSettingFlags(command: Command, schema: Settings): Flags {
  const flags: Flags = {};
  for (const [name, setting] of Object.entries(schema)) {
    addFlag(command, name, setting, describe(setting), flags, name);
    for (const alias of setting.aliases ?? []) addFlag(command, alias, setting, undefined, flags, name);
    if (setting.value === undefined && setting.default === true) addOffFlag(command, name, flags);
  }
  return flags;
}

/** `typed` is what stands after the dashes; without a description it works and is not in the help. */
function addFlag(
  command: Command,
  typed: string,
  setting: Setting<unknown>,
  text: string | undefined,
  flags: Flags,
  name: string,
): void {
  const value = setting.value === undefined ? '' : ` <${setting.value}>`;
  const option = new Option(`--${typed}${value}`, text);
  command
    .addOption(text === undefined ? option.hideHelp() : option)
    .on(`option:${typed}`, (said: unknown) => {
      flags[name] = setting.value === undefined ? true : said;
    });
}

/** A setting that is on by default can be turned off. */
function addOffFlag(command: Command, name: string, flags: Flags): void {
  command.addOption(new Option(`--no-${name}`).hideHelp()).on(`option:no-${name}`, () => {
    flags[name] = false;
  });
}

function describe(setting: Setting<unknown>): string {
  const preset = formatDefault(setting);
  const aliases = (setting.aliases ?? []).map(alias => `also --${alias}`);
  const notes = preset === undefined ? aliases : [`default: ${preset}`, ...aliases];
  return notes.length === 0 ? setting.description : `${setting.description} (${notes.join(', ')})`;
}

/** The default as a person would type it; undefined for none, and for what nobody could type. */
export function formatDefault({
  value,
  default: preset,
}: Pick<Setting<unknown>, 'value' | 'default'>): string | undefined {
  if (preset === true) return 'on';
  if (typeof preset === 'number') {
    if (value === 'DURATION') return formatDuration(preset);
    return value === 'SIZE' ? formatSize(preset) : String(preset);
  }
  if (typeof preset === 'string') return preset;
  if (Array.isArray(preset) && preset.length > 0) return preset.join(',');
  return isAddress(preset) ? formatAddress(preset) : undefined;
}

function isAddress(value: unknown): value is Address {
  return typeof value === 'object' && value !== null && 'host' in value && 'port' in value;
}
