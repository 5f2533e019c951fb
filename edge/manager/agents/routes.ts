/** HTTP of agents: one route, one verb of the service. */
import { z } from 'zod';
import {
  Agent,
  AgentShown,
  AgentId,
  AgentPage,
  Challenge,
  Challenged,
  Enrol,
  Enrolled,
  JoinTokenCreated,
  JoinTokenState,
  NewJoinToken,
} from '../../../schema/api/agent.ts';
import { PageQuery } from '../../../schema/api/page.ts';
import { NewUpgrade, UpgradePlan, UpgradePolicySetting, UpgradeState } from '../../../schema/api/upgrade.ts';
import { idPattern } from '../../../schema/ids.ts';
import { tunnelProtocol } from '../../../schema/protocol/limits.ts';
import { etagOf } from '../../http/etag.ts';
import { reply, route, type Route, slice } from '../../http/slice.ts';
import { createJoinToken, enrol, getJoinToken } from './enrol.ts';
import { approveAgent, getAgent, listReachedAgents, revokeAgent, setDraining } from './roster.ts';
import { challenge, openTunnel, sendAway, tunnelPath } from './tunnel.ts';
import { getUpgrade, orderUpgrade } from './upgrade.ts';
import { planUpgrade, setAgentPolicy, setGroupPolicy } from './upgrade-policy.ts';

const JoinTokenParams = z.strictObject({
  id: z.string().regex(idPattern('joinToken'), 'must be the id of a join token: jtk_ and 26 characters'),
});

const AgentParams = z.strictObject({ id: AgentId });

/** Of what the machine itself is asked. */
const asked = ['agent_not_found', 'agent_unreachable', 'tunnel_deadline', 'tunnel_closed'] as const;

const rosterRoutes: Route[] = [
  route(
    {
      method: 'get',
      path: '/v1/agents',
      summary: "Agents of the groups that the actor's projects may use.",
      permission: 'project:read',
      request: { query: PageQuery },
      responses: { 200: { description: 'A page.', schema: AgentPage } },
    },
    async (ctx, { query }) => reply(200, await listReachedAgents(ctx, query)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/agents/{id}',
      summary: 'One agent.',
      permission: 'project:read',
      request: { params: AgentParams },
      responses: { 200: { description: 'The agent; administrators see how it is.', schema: AgentShown, etag: true } },
      errors: ['agent_not_found'],
    },
    async (ctx, { params }) => {
      const { agent, version } = await getAgent(ctx, params.id);
      return reply(200, agent, etagOf(version));
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/agents/{id}/approve',
      summary: 'Approves what the agent offers now, and lifts a suspension.',
      permission: 'superadmin',
      idempotent: 'none',
      request: { params: AgentParams },
      responses: { 200: { description: 'The agent.', schema: Agent } },
      errors: ['agent_not_found', 'agent_revoked'],
    },
    async (ctx, { params }) => reply(200, await approveAgent(ctx, params.id)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/agents/{id}/drain',
      summary: 'Nothing new is placed on the agent; what runs goes on.',
      permission: 'superadmin',
      idempotent: 'none',
      request: { params: AgentParams },
      responses: { 200: { description: 'The agent.', schema: Agent } },
      errors: ['agent_not_found', 'agent_revoked'],
    },
    async (ctx, { params }) => reply(200, await setDraining(ctx, params.id, true)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/agents/{id}/undrain',
      summary: 'The agent takes sessions again.',
      permission: 'superadmin',
      idempotent: 'none',
      request: { params: AgentParams },
      responses: { 200: { description: 'The agent.', schema: Agent } },
      errors: ['agent_not_found', 'agent_revoked'],
    },
    async (ctx, { params }) => reply(200, await setDraining(ctx, params.id, false)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/agents/{id}/upgrade',
      summary: 'Orders the agent to become the version of this control plane; its containers go on.',
      permission: 'superadmin',
      idempotent: 'none',
      request: { params: AgentParams, body: NewUpgrade },
      responses: { 202: { description: 'The agent has judged the release, and begun.', schema: UpgradeState } },
      errors: [
        ...asked,
        'agent_revoked',
        'agent_upgrade_refused',
        'agent_upgrade_pinned',
        'release_not_found',
        'edge_overloaded',
      ],
    },
    async (ctx, { params, body }) => reply(202, await orderUpgrade(ctx, params.id, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/agents/{id}/upgrade',
      summary: 'How far the last upgrade of the agent is, as its machine says.',
      permission: 'superadmin',
      request: { params: AgentParams },
      responses: { 200: { description: 'Its state.', schema: UpgradeState } },
      errors: [...asked, 'agent_upgrade_refused'],
    },
    async (ctx, { params }) => reply(200, await getUpgrade(ctx, params.id)),
  ),
  route(
    {
      method: 'put',
      path: '/v1/agents/{id}/upgrade-policy',
      summary: 'When the agent upgrades itself; null: as its resource group says.',
      permission: 'superadmin',
      request: { params: AgentParams, body: UpgradePolicySetting },
      responses: { 204: { description: 'Set.' } },
      errors: ['agent_not_found', 'agent_revoked'],
    },
    async (ctx, { params, body }) => {
      await setAgentPolicy(ctx, params.id, body.policy);
      return reply(204);
    },
  ),
  route(
    {
      method: 'put',
      path: '/v1/resource-groups/{id}/upgrade-policy',
      summary:
        'When agents of the group upgrade themselves, where they have no policy of their own; null: when ordered.',
      permission: 'superadmin',
      request: { params: z.strictObject({ id: z.string().max(64) }), body: UpgradePolicySetting },
      responses: { 204: { description: 'Set.' } },
      errors: ['group_not_found'],
    },
    async (ctx, { params, body }) => {
      await setGroupPolicy(ctx, params.id, body.policy);
      return reply(204);
    },
  ),
  route(
    {
      method: 'delete',
      path: '/v1/agents/{id}',
      summary: 'Revokes the agent: its tunnel closes within 5 s, and its key is never taken again.',
      permission: 'superadmin',
      conditional: true,
      request: { params: AgentParams },
      responses: { 204: { description: 'Revoked.' } },
      errors: ['agent_not_found'],
    },
    async (ctx, { params }) => {
      await revokeAgent(ctx, params.id);
      return reply(204);
    },
  ),
];

export const agents = slice('agents', [
  ...rosterRoutes,
  route(
    {
      method: 'post',
      path: '/v1/agents/join-tokens',
      summary: 'Makes a one-time token by which a machine joins a resource group.',
      permission: 'superadmin',
      idempotent: 'begin',
      secret: true,
      request: { body: NewJoinToken },
      responses: { 201: { description: 'Made; the token is shown once.', schema: JoinTokenCreated } },
      errors: ['group_not_found'],
    },
    async (ctx, { body }) => reply(201, await createJoinToken(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/agents/join-tokens/{id}',
      summary: 'Whether a join token was used, and by which agent.',
      permission: 'superadmin',
      request: { params: JoinTokenParams },
      responses: { 200: { description: 'Its state.', schema: JoinTokenState } },
      errors: ['agent_join_token_not_found'],
    },
    async (ctx, { params }) => reply(200, await getJoinToken(ctx, params.id)),
  ),
  route(
    {
      method: 'post',
      path: '/agent/v1/enrol',
      summary: "Spends a join token on a machine's key. The same key and token are answered the same again.",
      permission: 'public',
      bodyLimitBytes: 16_384,
      idempotent: 'none',
      request: { body: Enrol },
      responses: { 200: { description: 'Enrolled.', schema: Enrolled } },
      errors: [
        'agent_join_token_invalid',
        'agent_join_token_used',
        'agent_join_token_expired',
        'agent_revoked',
        'account_name_taken',
      ],
    },
    async (ctx, { body }) => reply(200, await enrol(ctx, body)),
  ),
  route(
    {
      method: 'post',
      path: '/agent/v1/challenge',
      summary: 'A nonce for an agent to sign, good for 30 s.',
      permission: 'public',
      bodyLimitBytes: 1024,
      idempotent: 'none',
      changesNothing: true,
      early: sendAway,
      request: { body: Challenge },
      responses: { 200: { description: 'The nonce.', schema: Challenged } },
      errors: ['edge_overloaded'],
    },
    async (ctx, { body }) => reply(200, await challenge(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: tunnelPath,
      summary: "An agent's socket: control by signature, interactive and bulk by data ticket.",
      permission: 'agent',
      upgrade: { protocol: tunnelProtocol },
      request: {
        query: z.strictObject({
          purpose: z.enum(['control', 'interactive', 'bulk']),
          hub: z.string().max(128).optional(),
        }),
      },
      responses: { 101: { description: 'Switched to causeway.tunnel.v1.' } },
      errors: ['agent_signature_invalid', 'agent_challenge_expired', 'agent_revoked'],
    },
    (ctx) => openTunnel(ctx),
  ),
  route(
    {
      method: 'get',
      path: '/agent/v1/upgrade',
      summary: 'What the agent that signs this should do by itself about another version.',
      permission: 'agent',
      responses: { 200: { description: 'Its policy, and the version that is here.', schema: UpgradePlan } },
      errors: [
        'agent_signature_invalid',
        'agent_challenge_expired',
        'agent_revoked',
        'agent_not_found',
        'release_not_found',
        'edge_overloaded',
      ],
    },
    async (ctx) => reply(200, await planUpgrade(ctx)),
  ),
]);
