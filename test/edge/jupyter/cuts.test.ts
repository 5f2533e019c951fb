/** How soon the gateway is back behind a cut between it and the agent. */
import { expect, it, vi } from 'vitest';
import { systemTimers } from '../../../edge/platform/clock.ts';
import { stream } from './gateway.ts';
import { sees, useKernelPages } from './kernel-page.ts';

const pages = useKernelPages();

it('heals each cut as soon as the one before, however many there are', async () => {
  const pauses = vi.spyOn(systemTimers, 'after');
  const { client, kernel } = await pages.connected({ session: 'page' });
  kernel.say(stream('0', 'r'));
  let { offset } = kernel;
  for (let cuts = 1; cuts <= 8; cuts++) {
    await sees(client, cuts);
    pages.gateway.agent.socket.close(1000);
    await pages.gateway.dialAgent();
    const again = await pages.gateway.stream();
    again
      .accept()
      .begin(1, offset)
      .say(stream(String(cuts), 'r'));
    ({ offset } = again);
  }
  await sees(client, 9);
  const waited = pauses.mock.calls.map(([ms]) => ms);
  expect(waited).toContain(100);
  // A bridge asks for its pauses one after another. Of those that are longer than this one, others ask too.
  expect(waited).not.toContain(1_500);
});
