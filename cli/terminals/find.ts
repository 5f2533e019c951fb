/** Finding a terminal of a session by what a person typed: its name, or the last characters of its id. */
import type { Session } from '../../schema/api/session.ts';
import { TerminalList } from '../../schema/api/terminal.ts';
import { mainTerminalName, type Terminal } from '../../schema/api/terminal-parts.ts';
import { CliFailure } from '../exit.ts';
import type { Api } from '../http/api.ts';

/** The terminals of a session that were not closed. */
export async function terminalsOf(api: Api, session: Pick<Session, 'id'>): Promise<Terminal[]> {
  return (await api.json(TerminalList, 'GET', `/v1/sessions/${session.id}/terminals`)).items;
}

/** The one that is meant. @throws CliFailure `terminal_not_found` when nothing, or more than one, fits */
export function pickTerminal(items: readonly Terminal[], session: Pick<Session, 'name'>, text: string): Terminal {
  const named = items.filter(({ name }) => name === text);
  // One that has ended may have left its name to another.
  const running = named.filter(({ state }) => state === 'running');
  const byName = running.length > 0 ? running : named;
  const found = byName.length > 0 ? byName : items.filter(({ id }) => id.endsWith(text));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw new CliFailure(
    found.length === 0 ? `${session.name} has no terminal ${text}` : `${found.length} terminals end in ${text}`,
    { hint: `causeway terminals ${session.name}`, code: 'terminal_not_found' },
  );
}

/** The one that a person most likely means: the main one of the session, else the newest that runs. */
export function usualTerminal(items: readonly Terminal[]): Terminal | undefined {
  const running = items.filter(({ state }) => state === 'running');
  return (
    running.find(({ name }) => name === mainTerminalName) ??
    running.toSorted((a, b) => b.startedAtMs - a.startedAtMs)[0]
  );
}
