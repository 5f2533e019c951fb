/** Finding a session by id, by unique prefix of an id, or by name (the newest of that name). */
import type { Session } from '../../schema/api/session.ts';
import { Session as SessionSchema, SessionPage } from '../../schema/api/session.ts';
import { idPattern } from '../../schema/ids.ts';
import { CliFailure } from '../exit.ts';
import type { Api } from '../http/api.ts';

/** One session by what a person typed. @throws CliFailure when nothing, or more than one, fits. */
export async function findSession(api: Api, text: string): Promise<Session> {
  if (idPattern('session').test(text)) return api.json(SessionSchema, 'GET', `/v1/sessions/${text}`);
  if (text.startsWith('ses_')) return byPrefix(api, text);
  for (const state of ['live', undefined]) {
    // The filter takes names that begin so; newest first.
    for await (const session of api.items(SessionPage, '/v1/sessions', { query: { name: text, state } }))
      if (session.name === text) return session;
  }
  throw new CliFailure(`there is no session ${text}`, { hint: 'causeway ps -a', code: 'session_not_found' });
}

async function byPrefix(api: Api, prefix: string): Promise<Session> {
  const page = await api.json(SessionPage, 'GET', '/v1/sessions', { query: { limit: 200 } });
  const found = page.items.filter((each) => each.id.startsWith(prefix));
  if (found.length === 1) return found[0]!;
  throw new CliFailure(
    found.length === 0 ? `no recent session starts with ${prefix}` : `${found.length} sessions start with ${prefix}`,
    { hint: 'causeway ps -a', code: 'session_not_found' },
  );
}
