/**
 * How a kernel of each language is started: an interpreter of the image, told to read as many bytes of its standard input
 * as our runner has, and to become it (SPEC.md rule R1). Pure.
 */
import type { Language } from '../../schema/api/kernel-parts.ts';

/** File of each runner, beside this one in `runners/`. */
export const runnerFiles = {
  python: 'python.py',
  node: 'node.cjs',
  bash: 'bash.sh',
  ruby: 'one-shot.sh',
  perl: 'one-shot.sh',
  r: 'one-shot.sh',
} as const satisfies Record<Language, string>;

/** In this order a session is tried where nobody says which language. */
export const tried = ['python', 'node', 'bash'] as const satisfies readonly Language[];

/** What an image must have for a kernel of each language. */
export const interpreters = {
  python: 'python3',
  node: 'node and sh',
  bash: 'bash',
  ruby: 'ruby and sh',
  perl: 'perl and sh',
  r: 'Rscript and sh',
} as const satisfies Record<Language, string>;

/** Each run is a process of `program`; the code `version` prints which one it is. */
const oneShot = (language: Language, program: string, version: string) => (bytes: number, kernelId: string) => [
  'sh',
  '-c',
  `eval "$(dd bs=1 count=${bytes} 2>/dev/null)"`,
  'sh',
  kernelId,
  program,
  version,
  language,
];

const boots: Record<Language, (bytes: number, kernelId: string) => string[]> = {
  python: (bytes, kernelId) => [
    'python3',
    '-c',
    `import os
code = b""
while len(code) < ${bytes}:
    code += os.read(0, ${bytes} - len(code)) or exit()
exec(compile(code, "<causeway>", "exec"), {"__name__": "causeway"})`,
    kernelId,
  ],
  // Node can not move its own descriptors: what it gives to children as standard input must be nothing from the start.
  node: (bytes, kernelId) => [
    'sh',
    '-c',
    'exec node --expose-internals -e "$0" "$1" 3<&0 </dev/null',
    `const code = Buffer.alloc(${bytes});
for (let at = 0; at < code.length; ) at += require('fs').readSync(3, code, at, code.length - at) || process.exit();
new Function('require', code.toString())(require);`,
    kernelId,
  ],
  bash: (bytes, kernelId) => [
    'bash',
    '-c',
    `LC_ALL=C IFS= read -r -N ${bytes} REPLY && eval "$REPLY"`,
    'bash',
    kernelId,
  ],
  ruby: oneShot('ruby', 'ruby', 'print RUBY_VERSION'),
  perl: oneShot('perl', 'perl', 'printf "%vd", $^V'),
  r: oneShot('r', 'Rscript', 'cat(as.character(getRversion()))'),
};

/** The command line of a kernel whose standard input begins with `runnerBytes` of runner. */
export function kernelArgv(language: Language, runnerBytes: number, kernelId: string): string[] {
  return boots[language](runnerBytes, kernelId);
}
