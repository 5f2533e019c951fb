/**
 * The list of commands. Each verb registers its options and its action from its own file, which is imported only when the
 * verb was typed: a start loads what it needs and no more. This file only says which there are, with a line for the list.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';

/** Puts one command, with options and action, under `program`. */
type Register = (program: Command) => void;
interface Verb {
  name: string;
  /** Its line in `causeway --help`. */
  summary: string;
  load: () => Promise<Register>;
}

const groups: Record<string, Verb[]> = {
  'This machine:': [
    {
      name: 'up',
      summary: 'start a control plane and an agent here',
      load: async () => (await import('./instance/up.ts')).registerUp,
    },
    {
      name: 'status',
      summary: 'how they are',
      load: async () => (await import('./instance/status.ts')).registerStatus,
    },
    {
      name: 'down',
      summary: 'stop them; containers go on',
      load: async () => (await import('./instance/down.ts')).registerDown,
    },
    {
      name: 'doctor',
      summary: 'check what they need, with remedies',
      load: async () => (await import('./instance/doctor.ts')).registerDoctor,
    },
    {
      name: 'backup',
      summary: 'the whole control plane in one file, also while it runs',
      load: async () => (await import('./instance/backup/command.ts')).registerBackup,
    },
    {
      name: 'restore',
      summary: 'put a backup in the place of the state',
      load: async () => (await import('./instance/backup/restore.ts')).registerRestore,
    },
  ],
  'Sessions:': [
    {
      name: 'run',
      summary: 'start a session and run a command in it',
      load: async () => (await import('./session/run.ts')).registerRun,
    },
    { name: 'ps', summary: 'list sessions', load: async () => (await import('./session/list.ts')).registerList },
    {
      name: 'logs',
      summary: 'output of a session, also after its end',
      load: async () => (await import('./session/logs.ts')).registerLogs,
    },
    {
      name: 'exec',
      summary: 'run one more command in a running session',
      load: async () => (await import('./session/exec.ts')).registerExec,
    },
    {
      name: 'exec-code',
      summary: 'run code in a session; its state stays',
      load: async () => (await import('./kernel/exec-code.ts')).registerExecCode,
    },
    {
      name: 'repl',
      summary: 'type code into a session',
      load: async () => (await import('./kernel/repl.ts')).registerRepl,
    },
    {
      name: 'attach',
      summary: 'a terminal in a session that goes on without you',
      load: async () => (await import('./terminals/attach.ts')).registerAttach,
    },
    {
      name: 'terminals',
      summary: 'list terminals of a session',
      load: async () => (await import('./terminals/list.ts')).registerTerminals,
    },
    {
      name: 'ssh',
      summary: 'open a shell in a session by OpenSSH',
      load: async () => (await import('./ssh/ssh.ts')).registerSsh,
    },
    {
      name: 'ssh-config',
      summary: 'let ssh, scp, rsync, git and editors reach sessions',
      load: async () => (await import('./ssh/config.ts')).registerSshConfig,
    },
    {
      name: 'port',
      summary: 'forward ports of this machine into a session',
      load: async () => (await import('./session/port.ts')).registerPort,
    },
    {
      name: 'cp',
      summary: 'copy files into and out of a session',
      load: async () => (await import('./files/copy.ts')).registerCopy,
    },
    {
      name: 'stop',
      summary: 'ask sessions to stop',
      load: async () => (await import('./session/end.ts')).registerStop,
    },
    {
      name: 'rm',
      summary: 'remove ended sessions with home and output',
      load: async () => (await import('./session/end.ts')).registerRemove,
    },
    {
      name: 'inspect',
      summary: 'all that is known of a session, as JSON',
      load: async () => (await import('./session/end.ts')).registerInspect,
    },
    {
      name: 'events',
      summary: 'what happens, as it happens',
      load: async () => (await import('./events.ts')).registerEvents,
    },
    {
      name: 'images',
      summary: 'images that the machines hold',
      load: async () => (await import('./images.ts')).registerImages,
    },
  ],
  'Machines:': [
    {
      name: 'agent',
      summary: 'join, list, approve, drain, revoke',
      load: async () => (await import('./agent/index.ts')).registerAgent,
    },
  ],
  'The control plane:': [
    {
      name: 'admin',
      summary: 'compare what it keeps, and put right what differs',
      load: async () => (await import('./admin/index.ts')).registerAdmin,
    },
  ],
  'You:': [
    {
      name: 'login',
      summary: 'sign in to a control plane',
      load: async () => (await import('./account/sign-in.ts')).registerLogin,
    },
    {
      name: 'logout',
      summary: 'forget and revoke the credential',
      load: async () => (await import('./account/sign-in.ts')).registerLogout,
    },
    {
      name: 'whoami',
      summary: 'who you are, and where',
      load: async () => (await import('./account/sign-in.ts')).registerWhoami,
    },
    {
      name: 'account',
      summary: 'your password, or that of a user you administer',
      load: async () => (await import('./account/password.ts')).registerAccount,
    },
    {
      name: 'ssh-key',
      summary: 'public keys by which you sign in over ssh',
      load: async () => (await import('./ssh/keys.ts')).registerSshKey,
    },
    {
      name: 'audit',
      summary: 'who did what, and whether the record is whole',
      load: async () => (await import('./account/audit.ts')).registerAudit,
    },
    {
      name: 'completion',
      summary: 'a completion script for bash, zsh or fish',
      load: async () => {
        const { registerCompletion } = await import('./completion.ts');
        return (program) => registerCompletion(program, buildProgram);
      },
    },
  ],
};
/** Asked by completion scripts; not in any list. */
const namesVerb = '__names';
/** Run by OpenSSH; not in any list. */
const proxyVerb = 'ssh-proxy';

/** A new program with every command registered; nothing has run yet. */
export async function buildProgram(): Promise<Command> {
  return build(() => true);
}

/** A program in which the command that `args` ask for can run; of the others it knows names and summaries. */
export async function programFor(args: readonly string[]): Promise<Command> {
  const typed = args.filter((each) => !each.startsWith('-'));
  const wanted = typed[0] === 'help' ? typed[1] : typed[0];
  const program = await build((name) => name === wanted);
  if (wanted === namesVerb) (await import('./completion.ts')).registerNames(program);
  if (wanted === proxyVerb) (await import('./ssh/proxy.ts')).registerProxy(program);
  return program;
}

async function build(isWanted: (name: string) => boolean): Promise<Command> {
  const program = new Command('causeway')
    .description('Share GPU machines: sessions, logs, exec and agents')
    .usage('COMMAND [options]')
    .version(version())
    .addHelpCommand(
      new Command('help').argument('[command]').description('a command with its options').helpGroup('You:'),
    )
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'causeway: ')) })
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .enablePositionalOptions()
    .exitOverride();
  for (const [heading, verbs] of Object.entries(groups)) {
    program.commandsGroup(heading);
    for (const { name, summary, load } of verbs)
      if (isWanted(name)) (await load())(program);
      else program.command(name).description(summary);
  }
  pointToHelp(program, 'causeway');
  return program;
}

/** A wrong option or argument is answered with where its own help is. */
function pointToHelp(command: Command, path: string): void {
  command.showHelpAfterError(`  try: ${path} --help`);
  for (const each of command.commands) pointToHelp(each, `${path} ${each.name()}`);
}

function version(): string {
  const text = readFileSync(join(import.meta.dirname, '../package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
