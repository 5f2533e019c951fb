/** Terminals as JupyterLab has them, through the front door: names over HTTP, and terminado's messages over a WebSocket. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type JupyterKernel,
  type JupyterTerminal,
  parseJupyterKernelId,
  parseJupyterTerminalName,
  toJupyterTerminalName,
} from '../../../schema/api/jupyter.ts';
import { makePerson } from '../accounts/people.ts';
import { type Answer, call } from '../client.ts';
import { Gateway, tryDial, until } from './gateway.ts';
import { aTerminal, Page, TerminalAgent, type TerminalStream } from './terminal-agent.ts';

let gateway: Gateway;
let agent: TerminalAgent;
let sessionId: string;
let base: string;
let pages: Page[];

beforeEach(async () => {
  gateway = new Gateway();
  pages = [];
  await gateway.begin();
  agent = new TerminalAgent(gateway);
  const { token } = gateway;
  const made = await call('POST', '/v1/sessions', { token, body: { type: 'interactive', image: 'x' } });
  sessionId = String(made.body['id']);
  await gateway.run(sessionId);
  base = `/v1/sessions/${sessionId}/jupyter`;
});
afterEach(async () => {
  for (const page of pages) page.leave();
  await new Promise<void>((resolve) => void setTimeout(resolve, 50));
  vi.restoreAllMocks();
});

/** As JupyterLab asks: the token as `token`, bodies as text. */
function ask<Body = JupyterTerminal>(method: string, path: string, body?: unknown): Promise<Answer<Body>> {
  return call<Body>(method, path, {
    headers: { authorization: `token ${gateway.token}`, 'content-type': 'text/plain;charset=UTF-8' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}
const namesAt = async (path: string) =>
  (await ask<JupyterTerminal[]>('GET', `${path}/api/terminals`)).body.map(({ name }) => name);

async function startKernel(): Promise<string> {
  const { body, text } = await ask<JupyterKernel>('POST', '/jupyter/api/kernels', { name: 'python3' });
  const id = parseJupyterKernelId(body.id)?.sessionId;
  expect(id, text).toBeDefined();
  await gateway.run(id!);
  return id!;
}

async function open(name: string, at = base): Promise<Page> {
  const page = await Page.open(`${at}/terminals/websocket/${name}`, gateway.token);
  pages.push(page);
  return page;
}

/** A page at a new terminal, with the size of its window, and the agent's end behind it. */
async function opened(): Promise<{ page: Page; far: TerminalStream; name: string }> {
  const { name } = (await ask('POST', `${base}/api/terminals`, {})).body;
  const page = await open(name);
  await until('setup', () => page.received.length > 0);
  page.say('set_size', 30, 100, 600, 800);
  const far = (await agent.stream()).accept();
  return { page, far, name };
}

describe('a terminal of one session', () => {
  it('has the number that is free, or the name that was asked for, and its own model', async () => {
    const first = await ask('POST', `${base}/api/terminals`, {});
    expect(first).toMatchObject({ status: 200, body: { name: '1' } });
    expect(Date.parse(first.body.last_activity)).toBeGreaterThan(0);
    expect((await ask('POST', `${base}/api/terminals`)).body.name).toBe('2');
    const named = await ask('POST', `${base}/api/terminals`, { name: 'build_log', cwd: 'work/x y' });
    expect(named.body.name).toBe('build_log');
    const { argv } = agent.terminals.get(sessionId)!.at(-1)!;
    expect([argv.at(-1), argv[2]]).toEqual(['work/x y', expect.stringMatching(/^cd -- "\$1" 2>\/dev\/null; /)]);
    expect(await namesAt(base)).toEqual(['1', '2', 'build_log']);
    expect((await ask('GET', `${base}/api/terminals/build_log`)).body).toEqual(named.body);
    expect((await ask('DELETE', `${base}/api/terminals/1`)).status).toBe(204);
    expect(await ask('DELETE', `${base}/api/terminals/1`)).toMatchObject({
      status: 404,
      body: { code: 'terminal_not_found', message: expect.any(String) as unknown },
    });
    expect((await ask('POST', `${base}/api/terminals`, { name: null })).body.name).toBe('1');
  });

  it('is the same one for a client that asks for its name again, also while another makes it', async () => {
    await ask('POST', `${base}/api/terminals`, { name: 'mine' });
    expect((await ask('POST', `${base}/api/terminals`, { name: 'mine' })).body.name).toBe('mine');
    expect(await namesAt(base)).toEqual(['mine']);
    agent.meanwhile = (id) => {
      agent.meanwhile = () => undefined;
      agent.terminals.get(id)!.push(aTerminal(`trm_${'1'.repeat(26)}`, { name: '1' }));
    };
    expect((await ask('POST', `${base}/api/terminals`, {})).body.name).toBe('2');
  });

  it('has its id for a name where it was made elsewhere, and is not listed once it has ended', async () => {
    const [run, over] = [`trm_${'2'.repeat(26)}`, `trm_${'3'.repeat(26)}`];
    agent.terminals.set(sessionId, [
      aTerminal(run, { activeAtMs: 1_800_000_000_123 }),
      aTerminal(over, { state: 'ended', exit: { reason: 'exited' } }),
    ]);
    expect((await ask<JupyterTerminal[]>('GET', `${base}/api/terminals`)).body).toEqual([
      { name: run, last_activity: new Date(1_800_000_000_123).toISOString() },
    ]);
    expect((await ask('GET', `${base}/api/terminals/${over}`)).status).toBe(404);
    // A page that opens its tabs again, of which one ended meanwhile.
    expect((await ask('POST', `${base}/api/terminals`, { name: over })).body.name).toBe('1');
    expect((await ask('POST', `${base}/api/terminals`, { name: run })).body.name).toBe(run);
    for (const name of ['../x', 'a b', ''])
      expect(await ask('POST', `${base}/api/terminals`, { name })).toMatchObject({ status: 400 });
  });

  it('is nobody else’s, and not listed as closed while its agent is out of reach', async () => {
    const other = await makePerson(gateway.token, 'other');
    await ask('POST', `${base}/api/terminals`, {});
    const answer = await tryDial(`${base}/terminals/websocket/1`, { token: other.token });
    expect(answer.status).toBe(403);
    expect((await tryDial(`${base}/terminals/websocket/2`, { token: gateway.token })).status).toBe(404);
    expect((await tryDial(`${base}/terminals/websocket/1`, {})).status).toBe(401);
    agent.isAway = true;
    expect((await ask('GET', `${base}/api/terminals`)).status).toBe(503);
  });
});

describe('a terminal at /jupyter', () => {
  it('needs a kernel, and opens in the session of the one that was started last', async () => {
    const none = await ask<Record<string, string>>('POST', '/jupyter/api/terminals', {});
    expect(none).toMatchObject({ status: 409, body: { code: 'jupyter_session_required' } });
    expect(none.body['message']).toContain('/v1/sessions/{id}/jupyter');
    expect(await namesAt('/jupyter')).toEqual([]);
    const first = await startKernel();
    const name = toJupyterTerminalName(first, '1');
    expect((await ask('POST', '/jupyter/api/terminals', {})).body.name).toBe(name);
    const second = await startKernel();
    const later = (await ask('POST', '/jupyter/api/terminals', { name: 'shell' })).body.name;
    expect(parseJupyterTerminalName(later)).toEqual({ sessionId: second, name: 'shell' });
    // By its whole name it is where it was.
    const again = toJupyterTerminalName(first, 'back');
    expect((await ask('POST', '/jupyter/api/terminals', { name: again })).body.name).toBe(again);
    expect((await namesAt('/jupyter')).sort()).toEqual([name, again, later].sort());
    expect(await namesAt(`/v1/sessions/${first}/jupyter`)).toEqual(['1', 'back']);
    agent.isAway = true;
    // A client closes the tabs of what is not listed.
    expect((await namesAt('/jupyter')).sort()).toEqual([name, again, later].sort());
    agent.isAway = false;
    expect((await ask('DELETE', `/jupyter/api/terminals/${later}`)).status).toBe(204);
    expect((await ask('GET', `/jupyter/api/terminals/${later}`)).status).toBe(404);
    const page = await open(name, '/jupyter');
    (await agent.stream()).accept().screen(0, 'here');
    await page.sees('here');
  });

  it('of somebody else is as one that is not there', async () => {
    const theirs = toJupyterTerminalName(await startKernel(), '1');
    const other = await makePerson(gateway.token, 'other');
    const made = await call<{ id: string }>('POST', '/v1/projects', { token: gateway.token, body: { name: 'p2' } });
    const { id } = made.body;
    await call('PUT', `/v1/projects/${id}/members/${other.userId}`, { token: gateway.token, body: { role: 'member' } });
    for (const name of [theirs, `ses_${'0'.repeat(26)}_1_1_1`, 'none', '1']) {
      const answer = await call('GET', `/jupyter/api/terminals/${name}`, { token: other.token });
      expect(answer, name).toMatchObject({ status: 404, body: { code: 'terminal_not_found' } });
    }
  });
});

describe('the socket of a terminal', () => {
  it('[S18] begins with setup, takes the size of the page, and shows the exact screen behind a reset', async () => {
    const { page, far } = await opened();
    expect(far.open).toMatchObject({ op: 'terminal', window: { rows: 30, columns: 100 }, input: { from: 0 } });
    far.screen(70, 'screen').write('abc');
    await page.sees('screenabc');
    expect(page.received.slice(0, 2)).toEqual([
      ['setup', {}],
      ['stdout', '\x1bc'],
    ]);
    page.say('set_size', 31, 10_000, 1, 1);
    page.say('set_size', 0, 0);
    page.say('set_size', null, 3);
    await until('a resize', () => far.told.length > 0);
    page.say('stdin', 'x');
    await until('a key', () => far.typed.text === 'x');
    expect(far.told).toEqual([{ kind: 'resize', rows: 31, columns: 600 }]);
  });

  it('makes text of bytes however they are cut, and lets no question of a program to the page', async () => {
    const { page, far } = await opened();
    const text = '\ufeffa€😀é';
    const bytes = new TextEncoder().encode(text);
    far.screen(0, '');
    for (const byte of bytes) far.write(Uint8Array.of(byte));
    await page.sees(text);
    far.write('\x1b[6n\x1b[c\x1b]52;c;eA==\x07\x1b[3').write('1mred').write(Uint8Array.of(0xff, 0x41));
    await page.sees('\x1b[31mred\ufffdA');
    expect(page.shown).toBe(`${text}\x1b[31mred\ufffdA`);
    expect(page.received.some(([, said]) => said === '')).toBe(false);
  });

  it('[S18] [S19] goes on where it was when the tunnel is cut, and what was typed meanwhile arrives once', async () => {
    const { page, far } = await opened();
    far.screen(10, 'one').write('two');
    await page.sees('onetwo');
    page.say('stdin', 'ab');
    await until('two keys', () => far.typed.text === 'ab');
    far.refuse('agent_replaced');
    page.say('stdin', 'cé');
    const next = await agent.stream();
    expect(next.open).toMatchObject({ after: 13, input: { writer: far.open.input!.writer } });
    next.accept(1).write('three', 13);
    await page.sees('onetwothree');
    await until('the rest', () => next.typed.text === 'bcé');
    expect(next.typed.offset).toBe(1);
    next.refuse('terminal_screen_lost');
    const last = (await agent.stream()).accept(5);
    // Bytes are missing: a screen comes in their place.
    last
      .tell({ kind: 'gap', stream: 'stdout', from: 18, to: 500, reason: 'spool-full' })
      .screen(500, 'whole')
      .write('!');
    await page.sees('whole!');
    expect(page.shown).toBe('whole!');
    expect(last.typed.text).toBe('');
  });

  it('is told of the end of the terminal, and closed', async () => {
    const { page, far } = await opened();
    far.screen(0, '').write('bye').exit();
    await until('the close', () => page.closed !== undefined);
    expect(page.received.slice(-2)).toEqual([
      ['stdout', 'bye'],
      ['disconnect', 1],
    ]);
    expect(page.closed?.code).toBe(1000);
    const second = await opened();
    second.far.refuse('terminal_not_found');
    // It was closed by somebody: a page that is told so does not come again.
    await until('the other close', () => second.page.closed !== undefined);
    expect(second.page.received.at(-1)).toEqual(['disconnect', 1]);
  });

  it('is closed for what is no message, and for too much that nobody takes', async () => {
    const { page } = await opened();
    page.sayRaw('[');
    await until('the close', () => page.closed !== undefined);
    expect(page.closed?.code).toBe(1007);
    const other = await opened();
    other.page.say('disconnect', 1);
    other.page.say('unknown', { a: 1 });
    other.page.say(1);
    for (let at = 0; at < 3; at++) other.page.say('stdin', 'x'.repeat(12 * 1024 * 1024));
    await until('the other close', () => other.page.closed !== undefined);
    expect(other.page.closed?.code).toBe(1008);
  });

  it('is closed when its token is revoked', async () => {
    const made = await call('POST', '/v1/tokens', { token: gateway.token, body: { name: 'page' } });
    await ask('POST', `${base}/api/terminals`, { name: 'r' });
    const page = await Page.open(`${base}/terminals/websocket/r`, String(made.body['token']));
    pages.push(page);
    const far = (await agent.stream()).accept().screen(0, 'before');
    await page.sees('before');
    const path = `/v1/tokens/${String(made.body['id'])}`;
    expect((await call('DELETE', path, { token: gateway.token })).status).toBe(204);
    const deadline = Date.now() + 10_000;
    while (!page.closed && Date.now() < deadline) {
      far.write('.');
      await new Promise<void>((resolve) => void setTimeout(resolve, 200));
    }
    expect(page.closed?.code).toBe(4401);
  });
});
