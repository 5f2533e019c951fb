/**
 * What a Jupyter server for kernels says over HTTP, as JupyterLab's `@jupyterlab/services` and the gateway client of
 * jupyter-server read it (https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html). Names are theirs.
 */
import { z } from 'zod';
import { SessionId } from './session.ts';
import { KernelId } from './kernel-parts.ts';

/** What a refusal looks like on this surface. `code` is ours, and stable. */
export const JupyterError = z
  .object({ message: z.string(), reason: z.string(), code: z.string() })
  .meta({ id: 'JupyterError' });

const body = '[0-9a-hjkmnp-tv-z]{26}';
const numbers = '[1-9][0-9]{0,8}_[1-9][0-9]{0,8}';
const kernelIdPattern = new RegExp(`^ses-(${body})-(${numbers})-krn-(${body})$`);

/** Five words joined by dashes: what jupyter-server takes for the id of a kernel. It names the session and its kernel. */
export function toJupyterKernelId(sessionId: string, kernelId: string): string {
  const [, session, group, domain] = sessionId.split('_');
  return `ses-${session}-${group}_${domain}-krn-${kernelId.split('_')[1]}`;
}

/** The session and the kernel that an id names; undefined when it is none of ours. */
export function parseJupyterKernelId(id: string): { sessionId: string; kernelId: string } | undefined {
  const [, session, places, kernel] = kernelIdPattern.exec(id) ?? [];
  if (session === undefined) return undefined;
  const parsed = { sessionId: `ses_${session}_${places}`, kernelId: `krn_${kernel}` };
  return SessionId.safeParse(parsed.sessionId).success && KernelId.safeParse(parsed.kernelId).success
    ? parsed
    : undefined;
}

/** The kernel of a session that was made for it: they share the body of their ids. */
export function mainKernelOf(sessionId: string): string {
  return `krn_${sessionId.split('_')[1]}`;
}

/** Variables of a session that was made for a kernel: the kernelspec of the gateway that was asked for, and its language. */
const madeFor = { name: 'CAUSEWAY_JUPYTER_KERNEL', language: 'CAUSEWAY_JUPYTER_LANGUAGE' } as const;
/** Of the languages of which most images have the same kernelspec. */
const usualSpecs: Readonly<Record<string, string>> = { python: 'python3' };

/** What a session with these variables was made for by the gateway; undefined: it was not. */
export function kernelMadeFor(env: Readonly<Record<string, string>>): { name: string; language: string } | undefined {
  const { [madeFor.name]: name, [madeFor.language]: language } = env;
  return name === undefined || language === undefined ? undefined : { name, language };
}

/** The variables that say so. */
export function variablesOfKernel({ name, language }: { name: string; language: string }): Record<string, string> {
  return { [madeFor.name]: name, [madeFor.language]: language };
}

/** The kernelspec that an image has for a language, as a rule: to try it costs a list of what there is less. */
export function usualSpecOf(language: string): string | undefined {
  const wanted = language.toLowerCase();
  return Object.hasOwn(usualSpecs, wanted) ? usualSpecs[wanted] : undefined;
}

/** How often a kernel that a session was made for is started again by itself. Like jupyter-server: what dies more often stays dead. */
export const mainKernelRestarts = { perMinute: 5 };

/** What a kernel does, in Jupyter's words. */
export const ExecutionState = z.enum(['starting', 'idle', 'busy', 'restarting', 'dead', 'unknown']);

export const JupyterKernel = z
  .object({
    id: z.string(),
    /** Of its kernelspec. */
    name: z.string(),
    last_activity: z.iso.datetime(),
    execution_state: ExecutionState,
    connections: z.int().nonnegative(),
    /** Why it waits or is dead. */
    reason: z.string().optional(),
  })
  .meta({ id: 'JupyterKernel' });
export type JupyterKernel = z.infer<typeof JupyterKernel>;
export const JupyterKernels = z.array(JupyterKernel);

const specName = z.string().max(256);
/** Names and values that are no variables are left out rather than refused: clients send what they find around them. */
const environment = z.record(z.string(), z.unknown());

export const NewJupyterKernel = z.looseObject({
  name: specName.nullish(),
  path: z.string().max(4096).nullish(),
  env: environment.nullish(),
});
export type NewJupyterKernel = z.infer<typeof NewJupyterKernel>;

export const JupyterKernelspec = z
  .object({
    name: z.string(),
    spec: z.object({
      argv: z.array(z.string()),
      env: z.record(z.string(), z.string()),
      display_name: z.string(),
      language: z.string(),
      interrupt_mode: z.enum(['signal', 'message']),
      metadata: z.record(z.string(), z.unknown()),
    }),
    resources: z.record(z.string(), z.string()),
  })
  .meta({ id: 'JupyterKernelspec' });
export type JupyterKernelspec = z.infer<typeof JupyterKernelspec>;
export const JupyterKernelspecs = z
  .object({ default: z.string(), kernelspecs: z.record(z.string(), JupyterKernelspec) })
  .meta({ id: 'JupyterKernelspecs' });
export type JupyterKernelspecs = z.infer<typeof JupyterKernelspecs>;

const notebook = z.object({ path: z.string(), name: z.string() });
/** A name and a place for a kernel: not a session of ours. */
export const JupyterSession = z
  .object({
    id: z.string(),
    path: z.string(),
    name: z.string(),
    type: z.string(),
    kernel: JupyterKernel,
    /** The same again, of a notebook alone, for clients of before 2017. */
    notebook: notebook.optional(),
  })
  .meta({ id: 'JupyterSession' });
export type JupyterSession = z.infer<typeof JupyterSession>;
export const JupyterSessions = z.array(JupyterSession);

const place = {
  path: z.string().max(4096),
  name: z.string().max(1024).nullish(),
  type: z.string().max(64),
};
const kernel = z
  .looseObject({ id: z.string().max(256).nullish(), name: specName.nullish(), env: environment.nullish() })
  .nullish();
export const NewJupyterSession = z.looseObject({ ...place, kernel });
export type NewJupyterSession = z.infer<typeof NewJupyterSession>;
export const JupyterSessionPatch = z.looseObject({
  path: place.path.nullish(),
  name: place.name,
  type: place.type.nullish(),
  kernel,
});
export type JupyterSessionPatch = z.infer<typeof JupyterSessionPatch>;

export const JupyterVersion = z.object({ version: z.string() });
export const JupyterMe = z.object({
  identity: z.object({
    username: z.string(),
    name: z.string(),
    display_name: z.string(),
    initials: z.string(),
    avatar_url: z.string().nullable(),
    color: z.string().nullable(),
  }),
  permissions: z.record(z.string(), z.array(z.string())),
});
export const JupyterStatus = z.object({
  started: z.iso.datetime(),
  last_activity: z.iso.datetime(),
  connections: z.int().nonnegative(),
  kernels: z.int().nonnegative(),
});

const terminalWord = '\\w{1,64}';
const globalTerminal = new RegExp(`^(ses_${body}_${numbers})_(${terminalWord})$`);

/** At `/jupyter`, where terminals are of many sessions: what jupyter-server takes for a name, and says which session. */
export function toJupyterTerminalName(sessionId: string, name: string): string {
  return `${sessionId}_${name}`;
}

/** The session and the terminal in it; undefined when the name is none of ours. */
export function parseJupyterTerminalName(text: string): { sessionId: string; name: string } | undefined {
  const [, sessionId, name] = globalTerminal.exec(text) ?? [];
  if (sessionId === undefined || name === undefined) return undefined;
  return SessionId.safeParse(sessionId).success ? { sessionId, name } : undefined;
}

export const JupyterTerminal = z
  .object({ name: z.string(), last_activity: z.iso.datetime() })
  .meta({ id: 'JupyterTerminal' });
export type JupyterTerminal = z.infer<typeof JupyterTerminal>;
export const JupyterTerminals = z.array(JupyterTerminal);
export const NewJupyterTerminal = z.looseObject({
  name: z
    .string()
    .regex(/^\w{1,128}$/, 'must be 1 to 128 of A-Z, a-z, 0-9 and _')
    .nullish(),
  /** Where its shell begins, from the home on; where there is no such directory: the home. */
  cwd: z.string().max(4096).nullish(),
});
export type NewJupyterTerminal = z.infer<typeof NewJupyterTerminal>;

/** `session_id`: who comes back under it goes on where it was. */
export const JupyterChannelsQuery = z.looseObject({
  session_id: z
    .string()
    .regex(/^[\x21-\x7e]{1,128}$/, 'must be 1 to 128 printable ASCII characters without spaces')
    .optional(),
});
