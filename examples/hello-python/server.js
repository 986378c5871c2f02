import { serverApp } from 'rollcall/app';

export default serverApp(async ({ grid, config, log }) => {
  const content = { greeting: config.greeting };
  const messages = (await grid.nodes()).map(({ id }) => ({ node: id, type: 'query', content }));
  for await (const { node, content, error } of grid.sendAndReceive(messages))
    log.info(error ? `${node} did not answer: ${error.message}` : content.answer);
});
