/** When the agent comes back to an edge that it lost, and what it shows there. */
import { expect, it } from 'vitest';
import { badgeHeader } from '../../../schema/protocol/limits.ts';
import type { FakeHubSocket } from '../../support/fake-edge.ts';
import { attach } from './bench.ts';
import { agentOn, edge } from './on-fake-edge.ts';

it('[M12] knocks every few seconds where an edge was a moment ago', async () => {
  const agent = await agentOn();
  await attach(edge, agent);
  agent.time.advance(1000);
  await edge.stop();
  const tries = () => agent.log.lines.filter(({ message }) => message === 'the edge was not reached').length;
  await agent.time.until('the loss', () => agent.tunnel.status.state === 'connecting');
  for (let count = 1; count <= 15; count++) {
    agent.time.advance(3000);
    await agent.time.until(`try ${count}`, () => tries() === count);
  }
});

it('[M12] comes back over all of the time of a large fleet where its socket was reset, soon where it was its own way', async () => {
  edge.spreadMs = 60_000;
  const agent = await agentOn({ fraction: 0.5 });
  const backAfterMs = async (
    before: number,
    lose: (socket: FakeHubSocket) => Promise<void> | void,
  ): Promise<number> => {
    agent.time.advance(1000);
    await lose(edge.of('control')[before]!);
    await agent.time.until('the loss', () => agent.tunnel.status.state === 'connecting', 1000);
    const fromMs = agent.time.bootMs();
    await attach(edge, agent, before + 1);
    return agent.time.bootMs() - fromMs;
  };
  await attach(edge, agent);
  expect(await backAfterMs(0, (socket) => socket.ws.terminate())).toBeGreaterThanOrEqual(29_000);
  const isSilent = (socket: FakeHubSocket): void => void (socket.answersPings = false);
  expect(await backAfterMs(1, isSilent)).toBeLessThan(10_000);
  const asks = (socket: FakeHubSocket): void => socket.send({ type: 'goAway', spreadMs: 1000, reason: 'deploy' });
  const fromMs = agent.time.bootMs();
  await backAfterMs(2, asks);
  expect(agent.time.bootMs() - fromMs, 'asked to go').toBeGreaterThanOrEqual(29_000);
});

it('[K1] shows at its next dial, and when it asks for its challenge, what it was given, until it is refused', async () => {
  edge.badge = 'first';
  const agent = await agentOn();
  const shown = (n: number) => edge.of('control')[n]!.headers[badgeHeader];
  const again = async (n: number) => {
    edge.of('control')[n]!.ws.terminate();
    await agent.time.until('the next', () => edge.of('control')[n + 1], 1000);
  };
  await attach(edge, agent);
  edge.badge = 'second';
  await again(0);
  edge.badge = undefined;
  await again(1);
  await again(2);
  expect([shown(0), shown(1), shown(2), shown(3)]).toEqual([undefined, 'first', 'second', undefined]);
  edge.badge = 'third';
  await again(3);
  await agent.time.until('hello', () => edge.of('control')[4]!.of('hello')[0]);
  edge.of('control')[4]!.send({ type: 'refused', code: 'agent_not_found', detail: 'This group has no such agent.' });
  await agent.time.until('the next', () => edge.of('control')[5], 1000);
  expect([shown(4), shown(5)]).toEqual([undefined, undefined]);
  expect(edge.shownForChallenges).toEqual([undefined, 'first', 'second', undefined, undefined, undefined]);
});

it('[M12] keeps every moment that an edge with too much to do names, and backs off none the more', async () => {
  const refusal = { code: 'edge_overloaded', detail: 'Many agents connect at once.' };
  edge.upgradeAnswer = () => ({ status: 503, headers: { 'retry-after': '2' }, body: refusal });
  const agent = await agentOn();
  const tries = () => agent.log.lines.filter(({ message }) => message === 'the edge was not reached').length;
  for (let count = 1; count <= 12; count++) {
    await agent.time.until(`try ${count}`, () => tries() === count);
    agent.time.advance(1_900);
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect(tries()).toBe(count);
    agent.time.advance(100);
  }
});
