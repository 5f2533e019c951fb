/** Kernels and sessions of Jupyter over HTTP, through the front door, as its clients ask for them. */
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { JupyterKernel, JupyterKernelspecs, JupyterSession } from '../../../schema/api/jupyter.ts';
import { mainKernelOf, parseJupyterKernelId, toJupyterKernelId } from '../../../schema/api/jupyter.ts';
import { call } from '../client.ts';
import { Gateway, idleKernel, python3 } from './gateway.ts';

let gateway: Gateway;
beforeEach(async () => {
  gateway = new Gateway();
  await gateway.begin();
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** As JupyterLab asks: the token as `token`, bodies as text. */
function ask<Body = Record<string, unknown>>(method: string, path: string, body?: unknown) {
  return call<Body>(method, path, {
    headers: {
      authorization: `token ${gateway.token}`,
      ...(body === undefined ? {} : { 'content-type': 'text/plain;charset=UTF-8' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

async function startKernel(): Promise<{ id: string; sessionId: string; kernelId: string }> {
  const { body, status, text } = await ask<JupyterKernel>('POST', '/jupyter/api/kernels', { name: 'python3' });
  expect(status, text).toBe(201);
  return { id: body.id, ...parseJupyterKernelId(body.id)! };
}

describe('the server', () => {
  it('says what it is, who asks, and what there is', async () => {
    expect((await ask('GET', '/jupyter/api')).body).toEqual({ version: '2.15.0' });
    expect((await ask('GET', '/jupyter/api/me?permissions=%7B%7D')).body).toMatchObject({
      identity: { username: gateway.userId, name: 'admin' },
    });
    expect((await ask('GET', '/jupyter/api/status?1700000000000')).body).toMatchObject({ kernels: 0, connections: 0 });
  });

  it('refuses in the form that its clients read', async () => {
    const unknown = await call('GET', '/jupyter/api/kernels');
    expect(unknown).toMatchObject({
      status: 401,
      body: { message: 'Authentication is required', reason: 'Authentication is required', code: 'auth_missing' },
    });
    expect(unknown.headers.get('content-type')).toBe('application/json');
    expect(await ask('GET', '/jupyter/api/contents')).toMatchObject({ status: 404, body: { code: 'route_not_found' } });
    expect((await ask('GET', '/jupyter/api/contents')).body).toHaveProperty('message');
    const malformed = await ask('POST', '/jupyter/api/sessions', { type: 'notebook' });
    expect(malformed).toMatchObject({ status: 400, body: { code: 'request_body_invalid' } });
    expect(String(malformed.body['message'])).toContain('path');
  });

  it('takes a token in the address of a socket alone', async () => {
    const { token } = gateway;
    for (const path of [`/jupyter/api/kernels?token=${token}`, `/v1/whoami?token=${token}`])
      expect(await call('GET', path)).toMatchObject({ status: 400, body: { code: 'request_token_in_url' } });
    expect(await call('GET', '/v1/whoami', { headers: { authorization: `token ${token}` } })).toMatchObject({
      status: 401,
    });
  });
});

describe('kernelspecs', () => {
  it('are made of images and presets, with names for people', async () => {
    const { body } = await ask<JupyterKernelspecs>('GET', '/jupyter/api/kernelspecs');
    expect(body.default).toBe('causeway-python-3.13.small');
    expect(
      Object.entries(body.kernelspecs).map(([name, { spec }]) => [name, spec.display_name, spec.language]),
    ).toEqual([
      ['causeway-python-3.13.small', 'Python 3.13 - 1 CPU - 2 GB', 'python'],
      ['causeway-python-3.13.large', 'Python 3.13 - 4 CPU - 8 GB', 'python'],
    ]);
    const one = await ask('GET', '/jupyter/api/kernelspecs/causeway-python-3.13.large');
    expect(one.body).toEqual(body.kernelspecs['causeway-python-3.13.large']);
    for (const path of [
      '/jupyter/api/kernelspecs/cobol',
      '/jupyter/kernelspecs/causeway-python-3.13.large/logo-64x64.png',
    ])
      expect(await ask('GET', path)).toMatchObject({ status: 404, body: { code: 'jupyter_kernelspec_missing' } });
  });

  it('follow the presets that an administrator sets', async () => {
    const { token } = gateway;
    const put = await call('PUT', '/v1/resource-presets/tiny', {
      token,
      body: { resources: { cpu: 0.5, mem: '512m' } },
    });
    expect(put.status, put.text).toBe(200);
    expect((await call('DELETE', '/v1/resource-presets/large', { token })).status).toBe(204);
    expect((await call('DELETE', '/v1/resource-presets/large', { token })).status).toBe(404);
    expect((await call('PUT', '/v1/resource-presets/bad', { token, body: { resources: { cpu: 'x' } } })).status).toBe(
      400,
    );
    const { body } = await ask<JupyterKernelspecs>('GET', '/jupyter/api/kernelspecs');
    expect(Object.values(body.kernelspecs).map(({ spec }) => spec.display_name)).toEqual([
      'Python 3.13 - 1 CPU - 2 GB',
      'Python 3.13 - 0.5 CPU - 0.5 GB',
    ]);
    expect((await call('DELETE', '/v1/resource-presets/tiny', { token })).status).toBe(204);
    const { body: left } = await call<{ items: unknown[] }>('GET', '/v1/resource-presets', { token });
    expect(left.items).toHaveLength(2);
  });

  it('follow as many presets as there may be, also when the default ones are taken away', async () => {
    const { token } = gateway;
    for (const name of ['small', 'large', 'gpu']) await call('DELETE', `/v1/resource-presets/${name}`, { token });
    const body = { resources: { cpu: 1, mem: '1g' } };
    await env.DB.prepare("INSERT INTO resource_presets (name, resources) SELECT 'p-' || value, ? FROM json_each(?)")
      .bind(JSON.stringify(body.resources), JSON.stringify(Array.from({ length: 63 }, (_, at) => at)))
      .run();
    expect((await call('PUT', '/v1/resource-presets/zz', { token, body })).status).toBe(200);
    const { body: listed } = await call<{ items: { name: string }[] }>('GET', '/v1/resource-presets', { token });
    expect(listed.items).toHaveLength(64);
    expect(listed.items.at(-1)?.name).toBe('zz');
    expect(await call('PUT', '/v1/resource-presets/zzz', { token, body })).toMatchObject({
      status: 409,
      body: { code: 'preset_limit' },
    });
  });
});

describe('a kernel', () => {
  it('is a session that is made for it, and ends with it', async () => {
    const made = await ask<JupyterKernel>('POST', '/jupyter/api/kernels', {
      name: 'causeway-python-3.13.large',
      env: { KERNEL_USERNAME: 'ada', 'not a name': 'x', NUL: '\0', NUMBER: 7 },
    });
    expect(made.status, made.text).toBe(201);
    expect(made.body).toMatchObject({
      name: 'causeway-python-3.13.large',
      execution_state: 'starting',
      connections: 0,
    });
    // What jupyter-server takes for an id.
    expect(made.body.id).toMatch(/^\w+-\w+-\w+-\w+-\w+$/);
    expect(made.headers.get('location')).toBe(`/jupyter/api/kernels/${made.body.id}`);
    const { sessionId, kernelId } = parseJupyterKernelId(made.body.id)!;
    const session = await call('GET', `/v1/sessions/${sessionId}`, { token: gateway.token });
    expect(session.body).toMatchObject({
      type: 'interactive',
      image: 'causeway/python:3.13',
      resources: { cpu: 4000, mem: 8 * 1024 ** 3 },
    });
    expect(String(session.body['name'])).toMatch(/^jupyter-/);
    await gateway.run(sessionId);
    expect((await ask('GET', `/jupyter/api/kernels/${made.body.id}`)).body).toMatchObject({
      execution_state: 'starting',
    });
    gateway.kernels = [{ ...idleKernel(kernelId), state: 'busy', activeAtMs: 1_800_000_060_000 }];
    const shown = await ask<JupyterKernel>('GET', `/jupyter/api/kernels/${made.body.id}`);
    expect(shown.body).toMatchObject({
      execution_state: 'busy',
      name: 'causeway-python-3.13.large',
      // Not when it was started: servers end what was not active for long.
      last_activity: '2027-01-15T08:01:00.000Z',
    });
    expect((await ask('GET', '/jupyter/api/kernels')).body).toEqual([shown.body]);
    expect((await ask('DELETE', `/jupyter/api/kernels/${made.body.id}`)).status).toBe(204);
    const ended = await call('GET', `/v1/sessions/${sessionId}`, { token: gateway.token });
    expect(ended.body['state']).toBe('TERMINATING');
  });

  it('is interrupted and restarted by its agent; one that nobody connected to is started', async () => {
    const { id, sessionId, kernelId } = await startKernel();
    await gateway.run(sessionId);
    const restarted = await ask('POST', `/jupyter/api/kernels/${id}/restart`, {});
    expect([restarted.status, restarted.body]).toMatchObject([200, { id, execution_state: 'idle' }]);
    expect((await ask('POST', `/jupyter/api/kernels/${id}/interrupt`)).status).toBe(204);
    expect((await ask('POST', `/jupyter/api/kernels/${id}/restart`)).status).toBe(200);
    expect(
      gateway.asked.filter(({ op }) => op === 'kernel').map(({ input }) => [input['kernelId'], input['act']]),
    ).toEqual([
      [kernelId, { kind: 'restart' }],
      [kernelId, { kind: 'startSpec', spec: 'python3', restarts: { perMinute: 5 } }],
      [kernelId, { kind: 'interrupt' }],
      [kernelId, { kind: 'restart' }],
    ]);
  });

  it.each(['python3', 'python', undefined, null])('of the name %j is the default one', async (name) => {
    const { status, body } = await ask<JupyterKernel>('POST', '/jupyter/api/kernels', { name });
    expect([status, body.name]).toEqual([201, 'causeway-python-3.13.small']);
  });

  it('that is unknown, over, or of nobody is 404, and one of a name that is not there too', async () => {
    const { id, sessionId } = await startKernel();
    for (const other of [
      'x',
      'a-b-c-d-e',
      id.replace('ses-', 'ses-0'),
      toJupyterKernelId(sessionId, `krn_${'0'.repeat(26)}`),
    ]) {
      const expected = { status: 404, body: { code: 'kernel_not_found' } };
      if (other.startsWith('ses-') && parseJupyterKernelId(other)) await gateway.run(sessionId);
      expect(await ask('GET', `/jupyter/api/kernels/${other}`), other).toMatchObject(expected);
    }
    expect(await ask('POST', '/jupyter/api/kernels', { name: 'cobol' })).toMatchObject({
      status: 404,
      body: { code: 'jupyter_kernelspec_missing' },
    });
  });

  it('that finds no resources is given up with what it waited for', async () => {
    // The one agent has 16 cores.
    for (let at = 0; at < 4; at++)
      expect((await ask('POST', '/jupyter/api/kernels', { name: 'causeway-python-3.13.large' })).status).toBe(201);
    const { token } = gateway;
    const refused = await ask('POST', '/jupyter/api/kernels', { name: 'python3', env: { KERNEL_LAUNCH_TIMEOUT: '1' } });
    expect(refused).toMatchObject({ status: 503, body: { code: 'jupyter_start_waits' } });
    expect(String(refused.body['message'])).toMatch(/nearest fit is bench: needs 1 cpu, has 0 cpu/);
    const { body } = await call<{ items: unknown[] }>('GET', '/v1/sessions?state=live', { token });
    expect(body.items).toHaveLength(4);
  });
});

describe('a session of Jupyter', () => {
  it('is a path for a kernel: made, found again, renamed, given another kernel, and ended', async () => {
    const model = { path: 'a/n.ipynb', name: 'n.ipynb', type: 'notebook', kernel: { name: 'python3' } };
    const made = await ask<JupyterSession>('POST', '/jupyter/api/sessions', model);
    expect(made.status, made.text).toBe(201);
    expect(made.body).toMatchObject({
      path: 'a/n.ipynb',
      name: 'n.ipynb',
      type: 'notebook',
      notebook: { path: 'a/n.ipynb' },
    });
    expect(made.body.id).toMatch(/^\w+-\w+-\w+-\w+-\w+$/);
    const path = `/jupyter/api/sessions/${made.body.id}`;
    const again = await ask<JupyterSession>('POST', '/jupyter/api/sessions', model);
    expect([again.status, again.body.id]).toEqual([201, made.body.id]);
    expect((await ask<JupyterSession[]>('GET', '/jupyter/api/sessions')).body.map(({ id }) => id)).toEqual([
      made.body.id,
    ]);
    const renamed = await ask<JupyterSession>('PATCH', path, { path: 'b.ipynb', name: 'b.ipynb' });
    expect(renamed.body).toMatchObject({ path: 'b.ipynb', type: 'notebook', kernel: { id: made.body.kernel.id } });
    const changed = await ask<JupyterSession>('PATCH', path, { kernel: { name: 'causeway-python-3.13.large' } });
    expect(changed.body.kernel.name).toBe('causeway-python-3.13.large');
    expect((await ask('GET', `/jupyter/api/kernels/${made.body.kernel.id}`)).status).toBe(404);
    const second = await startKernel();
    expect((await ask<JupyterSession>('PATCH', path, { kernel: { id: second.id } })).body.kernel.id).toBe(second.id);
    expect((await ask('GET', path)).status).toBe(200);
    expect((await ask('DELETE', path)).status).toBe(204);
    for (const method of ['GET', 'PATCH', 'DELETE'])
      expect(await ask(method, path, method === 'PATCH' ? {} : undefined)).toMatchObject({ status: 404 });
    expect((await ask('GET', `/jupyter/api/kernels/${second.id}`)).status).toBe(404);
  });

  it('is gone with its kernel', async () => {
    const { id } = await startKernel();
    const made = await ask<JupyterSession>('POST', '/jupyter/api/sessions', {
      path: 'n',
      type: 'notebook',
      kernel: { id },
    });
    expect((await ask('DELETE', `/jupyter/api/kernels/${id}`)).status).toBe(204);
    expect((await ask('GET', '/jupyter/api/sessions')).body).toEqual([]);
    expect((await ask('GET', `/jupyter/api/sessions/${made.body.id}`)).status).toBe(404);
    // A page that is opened again names the kernel that it had.
    const again = await ask<JupyterSession>('POST', '/jupyter/api/sessions', {
      path: 'n',
      type: 'console',
      kernel: { id, name: 'python3' },
    });
    expect([again.status, again.body.kernel.id === id, 'notebook' in again.body]).toEqual([201, false, false]);
  });
});

describe('the kernels of one session', () => {
  it('are served below it, by the kernelspecs that its image has', async () => {
    const { token } = gateway;
    const made = await call('POST', '/v1/sessions', { token, body: { type: 'interactive', image: 'x' } });
    const sessionId = String(made.body['id']);
    await gateway.run(sessionId);
    gateway.specs = [{ ...python3, name: 'octave', language: 'octave', displayName: 'Octave' }, python3];
    const base = `/v1/sessions/${sessionId}/jupyter/api`;
    const specs = await ask<JupyterKernelspecs>('GET', `${base}/kernelspecs`);
    expect([specs.body.default, Object.keys(specs.body.kernelspecs)]).toEqual(['python3', ['octave', 'python3']]);
    expect(await ask('POST', `${base}/kernels`, { name: 'cobol' })).toMatchObject({ status: 404 });
    const started = await ask<JupyterKernel>('POST', `${base}/kernels`, { name: 'octave' });
    expect(started.body).toMatchObject({ name: 'octave', execution_state: 'idle' });
    expect((await ask<JupyterKernel[]>('GET', `${base}/kernels`)).body).toEqual([started.body]);
    // Not at /jupyter, where it was not made; and the session goes on when it ends.
    expect((await ask('GET', '/jupyter/api/kernels')).body).toEqual([]);
    const { kernelId } = parseJupyterKernelId(started.body.id)!;
    expect((await ask('DELETE', `${base}/kernels/${started.body.id}`)).status).toBe(204);
    expect(gateway.asked.at(-1)?.input).toMatchObject({ kernelId, act: { kind: 'shutdown' } });
    expect(kernelId).not.toBe(mainKernelOf(sessionId));
    const foreign = await startKernel();
    expect((await ask('GET', `${base}/kernels/${foreign.id}`)).status).toBe(404);
  });
});
