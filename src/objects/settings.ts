/** The bounds of what runs may keep on a disk: the same settings for a link and for a node. */
import { as, type Setting } from '../base/settings.js';

export const objectSpaceSetting = {
  value: 'SIZE',
  description: 'what the large contents of one run may take on the disk',
  default: 16 * 1024 ** 3,
  parse: as.size(64 * 1024 * 1024, 2 ** 50),
};

export const minFreeDiskSetting: Setting<number | undefined> = {
  value: 'SIZE',
  description:
    'what runs leave free on the disk of the data folder; defaults to 256MiB, or a twentieth of a small disk',
  parse: as.size(0, 2 ** 60),
};
