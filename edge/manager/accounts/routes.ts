/** HTTP of accounts: one route, one verb of the service. */
import { Bootstrap, Bootstrapped, LoggedIn, Login, NewPassword, Whoami } from '../../../schema/api/account.ts';
import { rateLimitHeaders } from '../../http/rate-limit.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { changePassword } from './change-password.ts';
import { bootstrap, login, logout, whoami } from './service.ts';

export const accounts = slice('accounts', [
  route(
    {
      method: 'post',
      path: '/v1/auth/login',
      summary: 'Signs in by email and password.',
      permission: 'public',
      bodyLimitBytes: 4096,
      idempotent: 'none',
      request: { body: Login },
      responses: { 200: { description: 'Signed in.', schema: LoggedIn } },
      errors: ['auth_login_failed', 'auth_throttled'],
    },
    async (ctx, { body }) => {
      const { answer, limit } = await login(ctx, body);
      return reply(200, answer, rateLimitHeaders(limit));
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/auth/logout',
      summary: 'Revokes the token that asks.',
      permission: 'authenticated',
      idempotent: 'none',
      responses: { 204: { description: 'Signed out.' } },
    },
    async (ctx) => {
      await logout(ctx);
      return reply(204);
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/auth/password',
      summary: "Changes the actor's own password, by the one that it has.",
      permission: 'authenticated',
      bodyLimitBytes: 4096,
      idempotent: 'none',
      request: { body: NewPassword },
      responses: { 204: { description: 'Changed.' } },
      errors: ['auth_password_wrong', 'auth_throttled', 'request_precondition_failed'],
    },
    async (ctx, { body }) => reply(204, undefined, rateLimitHeaders(await changePassword(ctx, body))),
  ),
  route(
    {
      method: 'get',
      path: '/v1/whoami',
      summary: 'Who asks, and what the token allows.',
      permission: 'authenticated',
      responses: { 200: { description: 'The actor.', schema: Whoami } },
    },
    (ctx) => reply(200, whoami(ctx)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/bootstrap',
      summary: 'Makes the first administrator, with domain, project and resource group `default`. Once.',
      permission: 'bootstrap',
      bodyLimitBytes: 4096,
      idempotent: 'none',
      request: { body: Bootstrap },
      responses: { 201: { description: 'Made.', schema: Bootstrapped } },
      errors: ['bootstrap_done'],
    },
    async (ctx, { body }) => reply(201, await bootstrap(ctx, body)),
  ),
]);
