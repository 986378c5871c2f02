/** The bounds of what runs may keep on a disk: the same settings for a link and for a node. */
import { as, type Setting } from '../base/settings.js';

export const objectSpaceSetting = {
  value: 'SIZE',
  description: 'maximum space of the large contents of one run on the disk',
  default: 16 * 1024 ** 3,
  parse: as.size(64 * 1024 * 1024, 2 ** 50),
};

/** `folder`: where the objects lie, as the help calls it. */
export function minFreeDiskSetting(folder: string): Setting<number | undefined> {
  return {
    value: 'SIZE',
    description: `free space that runs must leave on the disk of the ${folder}; defaults to 256MiB, or 5 % of a disk under 5GiB`,
    parse: as.size(0, 2 ** 60),
  };
}
