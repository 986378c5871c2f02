/**
 * The half that averages. Each round every node that is online trains the same weights on its own digits, the mean of what
 * they made goes on, and is measured on digits that nobody trained on. A node that fails is left out of that round.
 */
import { serverApp } from 'rollcall/app';
import { areWeights, averageWeights, createRandom, createWeights } from './network.js';

export default serverApp(async ({ grid, config, log, signal }) => {
  requireSettings(config);
  log.info(`waiting for ${config['min-nodes']} nodes`);
  await grid.nodes({ min: config['min-nodes'] });
  let weights = createWeights(config.hidden, createRandom(config.seed));
  const rounds = [];
  for (let round = 1; round <= config.rounds; round += 1) {
    signal.throwIfAborted();
    const startedAt = performance.now();
    const trained = await ask(
      'train',
      { weights, round },
      ({ weights, examples }) => areWeights(weights, config.hidden) && isCount(examples),
    );
    weights = averageWeights(trained);
    const measured = await ask(
      'evaluate',
      { weights, round },
      ({ accuracy, loss, examples }) => isShare(accuracy) && Number.isFinite(loss) && isCount(examples),
    );
    const accuracy = meanOf(measured, 'accuracy');
    const loss = meanOf(measured, 'loss');
    rounds.push({ round, accuracy, loss });
    const seconds = (performance.now() - startedAt) / 1000;
    log.info(
      `round ${round}/${config.rounds}  accuracy ${(100 * accuracy).toFixed(1)} %  loss ${loss.toFixed(2)}  ` +
        `(${trained.length} ${trained.length === 1 ? 'node' : 'nodes'}, ${seconds.toFixed(1)} s)`,
    );
  }
  return { rounds, accuracy: rounds.at(-1).accuracy };

  /** Of all nodes that are online: the answers that are usable, at least one. What nodes say is not believed blindly. */
  async function ask(type, content, isUsable) {
    const nodes = await grid.nodes();
    const nameOf = new Map(nodes.map(({ id, name }) => [id, name || id]));
    const messages = nodes.map(({ id }) => ({ node: id, type, content, group: `round ${content.round}` }));
    const usable = [];
    for await (const { node, content: answer, error } of grid.sendAndReceive(messages, {
      timeoutMs: 1000 * config['round-timeout'],
    })) {
      if (answer && isUsable(answer)) usable.push(answer);
      else
        log.warn(
          `round ${content.round}: ${nameOf.get(node)} is left out of ${type}: ${error?.message ?? 'its answer makes no sense'}`,
        );
    }
    if (usable.length === 0) throw new Error(`round ${content.round}: no node could ${type}`);
    return usable;
  }
});

/** Each node counts by how many digits it was measured on. */
function meanOf(answers, name) {
  const examples = answers.reduce((sum, answer) => sum + answer.examples, 0);
  return answers.reduce((sum, answer) => sum + answer[name] * answer.examples, 0) / examples;
}

function isCount(value) {
  return Number.isSafeInteger(value) && value > 0;
}

function isShare(value) {
  return value >= 0 && value <= 1;
}

function requireSettings(config) {
  for (const name of ['rounds', 'local-epochs', 'batch-size', 'hidden', 'min-nodes'])
    if (!isCount(config[name])) throw new Error(`${name} wants a whole number above 0`);
  for (const name of ['learning-rate', 'round-timeout'])
    if (!(config[name] > 0)) throw new Error(`${name} wants a number above 0`);
  if (!Number.isSafeInteger(config.seed)) throw new Error('seed wants a whole number');
}
