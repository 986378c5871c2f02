/** One run of many messages, while the agents and the link are killed at moments of chance: every message has one answer. */
import type { Test } from 'tap';
import { setTimeout as pause } from 'node:timers/promises';
import type { Language } from '../../src/app-host/hosting/hosting.js';
import { RunOutcome } from '../../src/protocol/generated/rollcall/v1/runs.js';
import { nodeHalf, openRunSite, serverHalves, type SiteNode } from './run-site.js';

interface Outcome {
  readonly answers: readonly number[];
  readonly codes: Readonly<Record<string, number>>;
  readonly entered: number;
}

const servers = serverHalves(
  `
  const nodes = await grid.nodes({ min: 2 });
  log.info('sending');
  const messages = Array.from({ length: config['messages'] }, (_, index) => ({
    node: nodes[index % 2].id, type: 'query', content: { index },
  }));
  const answers = [];
  const codes = {};
  let entered = 0;
  for await (const { content, error } of grid.sendAndReceive(messages)) {
    if (error) codes[error.code] = (codes[error.code] ?? 0) + 1;
    else { answers.push(content.index); entered = Math.max(entered, content.attempt); }
    if (answers.length % 50 === 0) log.info('answered ' + answers.length);
  }
  return { answers, codes, entered };`,
  `
  nodes = grid.nodes(min_count=2)
  context.log.info("sending")
  messages = [OutgoingMessage(nodes[index % 2].id, "query", {"index": index}) for index in range(context.config["messages"])]
  answers, codes, entered = [], {}, 0
  for _, _, content, error in grid.send_and_receive(messages):
      if error:
          codes[error.code] = codes.get(error.code, 0) + 1
      else:
          answers.append(content["index"])
          entered = max(entered, content["attempt"])
      if len(answers) % 50 == 0:
          context.log.info(f"answered {len(answers)}")
  return {"answers": answers, "codes": codes, "entered": entered}`,
);

/** Half of the contents are objects, so that these are cut in the middle, too. */
const node = nodeHalf(`
  query: async ({ content, attempt }, { state }) => {
    await new Promise(resolve => setTimeout(resolve, 15));
    state.count = (state.count ?? 0) + 1;
    const large = content.index % 20 === 0 ? { bytes: new Uint8Array(100_000) } : {};
    return { index: content.index, attempt, ...large };
  },`);

/** Kills something so often; the order is by chance. */
export async function killWhileRunning(
  t: Test,
  kills: number,
  messages: number,
  language: Language = 'javascript',
): Promise<void> {
  const site = await openRunSite(t, { isolation: 'process' });
  await site.startHost();
  const names = ['berlin', 'tokyo'];
  const nodes: SiteNode[] = [];
  for (const name of names) nodes.push(await site.startTrusting(name));
  const run = await site.start({ ...servers[language], node, config: { messages } });
  for await (const { entry } of site.runs().log(run.id, { follow: true }))
    if (entry?.text === 'sending') break;
  for (let kill = 0; kill < kills; kill++) {
    await pause(Math.random() * 300);
    const victim = Math.floor(Math.random() * 3);
    if (victim === 2) {
      await site.link.running.stop('SIGKILL');
      await site.restart();
    } else {
      const name = names[victim] ?? '';
      const each = nodes[victim];
      if (!each) throw new Error('there is no such node');
      await each.running.stop('SIGKILL');
      await site.restartNode(name, each);
    }
  }
  const { resultJson, reason, outcome } = await site.finished(run);
  t.equal(outcome, RunOutcome.RUN_OUTCOME_COMPLETED, reason);
  const { answers, codes, entered } = JSON.parse(resultJson) as Outcome;
  t.equal(answers.length, messages, `every message has its answer: ${JSON.stringify(codes)}`);
  t.same(
    [...answers].sort((one, other) => one - other),
    Array.from({ length: messages }, (_, index) => index),
    'exactly one each',
  );
  t.same(codes, {}, 'and none is an error');
  t.comment(`${kills} kills; a handler was entered ${entered} times at most`);
}
