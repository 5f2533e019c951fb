/** The routes at which a client opens a socket of the tunnel to one session, and nothing else. */
import { z } from 'zod';
import { SessionId } from '../../../schema/api/session.ts';
import { SessionSocketQuery } from '../../../schema/api/session-stream.ts';
import type { ErrorCode } from '../../../schema/errors.ts';
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { route } from '../../http/slice.ts';
import { openSocket } from './streams.ts';

const SessionParams = z.strictObject({ id: SessionId });

/** `GET /v1/sessions/{id}/<kind>`: a socket for the operations of `kind`, for who may write in the project. */
export function socketRoute(kind: 'exec' | 'execute' | 'ssh' | 'ports', summary: string, errors: readonly ErrorCode[]) {
  return route(
    {
      method: 'get',
      path: `/v1/sessions/{id}/${kind}`,
      summary: `A socket of the tunnel: ${summary}`,
      permission: 'project:write',
      request: { params: SessionParams, query: SessionSocketQuery },
      responses: {
        101: {
          description:
            `The subprotocol ${clientProtocol}; close codes 4401, 4403, 4404, 4409, 4503. \`causeway-generation\` tells ` +
            'the placement that it leads to.',
        },
      },
      errors: ['session_generation_stale', ...errors],
      upgrade: { protocol: clientProtocol },
    },
    (ctx, { params, query }) => openSocket(ctx, params.id, kind, query.generation),
  );
}
