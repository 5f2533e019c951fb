/** From a route's declared permission, and whose its object is, to what each caller must be answered. The table of rights. */
import type { Permission } from '../../../edge/http/slice.ts';
import { type Caller, callers } from './world.ts';

/** `pass`: whatever the sample says. `hidden`: 404, byte for byte as if the object did not exist. */
export type Outcome = 'pass' | 401 | 403 | 'hidden';

/** Callers with a user's token from this one on, as `callers` lists them: each may what those before it may. */
const from = (least: Caller): readonly Caller[] => callers.slice(callers.indexOf(least));

/** Who gets past the declaration with a user's token. */
const users: Record<string, readonly Caller[]> = {
  authenticated: from('viewer'),
  'project:read': from('viewer'),
  'project:write': from('member'),
  'project:admin': from('project admin'),
  'domain:admin': from('domain admin'),
  superadmin: from('superadmin'),
  metrics: ['metrics token'],
  'terminal:view': ['terminal link'],
};
/** Callers whose credential is no user's token. */
const strangers: readonly Caller[] = ['nobody', 'bad token', 'agent', 'supervisor'];
/** Who may not even learn that the object is there. */
const blind: Record<'project' | 'domain', readonly Caller[]> = {
  project: ['admin of another project', 'admin of another domain'],
  domain: ['admin of another domain'],
};

export function expectedOutcome(
  permission: Permission,
  belongsTo: 'project' | 'domain' | undefined,
  caller: Caller,
): Outcome {
  if (permission === 'public') return 'pass';
  if (permission === 'agent') return caller === 'agent' ? 'pass' : 401;
  if (permission === 'bootstrap') return caller === 'supervisor' ? 'pass' : 401;
  if (strangers.includes(caller)) return 401;
  if (!users[permission]?.includes(caller)) return 403;
  return belongsTo !== undefined && blind[belongsTo].includes(caller) ? 'hidden' : 'pass';
}
