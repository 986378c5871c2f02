/** The half that learns: it sees the digits of this node, and sends back weights and counts, never a digit. */
import { setImmediate } from 'node:timers/promises';
import { nodeApp } from 'rollcall/app';
import { readDataset } from './dataset.js';
import { areWeights, copyWeights, createRandom, evaluateWeights, trainEpoch } from './network.js';

export default nodeApp({
  async train({ content }, context) {
    const { runConfig, state, log, signal } = context;
    const { train } = await readDataset(context.nodeConfig);
    const weights = copyWeights(weightsOf(content, runConfig));
    const epochs = runConfig['local-epochs'];
    const options = {
      batchSize: runConfig['batch-size'],
      learningRate: runConfig['learning-rate'],
      random: createRandom(runConfig.seed + content.round),
    };
    let loss = 0;
    for (let epoch = 1; epoch <= epochs; epoch += 1) {
      signal.throwIfAborted();
      loss = trainEpoch(weights, train, options);
      context.progress(epoch / epochs, `epoch ${epoch} of ${epochs}`);
      await setImmediate();
    }
    state.rounds = (state.rounds ?? 0) + 1;
    log.debug(`round ${content.round} (${state.rounds} with me): loss ${loss.toFixed(3)}`);
    return { weights, examples: train.labels.length, loss };
  },

  async evaluate({ content }, { nodeConfig, runConfig }) {
    const { holdout } = await readDataset(nodeConfig);
    const found = evaluateWeights(weightsOf(content, runConfig), holdout);
    return { ...found, examples: holdout.labels.length };
  },
});

function weightsOf({ weights }, { hidden }) {
  if (areWeights(weights, hidden)) return weights;
  throw new Error(`the server half sent no weights of a network with ${hidden} hidden units`);
}
