/**
 * A request that is right for each mounted route, with an object of the project `ours` or of the default domain. Whoever
 * mounts a route adds its sample here: the matrix refuses a route without one.
 */
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { call, password } from '../client.ts';
import { passMs } from '../boot-clock.ts';
import { capacity, Host, hostInfo, newJoinToken, upgrade } from '../agents/host.ts';
import { type Caller, linkedTerminal, tokenOf, type World } from './world.ts';

export interface SampleRequest {
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
  /** Instead of the caller's own: for what spends a token. */
  token?: string;
}
export interface Sample {
  /** Status for whoever may. */
  ok: number;
  /** Whose object it is; callers without a view of it get 404, equal to that for `missing`. */
  belongsTo?: 'project' | 'domain';
  /** Made anew for each caller, so that one may use up what it names. */
  request(world: World, caller: Caller): SampleRequest | Promise<SampleRequest>;
  /** The same request about what does not exist. */
  missing?(world: World, caller: Caller): SampleRequest | Promise<SampleRequest>;
}

let count = 0;
const fresh = (prefix: string) => `${prefix}-${++count}`;
const freshSshKey = () => {
  const bytes = String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32)));
  return `ssh-ed25519 ${btoa(`\0\0\0\x0bssh-ed25519\0\0\0\x20${bytes}`)}`;
};
const noId = (prefix: string) => `${prefix}_${'0'.repeat(26)}`;
const batch = { type: 'batch', image: 'busybox', command: ['true'] };

/** A token of the caller, if it may have one; it can be used up. */
async function spareToken(world: World, caller: Caller): Promise<{ id: string; token: string } | undefined> {
  const made = await call<{ id: string; token: string }>('POST', '/v1/tokens', {
    token: tokenOf(world, caller) ?? 'none',
    body: { name: 'spare' },
  });
  return made.status === 201 ? made.body : undefined;
}

async function spareSession(world: World): Promise<string> {
  const made = await call('POST', '/v1/sessions', {
    token: world.member.token,
    body: { ...batch, project: world.projectId },
  });
  if (made.status !== 201) throw new Error(made.text);
  return String(made.body['id']);
}

async function enrolBody(world: World) {
  const [{ token }, { publicKey }] = [await newJoinToken(world.superadmin.token), await Host.make()];
  return { token, publicKey, capacity, host: hostInfo, agentVersion: '0.1.0' };
}

const onAgent = (ok: number, tail = ''): Sample => ({
  ok,
  belongsTo: 'domain',
  request: ({ host }) => ({ path: `/v1/agents/${host.agentId}${tail}` }),
  missing: () => ({ path: `/v1/agents/${noId('agt')}_1${tail}` }),
});
const withBody = (tail: string, body: unknown): Pick<Sample, 'request' | 'missing'> => ({
  request: ({ host }) => ({ path: `/v1/agents/${host.agentId}${tail}`, body }),
  missing: () => ({ path: `/v1/agents/${noId('agt')}_1${tail}`, body }),
});
const onSession = (ok: number, tail = '', more: Omit<SampleRequest, 'path'> = {}): Sample => ({
  ok,
  belongsTo: 'project',
  request: ({ sessionId }) => ({ path: `/v1/sessions/${sessionId}${tail}`, ...more }),
  missing: () => ({ path: `/v1/sessions/${noId('ses')}_1_1${tail}`, ...more }),
});
const plain = (ok: number, path: string, body?: () => unknown): Sample => ({
  ok,
  request: () => ({ path, ...(body === undefined ? {} : { body: body() }) }),
});

const noKernel = `ses-${'0'.repeat(26)}-1_1-krn-${'0'.repeat(26)}`;
const jupyterBodies: Record<string, unknown> = { 'POST kernels': {}, 'POST sessions': { path: 'n', type: 'notebook' } };

/** What the gateway answers at one of its bases; `waits`: below a session that waits for an agent. */
function jupyterSamples(base: string, waits: boolean): Record<string, Sample> {
  const plainly = (
    ok: number,
    name: string,
    path: string,
    more: Omit<SampleRequest, 'path'> = {},
  ): [string, Sample] => {
    const [method = '', tail = ''] = name.split(' ');
    const at = (id: string) => ({ path: `${base.replace('{id}', id)}/${path}`, ...more });
    const sample: Sample = {
      ok,
      request: ({ sessionId }) => at(sessionId),
      // What every caller is told alike has no owner.
      ...(waits && ok === 409 ? { belongsTo: 'project' as const, missing: () => at(`${noId('ses')}_1_1`) } : {}),
    };
    return [`${method} ${base}/${tail}`, sample];
  };
  const ofAgent = waits ? 409 : 200;
  const ofTerminal = waits ? 409 : 404;
  const [kernel, session] = ['api/kernels/{kernelId}', 'api/sessions/{sessionId}'];
  const body = (name: string) => ({ body: jupyterBodies[name] });
  return Object.fromEntries([
    plainly(200, 'GET api', 'api'),
    plainly(200, 'GET api/me', 'api/me'),
    plainly(ofAgent, 'GET api/status', 'api/status'),
    plainly(ofAgent, 'GET api/kernelspecs', 'api/kernelspecs'),
    plainly(waits ? 409 : 404, 'GET api/kernelspecs/{name}', 'api/kernelspecs/none'),
    plainly(404, 'GET kernelspecs/{name}/{resource}', 'kernelspecs/none/logo.png'),
    plainly(ofAgent, 'GET api/kernels', 'api/kernels'),
    plainly(waits ? 409 : 404, 'POST api/kernels', 'api/kernels', body('POST kernels')),
    plainly(404, `GET ${kernel}`, `api/kernels/${noKernel}`),
    plainly(404, `DELETE ${kernel}`, `api/kernels/${noKernel}`),
    plainly(404, `POST ${kernel}/interrupt`, `api/kernels/${noKernel}/interrupt`),
    plainly(404, `POST ${kernel}/restart`, `api/kernels/${noKernel}/restart`, { body: {} }),
    plainly(404, `GET ${kernel}/channels`, `api/kernels/${noKernel}/channels`, { headers: upgrade }),
    plainly(200, 'GET api/sessions', 'api/sessions'),
    plainly(waits ? 409 : 404, 'POST api/sessions', 'api/sessions', body('POST sessions')),
    plainly(404, `GET ${session}`, 'api/sessions/none'),
    plainly(404, `PATCH ${session}`, 'api/sessions/none', { body: {} }),
    plainly(404, `DELETE ${session}`, 'api/sessions/none'),
    plainly(ofAgent, 'GET api/terminals', 'api/terminals'),
    plainly(409, 'POST api/terminals', 'api/terminals', { body: {} }),
    plainly(ofTerminal, 'GET api/terminals/{name}', 'api/terminals/none'),
    plainly(ofTerminal, 'DELETE api/terminals/{name}', 'api/terminals/none'),
    plainly(ofTerminal, 'GET terminals/websocket/{name}', 'terminals/websocket/none', { headers: upgrade }),
  ]);
}

export const samples: Record<string, Sample> = {
  'GET /': plain(200, '/'),
  'GET /errors': plain(200, '/errors'),
  'GET /errors/{code}': plain(200, '/errors/internal'),
  'GET /healthz': plain(200, '/healthz'),
  'GET /readyz': plain(200, '/readyz'),
  'GET /openapi.json': plain(200, '/openapi.json'),

  'POST /v1/auth/login': {
    ok: 200,
    request: () => {
      passMs(1000);
      return { path: '/v1/auth/login', body: { email: 'admin@causeway.test', password } };
    },
  },
  'POST /v1/auth/logout': {
    ok: 204,
    request: async (world, caller) => ({ path: '/v1/auth/logout', ...(await spareToken(world, caller)) }),
  },
  // The people of these tests are service accounts but for the superadmin, who keeps this password.
  'POST /v1/auth/password': {
    ok: 204,
    request: async (world, caller) => {
      passMs(1000);
      const as = (await spareToken(world, caller)) ? { token: world.superadmin.token } : {};
      return { path: '/v1/auth/password', body: { password, newPassword: password }, ...as };
    },
  },
  'GET /v1/whoami': plain(200, '/v1/whoami'),
  'POST /v1/bootstrap': plain(409, '/v1/bootstrap', () => ({ email: 'second@causeway.test', password })),

  'POST /v1/tokens': plain(201, '/v1/tokens', () => ({ name: 'new' })),
  'GET /v1/tokens': plain(200, '/v1/tokens'),
  'DELETE /v1/tokens/{id}': {
    ok: 204,
    request: async (world, caller) => ({ path: `/v1/tokens/${(await spareToken(world, caller))?.id ?? noId('tok')}` }),
  },
  'POST /v1/ssh-keys': plain(201, '/v1/ssh-keys', () => ({ publicKey: freshSshKey() })),
  'GET /v1/ssh-keys': plain(200, '/v1/ssh-keys'),
  'DELETE /v1/ssh-keys/{id}': {
    ok: 204,
    request: async (world, caller) => {
      const token = tokenOf(world, caller) ?? 'none';
      const made = await call('POST', '/v1/ssh-keys', { token, body: { publicKey: freshSshKey() } });
      return { path: `/v1/ssh-keys/${made.status === 201 ? String(made.body['id']) : noId('key')}` };
    },
  },
  'POST /v1/users': plain(201, '/v1/users', () => ({ email: `${fresh('user')}@causeway.test` })),
  'GET /v1/users': plain(200, '/v1/users'),
  'GET /v1/users/{id}': {
    ok: 200,
    belongsTo: 'domain',
    request: ({ leaver }) => ({ path: `/v1/users/${leaver.userId}` }),
    missing: () => ({ path: `/v1/users/${noId('usr')}` }),
  },
  'PATCH /v1/users/{id}': {
    ok: 200,
    belongsTo: 'domain',
    request: ({ leaver }) => ({ path: `/v1/users/${leaver.userId}`, body: { active: true } }),
    missing: () => ({ path: `/v1/users/${noId('usr')}`, body: { active: true } }),
  },
  'POST /v1/users/{id}/tokens': {
    ok: 201,
    belongsTo: 'domain',
    request: ({ leaver }) => ({ path: `/v1/users/${leaver.userId}/tokens`, body: { name: 'robot' } }),
    missing: () => ({ path: `/v1/users/${noId('usr')}/tokens`, body: { name: 'robot' } }),
  },
  'POST /v1/projects': plain(201, '/v1/projects', () => ({ name: fresh('project') })),
  'GET /v1/projects': plain(200, '/v1/projects'),
  'GET /v1/projects/{id}/members': {
    ok: 200,
    belongsTo: 'project',
    request: ({ projectId }) => ({ path: `/v1/projects/${projectId}/members` }),
    missing: () => ({ path: `/v1/projects/${noId('prj')}/members` }),
  },
  'PUT /v1/projects/{id}/members/{userId}': {
    ok: 200,
    belongsTo: 'project',
    request: ({ projectId, leaver }) => ({
      path: `/v1/projects/${projectId}/members/${leaver.userId}`,
      body: { role: 'viewer' },
    }),
    missing: ({ leaver }) => ({
      path: `/v1/projects/${noId('prj')}/members/${leaver.userId}`,
      body: { role: 'viewer' },
    }),
  },
  'DELETE /v1/projects/{id}/members/{userId}': {
    ok: 204,
    belongsTo: 'project',
    request: ({ projectId, leaver }) => ({ path: `/v1/projects/${projectId}/members/${leaver.userId}` }),
    missing: ({ leaver }) => ({ path: `/v1/projects/${noId('prj')}/members/${leaver.userId}` }),
  },
  'POST /v1/domains': plain(201, '/v1/domains', () => ({ name: fresh('domain') })),
  'GET /v1/domains': plain(200, '/v1/domains'),
  'POST /v1/resource-groups': plain(201, '/v1/resource-groups', () => ({ name: fresh('group') })),
  'GET /v1/resource-groups': plain(200, '/v1/resource-groups'),
  'POST /v1/resource-groups/{id}/restored': {
    ok: 204,
    request: async ({ superadmin }) => {
      const { token } = superadmin;
      const made = await call('POST', '/v1/resource-groups', { token, body: { name: fresh('group') } });
      return { path: `/v1/resource-groups/${String(made.body['id'])}/restored`, body: { snapshotAtMs: 1 } };
    },
  },

  'POST /v1/agents/join-tokens': plain(201, '/v1/agents/join-tokens', () => ({ resourceGroup: 'default' })),
  'GET /v1/agents/join-tokens/{id}': {
    ok: 200,
    request: async ({ superadmin }) => ({
      path: `/v1/agents/join-tokens/${(await newJoinToken(superadmin.token)).id}`,
    }),
  },
  'GET /v1/agents': plain(200, '/v1/agents'),
  'GET /v1/agents/{id}': onAgent(200),
  'POST /v1/agents/{id}/approve': onAgent(200, '/approve'),
  'POST /v1/agents/{id}/drain': onAgent(200, '/drain'),
  'POST /v1/agents/{id}/undrain': onAgent(200, '/undrain'),
  // No release is here, and the machine is not connected: whoever may is told so.
  'POST /v1/agents/{id}/upgrade': { ...onAgent(404, '/upgrade'), ...withBody('/upgrade', {}) },
  'PUT /v1/agents/{id}/upgrade-policy': {
    ...onAgent(204, '/upgrade-policy'),
    ...withBody('/upgrade-policy', { policy: { mode: 'pinned' } }),
  },
  'PUT /v1/resource-groups/{id}/upgrade-policy': plain(204, '/v1/resource-groups/default/upgrade-policy', () => ({
    policy: null,
  })),
  'GET /agent/v1/upgrade': plain(200, '/agent/v1/upgrade'),
  'GET /v1/agents/{id}/upgrade': onAgent(503, '/upgrade'),
  'DELETE /v1/agents/{id}': {
    ok: 204,
    request: async (world) => {
      const enrolled = await call('POST', '/agent/v1/enrol', { body: await enrolBody(world) });
      return { path: `/v1/agents/${String(enrolled.body['agentId'])}` };
    },
  },
  'POST /agent/v1/enrol': {
    ok: 200,
    request: async (world) => ({ path: '/agent/v1/enrol', body: await enrolBody(world) }),
  },
  'POST /agent/v1/challenge': {
    ok: 200,
    request: ({ host }) => ({ path: '/agent/v1/challenge', body: { agentId: host.agentId } }),
  },
  // The session waits for an agent: it was not placed on this one.
  'PUT /agent/v1/blobs/logs/{sessionId}/{generation}/{process}/{stream}/{chunk}': {
    ok: 404,
    request: ({ sessionId }) => ({
      path: `/agent/v1/blobs/logs/${sessionId}/1/main/stdout/${'0'.repeat(16)}-${'1'.repeat(16)}`,
      headers: { 'causeway-sha256': '0'.repeat(64) },
      body: 'bytes',
    }),
  },
  'PUT /agent/v1/blobs/logs/{sessionId}/{generation}/{process}/end': {
    ok: 404,
    request: ({ sessionId }) => ({
      path: `/agent/v1/blobs/logs/${sessionId}/1/main/end`,
      body: { ends: { stdout: 0, stderr: 0 } },
    }),
  },
  'GET /agent/v1/tunnel': {
    ok: 101,
    request: () => ({ path: '/agent/v1/tunnel?purpose=control', headers: upgrade }),
  },

  'GET /install.sh': plain(200, '/install.sh'),
  // Nobody put a release into the bucket here.
  'GET /agent/v1/release/{arch}/manifest': plain(404, '/agent/v1/release/x64/manifest'),
  'GET /agent/v1/release/{arch}/parts/{sha256}': plain(404, `/agent/v1/release/x64/parts/${'0'.repeat(64)}`),

  'GET /v1/audit': plain(200, '/v1/audit'),
  'GET /v1/audit/verify': plain(200, '/v1/audit/verify'),

  'GET /metrics': plain(200, '/metrics'),

  'GET /v1/images': plain(200, '/v1/images'),

  'POST /v1/sessions': {
    ok: 201,
    belongsTo: 'project',
    request: ({ projectId }) => ({ path: '/v1/sessions', body: { ...batch, project: projectId } }),
    missing: () => ({ path: '/v1/sessions', body: { ...batch, project: noId('prj') } }),
  },
  'GET /v1/sessions': plain(200, '/v1/sessions'),
  'GET /v1/sessions/{id}': onSession(200),
  'GET /v1/sessions/{id}/history': onSession(200, '/history'),
  'DELETE /v1/sessions/{id}': {
    ok: 202,
    belongsTo: 'project',
    request: async (world) => ({ path: `/v1/sessions/${await spareSession(world)}` }),
    missing: () => ({ path: `/v1/sessions/${noId('ses')}_1_1` }),
  },
  // No Redis here: whoever may is told so. A project that is none of theirs is hidden before.
  'GET /v1/events': {
    ok: 503,
    belongsTo: 'project',
    request: ({ projectId }) => ({ path: `/v1/events?project=${projectId}` }),
    missing: () => ({ path: `/v1/events?project=${noId('prj')}` }),
  },

  // The session waits for an agent: whoever may is told so.
  'GET /v1/sessions/{id}/logs': onSession(409, '/logs'),
  'GET /v1/sessions/{id}/exec': onSession(409, '/exec', {
    headers: { ...upgrade, 'sec-websocket-protocol': clientProtocol },
  }),
  'POST /v1/sessions/{id}/execute': onSession(409, '/execute', { body: { mode: 'query', code: '1' } }),
  'GET /v1/sessions/{id}/execute': onSession(409, '/execute', {
    headers: { ...upgrade, 'sec-websocket-protocol': clientProtocol },
  }),
  'GET /v1/sessions/{id}/kernels': onSession(409, '/kernels'),
  'GET /v1/sessions/{id}/kernelspecs': onSession(409, '/kernelspecs'),
  'POST /v1/sessions/{id}/kernels': onSession(409, '/kernels', { body: { language: 'python' } }),
  'POST /v1/sessions/{id}/kernels/{kernelId}/interrupt': onSession(409, `/kernels/${noId('krn')}/interrupt`, {
    body: {},
  }),
  'POST /v1/sessions/{id}/kernels/{kernelId}/restart': onSession(409, `/kernels/${noId('krn')}/restart`, { body: {} }),
  'DELETE /v1/sessions/{id}/kernels/{kernelId}': {
    ok: 409,
    belongsTo: 'project',
    request: ({ sessionId }) => ({ path: `/v1/sessions/${sessionId}/kernels/${noId('krn')}` }),
    missing: () => ({ path: `/v1/sessions/${noId('ses')}_1_1/kernels/${noId('krn')}` }),
  },
  'GET /v1/sessions/{id}/kernels/{kernelId}/outputs': onSession(409, `/kernels/${noId('krn')}/outputs`),
  ...jupyterSamples('/jupyter', false),
  ...jupyterSamples('/v1/sessions/{id}/jupyter', true),
  'GET /v1/resource-presets': plain(200, '/v1/resource-presets'),
  'PUT /v1/resource-presets/{name}': plain(200, '/v1/resource-presets/huge', () => ({ resources: { cpu: 64 } })),
  'DELETE /v1/resource-presets/{name}': plain(404, '/v1/resource-presets/none'),
  'GET /v1/sessions/{id}/terminals': onSession(409, '/terminals'),
  'POST /v1/sessions/{id}/terminals': onSession(409, '/terminals', { body: {} }),
  'GET /v1/sessions/{id}/terminals/{terminalId}': onSession(409, `/terminals/${noId('trm')}`, {
    headers: { ...upgrade, 'sec-websocket-protocol': clientProtocol },
  }),
  'POST /v1/sessions/{id}/terminals/{terminalId}/links': onSession(409, `/terminals/${noId('trm')}/links`, {
    body: {},
  }),
  'GET /v1/sessions/{id}/terminals/{terminalId}/links': onSession(200, `/terminals/${noId('trm')}/links`),
  'DELETE /v1/sessions/{id}/terminals/{terminalId}/links/{linkId}': {
    ok: 404,
    belongsTo: 'project',
    request: ({ sessionId }) => ({ path: `/v1/sessions/${sessionId}/terminals/${noId('trm')}/links/${noId('tok')}` }),
    missing: () => ({ path: `/v1/sessions/${noId('ses')}_1_1/terminals/${noId('trm')}/links/${noId('tok')}` }),
  },
  'GET /v1/shared-terminals/{terminalId}': {
    ok: 409,
    request: () => ({
      path: `/v1/shared-terminals/${linkedTerminal}`,
      headers: { ...upgrade, 'sec-websocket-protocol': clientProtocol },
    }),
  },
  'DELETE /v1/sessions/{id}/terminals/{terminalId}': {
    ok: 409,
    belongsTo: 'project',
    request: ({ sessionId }) => ({ path: `/v1/sessions/${sessionId}/terminals/${noId('trm')}` }),
    missing: () => ({ path: `/v1/sessions/${noId('ses')}_1_1/terminals/${noId('trm')}` }),
  },
  'GET /v1/sessions/{id}/ssh': onSession(409, '/ssh', {
    headers: { ...upgrade, 'sec-websocket-protocol': clientProtocol },
  }),
  'GET /v1/sessions/{id}/ports': onSession(409, '/ports', {
    headers: { ...upgrade, 'sec-websocket-protocol': clientProtocol },
  }),
  'GET /v1/sessions/{id}/files': onSession(409, '/files?path=a'),
  'PUT /v1/sessions/{id}/files': onSession(409, '/files?path=a&uploadId=upload-1&offset=0&last=true', { body: 'tar' }),

  'GET /v1/admin/orphans': plain(200, '/v1/admin/orphans'),
  // There is none: whoever may is told so.
  'DELETE /v1/admin/orphans/{id}': plain(404, `/v1/admin/orphans/${noId('ses')}_1_1`),
  'POST /v1/admin/rebuild': plain(200, '/v1/admin/rebuild', () => ({ dryRun: true })),
  'POST /v1/admin/restored': plain(200, '/v1/admin/restored', () => ({
    snapshotAtMs: 1,
    revocations: { tokens: [], users: [], agents: [] },
  })),

  // In production there is no such door.
  'POST /internal/drain': plain(404, '/internal/drain'),
  'POST /internal/sweep': plain(404, '/internal/sweep'),
};
