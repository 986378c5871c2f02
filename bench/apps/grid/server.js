/**
 * The server half of the bench: does one job and returns its measurements. Moments go to nodes as the group of a
 * message, in nanoseconds on the clock of all processes; a message without one only warms up. Plain JavaScript, as an
 * author would write it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { serverApp } from 'rollcall/app';

const jobs = { latency, saturated, round, object, objects };
const small = { value: 1 };

export default serverApp(async ({ grid, config }) => {
  const found = await grid.nodes({ min: config.nodes, timeoutMs: 60_000 });
  const nodes = found.slice(0, config.nodes).map(({ id }) => id);
  const cpu = () => cpuMs(config['link-pid']);
  // Each node is sent the run once, which is not measured.
  await askAll(
    grid,
    nodes.map(node => ({ node, type: 'train', content: small })),
  );
  return jobs[config.job]({ grid, nodes, config, cpu });
});

/** At a steady pace, each node in its turn; from each send until its reply is there, µs. */
async function latency({ grid, nodes, config: { messages, rate }, cpu }) {
  const replyUs = [];
  const asking = [];
  const cpuBefore = cpu();
  const startedAt = now();
  for (let sent = 0; sent < messages;) {
    const due = Math.min(messages, 1 + Math.floor(((now() - startedAt) * rate) / 1000));
    for (; sent < due; sent += 1) asking.push(ask(nodes[sent % nodes.length]));
    await sleep(1);
  }
  await Promise.all(asking);
  return { replyUs, cpuMs: (cpu() - cpuBefore) / messages };

  async function ask(node) {
    const sentAt = now();
    await askAll(grid, [timed(node, small)]);
    replyUs.push(Math.round((now() - sentAt) * 1000));
  }
}

/** All messages are given to the grid at once, for as much concurrency as possible. */
async function saturated({ grid, nodes, config: { messages, rounds }, cpu }) {
  const done = [];
  for (let at = 0; at < rounds; at += 1) {
    const all = Array.from({ length: messages }, (_, index) => ({
      node: nodes[index % nodes.length],
      type: 'train',
      content: small,
    }));
    const cpuBefore = cpu();
    const startedAt = now();
    await askAll(grid, all);
    done.push({ wallMs: now() - startedAt, cpuMs: (cpu() - cpuBefore) / messages });
  }
  return done;
}

/** All are asked, and all answer. */
async function round({ grid, nodes, config: { rounds }, cpu }) {
  const done = [];
  for (let at = 0; at < rounds; at += 1) {
    const cpuBefore = cpu();
    const startedAt = now();
    await askAll(
      grid,
      nodes.map(node => ({ node, type: 'train', content: {} })),
    );
    done.push({ wallMs: now() - startedAt, cpuMs: cpu() - cpuBefore });
  }
  return done;
}

/** One and the same for all nodes. */
async function object({ grid, nodes, config, cpu }) {
  const content = { data: numbered(config['size-bytes'], 0) };
  return timedWork(cpu, () =>
    askAll(
      grid,
      nodes.map(node => timed(node, content)),
    ),
  );
}

/** Each message has one of its own; a few are asked at once. */
async function objects({ grid, nodes, config: { messages, 'size-bytes': sizeBytes }, cpu }) {
  const indexes = Array.from({ length: messages }, (_, index) => index).values();
  const work = async () => {
    for (const index of indexes)
      await askAll(grid, [timed(nodes[index % nodes.length], { data: numbered(sizeBytes, index) })]);
  };
  return timedWork(cpu, () => Promise.all(Array.from({ length: 32 }, work)));
}

async function timedWork(cpu, work) {
  const cpuBefore = cpu();
  const startedAt = now();
  await work();
  return { startedAt, endedAt: now(), cpuMs: cpu() - cpuBefore };
}

function timed(node, content) {
  return { node, type: 'train', content, group: `${process.hrtime.bigint()}` };
}

async function askAll(grid, messages) {
  for await (const { error } of grid.sendAndReceive(messages)) if (error) throw new Error(error.message);
}

/** Zeros, but for a number in every 64 KiB, so that no two chunks of any two of them are alike. */
function numbered(sizeBytes, number) {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at + 16 <= sizeBytes; at += 64 * 1024) {
    bytes.writeDoubleLE(number + 1, at);
    bytes.writeDoubleLE(at + 1, at + 8);
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

function now() {
  return Number(process.hrtime.bigint()) / 1e6;
}

function sleep(ms) {
  return new Promise(resolve => setTimeout(resolve, ms));
}

/** CPU of all threads of the link so far, ms. */
function cpuMs(pid) {
  const task = `/proc/${pid}/task`;
  const ofThread = thread => Number(readFileSync(`${task}/${thread}/schedstat`, 'utf8').split(' ', 1)[0]);
  return readdirSync(task).reduce((sum, thread) => sum + ofThread(thread), 0) / 1e6;
}
