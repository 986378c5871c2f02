/**
 * A network that tells ten digits apart: 64 pixels → some tanh units → softmax, trained by stochastic gradient descent on
 * cross-entropy. Weights are contents of messages as they are, so nothing is converted on the way. What is added up is added
 * in double precision; the same seed gives the same weights on every machine but for the last bit of `Math.tanh` and `Math.exp`.
 */
import { NumberArray } from 'rollcall/app';

/**
 * A row for each unit of the layer, a column for each of its inputs.
 *
 * @typedef {{
 *   hiddenWeights: NumberArray<Float32Array>, hiddenBias: NumberArray<Float32Array>,
 *   outputWeights: NumberArray<Float32Array>, outputBias: NumberArray<Float32Array>,
 * }} Weights
 * @typedef {import('./dataset.js').Digits} Digits
 * @typedef {() => number} Random from 0 up to 1
 */

const inputs = 64;
const classes = 10;
const names = ['hiddenWeights', 'hiddenBias', 'outputWeights', 'outputBias'];

/**
 * Numbers that look random and are the same for the same seed (mulberry32).
 *
 * @param {number} seed
 * @returns {Random}
 */
export function createRandom(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Small enough for tanh not to be flat (Glorot and Bengio, 2010).
 *
 * @param {number} hidden how many units the hidden layer has
 * @param {Random} random
 * @returns {Weights}
 */
export function createWeights(hidden, random) {
  /** @param {number} rows @param {number} columns */
  const spread = (rows, columns) => {
    const bound = Math.sqrt(6 / (rows + columns));
    const data = Float32Array.from({ length: rows * columns }, () => (2 * random() - 1) * bound);
    return new NumberArray(data, [rows, columns]);
  };
  return {
    hiddenWeights: spread(hidden, inputs),
    hiddenBias: new NumberArray(new Float32Array(hidden)),
    outputWeights: spread(classes, hidden),
    outputBias: new NumberArray(new Float32Array(classes)),
  };
}

/**
 * Checks a value of another machine, which may be anything.
 *
 * @param {unknown} value
 * @param {number} hidden
 * @returns {value is Weights}
 */
export function areWeights(value, hidden) {
  if (typeof value !== 'object' || value === null) return false;
  const shapes = [[hidden, inputs], [hidden], [classes, hidden], [classes]];
  return names.every((name, at) => {
    const array = value[name];
    if (!(array instanceof NumberArray && array.data instanceof Float32Array)) return false;
    return array.shape.join() === shapes[at]?.join() && array.data.every(Number.isFinite);
  });
}

/**
 * To change without changing what was given.
 *
 * @param {Weights} weights
 * @returns {Weights}
 */
export function copyWeights(weights) {
  return mapWeights(weights, ({ data }) => Float32Array.from(data));
}

/**
 * Federated averaging (McMahan et al., 2017): each counts by how many examples it has seen.
 *
 * @param {readonly { weights: Weights, examples: number }[]} parts at least one
 * @returns {Weights}
 */
export function averageWeights(parts) {
  const [first] = parts;
  if (!first) throw new RangeError('there is nothing to average');
  const examples = parts.reduce((sum, part) => sum + part.examples, 0);
  return mapWeights(first.weights, ({ data }, name) => {
    const mean = new Float64Array(data.length);
    for (const part of parts) {
      const share = part.examples / examples;
      part.weights[name].data.forEach((weight, at) => (mean[at] += share * weight));
    }
    return Float32Array.from(mean);
  });
}

/**
 * One pass over all examples in random order; changes the weights.
 *
 * @param {Weights} weights
 * @param {Digits} digits
 * @param {{ batchSize: number, learningRate: number, random: Random }} options
 * @returns {number} the mean loss on the way
 */
export function trainEpoch(weights, digits, { batchSize, learningRate, random }) {
  const rows = shuffle(digits.labels.length, random);
  let loss = 0;
  for (let from = 0; from < rows.length; from += batchSize) {
    const batch = rows.subarray(from, from + batchSize);
    const found = findGradient(weights, digits, batch);
    loss += found.loss * batch.length;
    for (const name of names) {
      const { data } = weights[name];
      const slope = found.gradient[name];
      for (let at = 0; at < data.length; at += 1) data[at] -= learningRate * slope[at];
    }
  }
  return loss / rows.length;
}

/**
 * How often the likeliest digit is the right one, and the mean loss.
 *
 * @param {Weights} weights
 * @param {Digits} digits
 */
export function evaluateWeights(weights, digits) {
  const layers = createLayers(weights);
  let right = 0;
  let loss = 0;
  digits.labels.forEach((label, row) => {
    forward(weights, digits, row, layers);
    loss += lossOf(layers.output, label);
    if (layers.output.indexOf(Math.max(...layers.output)) === label) right += 1;
  });
  return { accuracy: right / digits.labels.length, loss: loss / digits.labels.length };
}

/**
 * Backpropagation: the mean loss over some rows, and its slope by each weight.
 *
 * @param {Weights} weights
 * @param {Digits} digits
 * @param {ArrayLike<number>} rows at least one
 */
export function findGradient(weights, digits, rows) {
  const gradient = {
    hiddenWeights: new Float64Array(weights.hiddenWeights.data.length),
    hiddenBias: new Float64Array(weights.hiddenBias.data.length),
    outputWeights: new Float64Array(weights.outputWeights.data.length),
    outputBias: new Float64Array(weights.outputBias.data.length),
  };
  const layers = createLayers(weights);
  const share = 1 / rows.length;
  let loss = 0;
  for (let each = 0; each < rows.length; each += 1) {
    const row = rows[each];
    const label = digits.labels[row];
    forward(weights, digits, row, layers);
    loss += lossOf(layers.output, label);
    backward(weights, digits, row, layers, gradient, share);
  }
  return { loss: loss * share, gradient };
}

/**
 * The outputs of the units of both layers; overwritten with each row.
 *
 * @typedef {{ hidden: Float64Array, output: Float64Array }} Layers
 * @param {Weights} weights
 * @returns {Layers}
 */
function createLayers({ hiddenBias }) {
  return { hidden: new Float64Array(hiddenBias.data.length), output: new Float64Array(classes) };
}

/** @param {Weights} weights @param {Digits} digits @param {number} row @param {Layers} layers */
function forward(weights, { pixels }, row, { hidden, output }) {
  weigh(weights.hiddenWeights.data, weights.hiddenBias.data, pixels, row * inputs, hidden);
  for (let unit = 0; unit < hidden.length; unit += 1) hidden[unit] = Math.tanh(hidden[unit]);
  weigh(weights.outputWeights.data, weights.outputBias.data, hidden, 0, output);
  const highest = Math.max(...output);
  let sum = 0;
  for (let digit = 0; digit < classes; digit += 1) {
    output[digit] = Math.exp(output[digit] - highest);
    sum += output[digit];
  }
  for (let digit = 0; digit < classes; digit += 1) output[digit] /= sum;
}

/**
 * For each unit its bias and the weighted sum of its inputs.
 *
 * @param {Float32Array} weights
 * @param {Float32Array} bias
 * @param {Float32Array | Float64Array} from
 * @param {number} at where the inputs begin
 * @param {Float64Array} to
 */
function weigh(weights, bias, from, at, to) {
  const columns = weights.length / bias.length;
  for (let unit = 0; unit < bias.length; unit += 1) {
    let sum = bias[unit];
    for (let each = 0; each < columns; each += 1) sum += weights[unit * columns + each] * from[at + each];
    to[unit] = sum;
  }
}

/**
 * Adds this row's share. The slope of the loss by what goes into the softmax is what came out less what was right.
 *
 * @param {Weights} weights
 * @param {Digits} digits
 * @param {number} row
 * @param {Layers} layers
 * @param {Record<keyof Weights, Float64Array>} gradient
 * @param {number} share
 */
function backward(weights, { pixels, labels }, row, { hidden, output }, gradient, share) {
  const slopes = new Float64Array(hidden.length);
  for (let digit = 0; digit < classes; digit += 1) {
    const slope = share * (output[digit] - (digit === labels[row] ? 1 : 0));
    gradient.outputBias[digit] += slope;
    for (let unit = 0; unit < hidden.length; unit += 1) {
      const at = digit * hidden.length + unit;
      gradient.outputWeights[at] += slope * hidden[unit];
      slopes[unit] += slope * weights.outputWeights.data[at];
    }
  }
  for (let unit = 0; unit < hidden.length; unit += 1) {
    const slope = slopes[unit] * (1 - hidden[unit] ** 2);
    gradient.hiddenBias[unit] += slope;
    for (let each = 0; each < inputs; each += 1)
      gradient.hiddenWeights[unit * inputs + each] += slope * pixels[row * inputs + each];
  }
}

/** @param {Float64Array} probabilities @param {number} label */
function lossOf(probabilities, label) {
  return -Math.log(Math.max(probabilities[label], Number.MIN_VALUE));
}

/** @param {number} count @param {Random} random */
function shuffle(count, random) {
  const rows = Uint32Array.from({ length: count }, (_, at) => at);
  for (let last = count - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [rows[last], rows[other]] = [rows[other], rows[last]];
  }
  return rows;
}

/**
 * @param {Weights} weights
 * @param {(array: NumberArray<Float32Array>, name: string) => Float32Array} dataOf
 * @returns {Weights}
 */
function mapWeights(weights, dataOf) {
  const entries = names.map(name => [
    name,
    new NumberArray(dataOf(weights[name], name), weights[name].shape),
  ]);
  return Object.fromEntries(entries);
}
