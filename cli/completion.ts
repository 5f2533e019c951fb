/** `causeway completion bash|zsh|fish`: made from the commands themselves, with live session names where one is wanted. */
import type { Command } from 'commander';
import { SessionPage } from '../schema/api/session.ts';
import { CliFailure } from './exit.ts';
import { Api } from './http/api.ts';

interface Entry {
  path: string;
  words: string[];
  sessions: boolean;
}

/** Registers `completion`; `whole` is the program with every command and option, which the script is made from. */
export function registerCompletion(program: Command, whole: () => Promise<Command>): void {
  program
    .command('completion')
    .description('print a completion script: source <(causeway completion bash)')
    .argument('<shell>', 'bash, zsh or fish')
    .action(async (shell: string) => {
      const entries = collect(await whole(), '');
      if (shell === 'bash') process.stdout.write(bashScript(entries));
      else if (shell === 'zsh')
        process.stdout.write(`autoload -U +X bashcompinit && bashcompinit\n${bashScript(entries)}`);
      else if (shell === 'fish') process.stdout.write(fishScript(entries));
      else throw new CliFailure(`there is no completion for ${shell}`, { status: 2, hint: 'causeway completion bash' });
    });
}

/** Registers the hidden command by which the scripts list names of sessions. */
export function registerNames(program: Command): void {
  program.command('__names', { hidden: true }).action(async () => {
    const page = await new Api().json(SessionPage, 'GET', '/v1/sessions', { query: { limit: 200 } });
    process.stdout.write(`${page.items.map((each) => each.name).join('\n')}\n`);
  });
}

/** Every command with its subcommands and options. */
function collect(command: Command, path: string): Entry[] {
  const visible = command.commands.filter((each) => !each.name().startsWith('__'));
  const own: Entry = {
    path,
    words: [
      ...visible.map((each) => each.name()),
      ...command.options.map((each) => each.long ?? each.short ?? '').filter((each) => each !== ''),
    ],
    sessions: command.registeredArguments.some((each) => /session/.test(each.name())),
  };
  return [own, ...visible.flatMap((each) => collect(each, path === '' ? each.name() : `${path} ${each.name()}`))];
}

function bashScript(entries: readonly Entry[]): string {
  const cases = entries
    .map(
      (each) =>
        `    ${JSON.stringify(each.path)}) words="${each.words.join(' ')}"${each.sessions ? '; names=1' : ''} ;;`,
    )
    .join('\n');
  return `_causeway() {
  local current=\${COMP_WORDS[COMP_CWORD]} path= word words= names=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in --) return ;; -*) ;; *) case " \${path:+$path }$word " in ${entries
      .filter((each) => each.path !== '')
      .map((each) => `" ${each.path} "`)
      .join('|')}) path="\${path:+$path }$word" ;; esac ;; esac
  done
  case $path in
${cases}
  esac
  [ -n "$names" ] && words="$words $(causeway __names 2>/dev/null)"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _causeway causeway
`;
}

function fishScript(entries: readonly Entry[]): string {
  const lines = ['complete -c causeway -f'];
  for (const { path, words, sessions } of entries) {
    const seen = path === '' ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${path.split(' ').at(-1)}`;
    for (const word of words)
      lines.push(
        word.startsWith('--')
          ? `complete -c causeway -n '${seen}' -l ${word.slice(2)}`
          : `complete -c causeway -n '${seen}' -a ${word.replace(/^-/, '')}`,
      );
    if (sessions) lines.push(`complete -c causeway -n '${seen}' -a '(causeway __names 2>/dev/null)'`);
  }
  return `${lines.join('\n')}\n`;
}
