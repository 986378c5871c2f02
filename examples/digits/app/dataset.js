/**
 * The part of the digits that is on this node: a folder with `train.csv` and `holdout.csv`, as `npm run digits:split` writes
 * them. Its path is the setting `dataset-path` of the node; the data themselves never leave it.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

const pixelsOfDigit = 64;
const brightest = 16;
const header = [...Array.from({ length: pixelsOfDigit }, (_, at) => `p${at}`), 'digit'].join();

/**
 * Pixels from 0 to 1, row by row, 64 for each digit; and what each digit is.
 *
 * @typedef {{ pixels: Float32Array, labels: Uint8Array }} Digits
 */

/**
 * @param {Readonly<Record<string, unknown>>} nodeConfig
 * @returns {Promise<{ train: Digits, holdout: Digits }>}
 */
export async function readDataset(nodeConfig) {
  const path = nodeConfig['dataset-path'];
  if (typeof path !== 'string' || path === '')
    throw new Error(
      `this node was not told where its data are: --node-config 'dataset-path="datasets/part_1"'`,
    );
  const folder = resolve(path);
  return {
    train: await readDigits(join(folder, 'train.csv')),
    holdout: await readDigits(join(folder, 'holdout.csv')),
  };
}

/** @param {string} file */
async function readDigits(file) {
  const text = await readFile(file, 'utf8').catch(error => {
    if (error.code !== 'ENOENT') throw error;
    throw new Error(
      `there is no ${file}: write it with "npm run digits:split", or correct the node's dataset-path`,
    );
  });
  return parseDigits(text, file);
}

/**
 * @param {string} text
 * @param {string} file for messages
 * @returns {Digits}
 */
export function parseDigits(text, file) {
  const [first, ...lines] = text.trimEnd().split(/\r?\n/);
  if (first !== header) throw new Error(`${file} does not begin with the columns p0 to p63 and digit`);
  if (lines.length === 0) throw new Error(`${file} holds no digits`);
  const pixels = new Float32Array(lines.length * pixelsOfDigit);
  const labels = new Uint8Array(lines.length);
  lines.forEach((line, row) => {
    const cells = line.split(',');
    const isWhole = (cell, most) => /^\d{1,2}$/.test(cell) && Number(cell) <= most;
    const label = cells.pop();
    if (
      cells.length !== pixelsOfDigit ||
      !cells.every(cell => isWhole(cell, brightest)) ||
      !isWhole(label, 9)
    )
      throw new Error(`${file}:${row + 2} is no digit: 64 pixels from 0 to 16 and a number from 0 to 9`);
    cells.forEach((cell, at) => (pixels[row * pixelsOfDigit + at] = Number(cell) / brightest));
    labels[row] = Number(label);
  });
  return { pixels, labels };
}
