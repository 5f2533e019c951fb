/** The kernelspecs of a session, as `causeway-init kernelspecs` finds them where its processes are, and how one is started. */
import { z } from 'zod';
import { type Kernelspec, SpecName } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Timers } from '../../schema/ports.ts';
import type { SpawnSpec } from '../init/messages.ts';
import type { ProcessExit, ProcessRecord } from '../output/process-record.ts';
import type { StreamName } from '../output/segment.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import type { StreamLog } from '../output/stream-log.ts';
import { StreamReader } from '../output/stream-reader.ts';
import type { Supervisor } from '../processes/supervisor.ts';

/** A kernelspec, and the folder of its `kernel.json`. */
export interface FoundSpec {
  spec: Kernelspec;
  folder: string;
}

const maxSpecs = 64;
const maxListBytes = 2 * 1024 * 1024;
const Line = z.object({ name: SpecName, folder: z.string(), text: z.string() });
/** As Jupyter's documentation has it; what else stands there is not for us. */
const KernelJson = z.object({
  argv: z.array(z.string().max(4096)).min(1).max(64),
  display_name: z.string().max(256).optional(),
  language: z.string().max(64).optional(),
  interrupt_mode: z.enum(['signal', 'message']).optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(4096)).optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
});

/** What the init printed as kernelspecs; one that is not of their form is left out. Pure. */
export function parseKernelspecs(output: string): FoundSpec[] {
  const specs = output.split('\n').flatMap((line): FoundSpec[] => {
    const { name, folder, text } = Line.safeParse(parse(line)).data ?? { name: '', folder: '', text: '' };
    const json = KernelJson.safeParse(parse(text)).data;
    if (json === undefined) return [];
    return [
      {
        folder,
        spec: {
          name,
          displayName: json.display_name ?? name,
          language: json.language ?? '',
          argv: json.argv,
          env: json.env ?? {},
          interruptMode: json.interrupt_mode ?? 'signal',
          metadata: json.metadata ?? {},
        },
      },
    ];
  });
  return specs.slice(0, maxSpecs);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The command line that lists kernelspecs. An init of an earlier version knows it as wrong usage. */
export function kernelspecsArgv(initPath: string): string[] {
  return [initPath, 'kernelspecs', '--'];
}

interface ToolPorts {
  supervisor: Supervisor;
  spools: Spools;
  timers: Timers;
}

/** Runs a process that ends soon, reads one of its streams, and forgets it. Undefined when it did not end before `signal`. */
export async function runTool(
  { supervisor, spools, timers }: ToolPorts,
  ref: SpoolRef,
  { spawning, reads }: { spawning: Promise<{ spec: SpawnSpec; record: ProcessRecord }>; reads: StreamName },
  signal: AbortSignal,
): Promise<{ exit: ProcessExit; output: Buffer } | undefined> {
  const { spec, record } = await spawning;
  const spool = await supervisor.spawn(spec, record);
  const output = await readToEnd(spool.log(reads), signal);
  // The other stream may end later.
  while (supervisor.isLive(ref.processId) && !signal.aborted)
    await new Promise<void>((resolve) => void timers.after(1, resolve));
  const { exit } = spool.record;
  // Not in memory alone, where the disk refuses it: whoever records it has the spool until that is done.
  if (exit === undefined || supervisor.isLive(ref.processId)) return undefined;
  await spools.forget(ref);
  return { exit, output };
}

/** Reads what a process that lists kernelspecs prints, and forgets it. @throws Refusal `kernel_spec_unusable` */
export async function listKernelspecs(
  ports: ToolPorts,
  ref: SpoolRef,
  spawning: Promise<{ spec: SpawnSpec; record: ProcessRecord }>,
  signal: AbortSignal,
): Promise<FoundSpec[]> {
  const said = await runTool(ports, ref, { spawning, reads: 'stdout' }, signal);
  if (said === undefined) throw new Refusal('kernel_spec_unusable', 'Its kernelspecs were not listed in time.');
  const { exit, output } = said;
  if (exit.exitCode === 0) return parseKernelspecs(output.toString());
  // An init of an earlier version knows no such tool.
  const isOld = exit.exitCode === 2;
  const why = isOld
    ? 'Its container was made by an earlier version of the agent.'
    : 'Its kernelspecs could not be listed.';
  throw new Refusal('kernel_spec_unusable', why);
}

async function readToEnd(log: StreamLog, signal: AbortSignal): Promise<Buffer> {
  const reader = new StreamReader(log, 0, { live: false });
  const pieces: Buffer[] = [];
  let size = 0;
  try {
    while (!signal.aborted && size <= maxListBytes && !(log.isFinal && reader.position >= log.end)) {
      const item = await reader.next();
      if (item?.kind === 'bytes') size += pieces[pieces.push(Buffer.from(item.bytes)) - 1]?.byteLength ?? 0;
      else if (item === undefined) await log.whenBeyond(reader.position, signal);
    }
  } finally {
    await reader.close();
  }
  return Buffer.concat(pieces);
}

/** The command line of a kernel itself. */
export function kernelArgvOf({ spec, folder }: FoundSpec): string[] {
  return spec.argv.map((text) => text.replaceAll('{resource_dir}', folder));
}

/**
 * The command line of a kernel behind its bridge (SPEC.md rules J1 and J18). `take`: the one that waits under this name, if
 * it does; `park`: it is left to wait under this name.
 */
export function bridgeArgv(initPath: string, found: FoundSpec, name: { take?: string; park?: string } = {}): string[] {
  const options = Object.entries(name).flatMap(([option, value]) => [`--${option}`, value]);
  // Python goes without saying: an init of an earlier version does not know that there are others.
  const language = found.spec.language.toLowerCase();
  if (options.length > 0 && language !== 'python') options.push('--language', language);
  return [initPath, 'kernel', '--interrupt', found.spec.interruptMode, ...options, '--', ...kernelArgvOf(found)];
}

/** Variables of a kernelspec, with those of `environment` that they name (`$NAME`, `${NAME}`). */
export function specEnv(
  { spec: { env } }: FoundSpec,
  environment: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const expand = (text: string) =>
    text.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => {
      return environment[braced ?? bare ?? ''] ?? whole;
    });
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, expand(value)]));
}
