import { afterAll, beforeAll, expect, it } from 'vitest';
import { ClientSocket } from '../support/client-socket.ts';
import { Witness, counterCommand } from '../support/invariants.ts';
import { busyboxImage } from '../support/images.ts';
import { newProcessId } from '../support/ids.ts';
import { createNatHost, type NatHost } from '../support/netns.ts';
import { type Stack, startStack } from '../support/stack.ts';

let host: NatHost;
let stack: Stack;

beforeAll(async () => {
  host = await createNatHost();
  stack = await startStack({ natHost: host });
}, 300_000);

afterAll(async () => {
  await stack?.stop();
  await host?.stop();
}, 120_000);

it('joins, runs sessions and streams from behind NAT without one inbound connection attempt', async () => {
  const witness = new Witness(stack);
  const session = await stack.client.createSession({
    type: 'batch',
    image: busyboxImage,
    command: counterCommand({ pauseMs: 20 }),
  });
  witness.accepted(session.id, { counts: true });
  await stack.client.waitForState(session.id, ['RUNNING']);

  const socket = await ClientSocket.dial(stack.url, `/v1/sessions/${session.id}/exec`, stack.client.token!);
  let said = '';
  const stream = socket.open(
    {
      op: 'process',
      processId: newProcessId(),
      spawn: { argv: ['sh', '-c', 'read line; echo got $line'], stdin: true },
    },
    { onData: (channel, payload) => (said += channel === 1 ? Buffer.from(payload).toString() : '') },
  );
  await stream.opened;
  await stream.send(Buffer.from('hello\n'));
  stream.end();
  expect(await stream.exit()).toMatchObject({ exitCode: 0 });
  expect(said).toBe('got hello\n');
  socket.close();

  expect((await stack.client.logs(session.id)).toString()).toContain('begin\n1\n2\n');
  await stack.client.deleteSession(session.id, '?graceMs=1000');
  await stack.client.waitForState(session.id, ['TERMINATED']);
  await witness.quiesce();
  expect(await witness.faults()).toEqual([]);
  await witness.stop();
  expect(await host.inboundAttempts()).toBe(0);
}, 180_000);
