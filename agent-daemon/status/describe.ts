/** The call `describe`: everything by which a person far away can tell what is wrong with this agent. Measures, changes nothing. */
import type { Clock } from '../../schema/ports.ts';
import type { Diagnosis, RecentError, Route } from '../../schema/protocol/diagnosis.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { CallHandler } from '../dispatch.ts';
import type { LoopState } from '../loops.ts';
import { agentVersion } from '../version.ts';

export interface Described {
  clock: Clock;
  diagnose(): Promise<Pick<Diagnosis, 'report' | 'disks' | 'inAdvance'>>;
  route(): Route | undefined;
  pingMs(): number | undefined;
  errors(): RecentError[];
  loops(): LoopState[];
  runtimeVersion: string;
}

export function describeCall(of: Described): CallHandler<'describe'> {
  const startedMs = of.clock.bootMs();
  return async () => {
    const { report, disks, inAdvance } = await of.diagnose();
    const [route, pingMs] = [of.route(), of.pingMs()];
    return {
      nowMs: of.clock.nowMs(),
      agentVersion,
      protocolVersion: limits.version,
      runtimeVersion: of.runtimeVersion,
      upMs: Math.max(0, of.clock.bootMs() - startedMs),
      report,
      disks,
      ...(route === undefined ? {} : { route }),
      ...(pingMs === undefined ? {} : { pingMs }),
      ...(inAdvance === undefined ? {} : { inAdvance }),
      errors: of.errors(),
      loops: of.loops().map(textOf).slice(0, 32),
    };
  };
}

function textOf({ name, failures, error, stuck }: LoopState): string {
  const hangs = stuck === true ? ', hangs' : '';
  return `${name}: failed ${failures} times${error === undefined ? '' : `, now by ${error}`}${hangs}`.slice(0, 400);
}
