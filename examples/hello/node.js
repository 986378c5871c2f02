import { nodeApp } from 'rollcall/app';

export default nodeApp({
  query({ content }, { nodeId, nodeConfig }) {
    const settings = Object.entries(nodeConfig).map(([name, value]) => `${name}=${value}`);
    return {
      answer: `${content.greeting} from node ${nodeId}, which has ${settings.join(', ') || 'no config'}`,
    };
  },
});
