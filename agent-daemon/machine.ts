/**
 * Whether a state directory is on the machine that it belongs to. A copy of a disk has the key and all that was promised,
 * and would speak for containers that run elsewhere: it is told apart by what only the hardware knows, before it dials.
 * Where the hardware says nothing, the join counter finds a copy out later (SPEC rule M2).
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from '../schema/ports.ts';
import { type Disk, readIfThere, replaceDurably } from './disk.ts';

const Kept = z.object({ machine: z.string() });

/** This state directory was copied or moved here. Worded for whoever started the agent. */
export class MachineChanged extends Error {
  constructor(path: string, stateDir: string) {
    super(
      `this machine is not the one that joined: its disk was copied, or moved here. If the other machine is gone for good, ` +
        `remove ${path} and start again. If this is a copy, move ${stateDir} away and join anew: causeway agent token create`,
    );
    this.name = 'MachineChanged';
  }
}

/**
 * Remembers the machine at the first start, and compares at every later one. `hardwareId`: undefined where nothing tells.
 * @throws MachineChanged
 */
export async function requireSameMachine(
  stateDir: string,
  { disk, log, hardwareId }: { disk: Disk; log: Log; hardwareId: string | undefined },
): Promise<void> {
  if (hardwareId === undefined) return;
  const path = join(stateDir, 'machine.json');
  const machine = createHash('sha256').update(`causeway-machine-v1\n${hardwareId}`).digest('hex');
  const kept = Kept.safeParse(parseJson((await readIfThere(disk, path))?.toString())).data;
  if (kept === undefined) {
    await replaceDurably(disk, path, JSON.stringify({ machine }));
    log.info('remembers this machine', { path });
  } else if (kept.machine !== machine) throw new MachineChanged(path, stateDir);
}

function parseJson(text = ''): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
