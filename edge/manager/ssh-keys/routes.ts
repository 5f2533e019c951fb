/** HTTP of uploaded public keys of SSH. */
import { z } from 'zod';
import { NewSshKey, SshKey, SshKeyList } from '../../../schema/api/ssh-key.ts';
import { idPattern } from '../../../schema/ids.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { addSshKey, listSshKeys, removeSshKey } from './service.ts';

const SshKeyParams = z.strictObject({ id: z.string().regex(idPattern('sshKey')) });

export const sshKeys = slice('ssh-keys', [
  route(
    {
      method: 'post',
      path: '/v1/ssh-keys',
      summary: 'Uploads a public key by which the actor signs in to the SSH servers of sessions.',
      permission: 'authenticated',
      idempotent: 'begin',
      bodyLimitBytes: 16_384,
      request: { body: NewSshKey },
      responses: { 201: { description: 'Connections that are opened from now on take it.', schema: SshKey } },
      errors: ['ssh_key_invalid', 'ssh_key_taken', 'ssh_key_limit'],
    },
    async (ctx, { body }) => reply(201, await addSshKey(ctx, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/ssh-keys',
      summary: 'Public keys that the actor has uploaded, oldest first.',
      permission: 'authenticated',
      responses: { 200: { description: 'All of them that have not expired.', schema: SshKeyList } },
    },
    async (ctx) => reply(200, { items: await listSshKeys(ctx) }),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/ssh-keys/{id}',
      summary: 'Removes a public key; within 5 s every SSH connection of the actor ends.',
      permission: 'authenticated',
      request: { params: SshKeyParams },
      responses: { 204: { description: 'It signs in nowhere any more.' } },
      errors: ['ssh_key_not_found'],
    },
    async (ctx, { params }) => {
      await removeSshKey(ctx, params.id);
      return reply(204);
    },
  ),
]);
