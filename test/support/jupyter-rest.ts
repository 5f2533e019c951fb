/** What is asked of a Jupyter server over HTTP, right and wrong, and what comes, as far as two servers can be compared. */
import type { Server } from './jupyter-client.ts';
import { KernelSocket } from './kernel-socket.ts';

export interface Answered {
  status: number;
  /** Of its JSON: the values by their types; of lists the first. */
  shape: unknown;
  /** Its `Location`, from the last word but one on, without ids. */
  location?: string;
}

const unknownId = '00000000-0000-0000-0000-000000000000';

/** Asks a server all of it; by what is asked. */
export async function askAll(server: Server): Promise<Map<string, Answered>> {
  const answers = new Map<string, Answered>();
  const ask = async (method: string, path: string, body?: unknown, token: string | null = server.token) => {
    const response = await fetch(`${server.url}${path}`, {
      method,
      headers: {
        ...(token === null ? {} : { authorization: `token ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = text.startsWith('{') || text.startsWith('[') ? (JSON.parse(text) as unknown) : undefined;
    const location = response.headers.get('location')?.split('/').at(-2);
    const { status } = response;
    const shape = status >= 400 ? errorShape(json) : shapeOf(json);
    const said = typeof body === 'string' ? ` ${body}` : body === undefined ? '' : ` ${JSON.stringify(body)}`;
    const name = `${method} ${path}${said}${token === null ? ' without a token' : token === server.token ? '' : ' with a wrong token'}`;
    answers.set(
      name.replaceAll(/\w+-\w+-\w+-\w+-\w+/g, (id) => (id === unknownId ? 'UNKNOWN' : 'ID')),
      {
        status,
        shape,
        ...(location === undefined || location === '' ? {} : { location }),
      },
    );
    return json as Record<string, unknown> & { id: string; kernel: { id: string } };
  };
  await ask('GET', 'api');
  await ask('GET', 'api/me');
  await ask('GET', 'api/status');
  for (const token of [null, 'wrong']) await ask('GET', 'api/kernels', undefined, token);
  await ask('GET', 'api/kernelspecs');
  await ask('GET', 'api/kernelspecs/python3');
  await ask('GET', 'api/kernelspecs/cobol');
  await ask('GET', 'kernelspecs/python3/of-no-name.png');

  const { id } = await ask('POST', 'api/kernels', { name: 'python3' });
  const second = await ask('POST', 'api/kernels');
  await ask('POST', 'api/kernels', {});
  await ask('POST', 'api/kernels', { name: 'cobol' });
  await ask('POST', 'api/kernels', '{"name"');
  await ask('PUT', 'api/kernels', {});
  await ask('GET', 'api/kernels');
  for (const each of [id, unknownId, 'no-id']) {
    await ask('GET', `api/kernels/${each}`);
    await ask('POST', `api/kernels/${each}/interrupt`);
    await ask('POST', `api/kernels/${each}/explode`);
  }
  await ask('POST', `api/kernels/${id}/restart`);
  await ask('POST', `api/kernels/${unknownId}/restart`);
  await ask('DELETE', `api/kernels/${unknownId}`);
  for (const kernel of [unknownId, 'no-id']) {
    const refused = await KernelSocket.open(server, kernel, 's', 'v1').then(
      async (socket) => `opened, closed with ${String((await socket.close(), socket.closed))}`,
      (error: unknown) => String(error),
    );
    answers.set(`a socket to ${kernel === unknownId ? 'UNKNOWN' : kernel}`, { status: 0, shape: refused });
  }

  const model = { path: 'n.ipynb', name: 'n.ipynb', type: 'notebook', kernel: { name: 'python3' } };
  const session = await ask('POST', 'api/sessions', model);
  await ask('POST', 'api/sessions', { ...model, path: 'by-id.ipynb', kernel: { id: second.id } });
  await ask('POST', 'api/sessions', { name: 'x', type: 'notebook' });
  await ask('POST', 'api/sessions', { path: 'y' });
  await ask('POST', 'api/sessions', { ...model, path: 'z', kernel: { name: 'cobol' } });
  await ask('POST', 'api/sessions', { ...model, path: 'z', kernel: { id: unknownId } });
  await ask('POST', 'api/sessions', { ...model, path: 'console', type: 'console' });
  await ask('GET', 'api/sessions');
  await ask('GET', `api/sessions/${session.id}`);
  await ask('PATCH', `api/sessions/${session.id}`, { path: 'other.ipynb' });
  await ask('PATCH', `api/sessions/${session.id}`, { kernel: { id: unknownId } });
  await ask('PATCH', `api/sessions/${session.id}`, { kernel: { name: 'cobol' } });
  for (const method of ['GET', 'DELETE']) await ask(method, `api/sessions/${unknownId}`);
  await ask('PATCH', `api/sessions/${unknownId}`, { path: 'x' });
  await ask('DELETE', `api/sessions/${session.id}`);
  await ask('PATCH', `api/sessions/${session.id}`, { path: 'gone.ipynb' });
  await ask('DELETE', `api/kernels/${id}`);
  await ask('GET', `api/kernels/${id}`);
  return answers;
}

function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])];
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : typeof value;
  // The gateway has no pictures of kernels: clients show their own.
  const entries = Object.entries(value).map(([key, each]) => [key, key === 'resources' ? '' : shapeOf(each)] as const);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Of a refusal clients read its words alone. */
function errorShape(value: unknown): string {
  const message = (value as { message?: unknown } | undefined)?.message;
  return typeof message === 'string' && message !== '' ? 'a message' : 'no message';
}
