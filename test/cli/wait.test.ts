/** Waiting for a session while its control plane comes and goes. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { Api } from '../../cli/http/api.ts';
import { waitForSession } from '../../cli/session/wait.ts';
import { Session } from '../../schema/api/session.ts';
import { defaultOutputPolicy } from '../../schema/api/session-parts.ts';
import { newSessionId } from '../../schema/ids.ts';

it('waits on while the control plane is away for longer than a call is repeated', async () => {
  const id = newSessionId(Date.now(), randomBytes(10), 1, 1);
  const session = Session.parse({
    id,
    name: 'lab',
    type: 'batch',
    domainId: 'dom',
    projectId: 'prj',
    ownerId: 'usr',
    resourceGroup: 'default',
    image: 'image',
    stdin: false,
    tty: false,
    resources: {},
    state: 'RUNNING',
    generation: 1,
    version: 1,
    createdAtMs: 0,
    output: defaultOutputPolicy,
  });
  let asked = 0;
  // A call is tried six times.
  const server = createServer((request, response) => {
    if (++asked <= 7) request.socket.destroy();
    else response.setHeader('content-type', 'application/json').end(JSON.stringify(session));
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  try {
    const api = new Api({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: 'cwt_test' });
    const found = await waitForSession(api, id, ({ state }) => state === 'RUNNING', { quiet: true });
    expect(found).toEqual(session);
    expect(asked).toBe(8);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
