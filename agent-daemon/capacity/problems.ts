/** What is wrong or weaker than it could be with this host, in words for the one who runs it. Pure. */
import type { Report } from '../../schema/protocol/messages.ts';
import type { InitTransport } from '../init/link-options.ts';
import type { OversizedHome } from '../sessions/home-sizes.ts';
import type { EngineInfo } from '../runtime/runtime.ts';

export type Problem = Report['problems'][number];

/** A problem, and whether sessions suffer from it now: then the agent reports itself as degraded. */
export interface Finding extends Problem {
  degrades: boolean;
}

/** Below this, runc has holes through which a container gets out (CVE-2025-31133, -52565, -52881). */
const runcFloors = [
  { line: '1.2', patch: 8 },
  { line: '1.3', patch: 3 },
] as const;
const minFreeShare = 0.05;

/** Said wherever somebody asks how this host stands. */
export const stdioCosts =
  'Containers can not reach a socket of the agent, so all they say goes through the engine: output takes up to twice ' +
  'the time, and while the engine is down no session can be reached (they run on, and nothing is lost). On an SELinux ' +
  'host allow container_t to connect to the sockets below the state directory of the agent, and restart it.';

export interface ProblemInput {
  /** Undefined while the engine does not answer, for the reason given. */
  engine: EngineInfo | undefined;
  engineError: string | undefined;
  transport?: InitTransport | undefined;
  /** Homes that are larger than they should be, the largest first. */
  homes?: readonly OversizedHome[];
  /** Findings of other rooms. */
  others?: readonly Finding[];
  disks: { what: string; path: string; freeBytes: number; totalBytes: number }[];
}

export function findProblems({
  engine,
  engineError,
  transport,
  homes = [],
  others = [],
  disks,
}: ProblemInput): Finding[] {
  const found: Finding[] = [];
  if (engineError !== undefined) {
    found.push({ code: 'engine_unavailable', detail: `The container engine: ${engineError}`, degrades: true });
  }
  for (const disk of disks) {
    if (disk.totalBytes === 0 || disk.freeBytes / disk.totalBytes >= minFreeShare) continue;
    const free = Math.round(disk.freeBytes / 1024 / 1024);
    const detail = `Only ${free} MiB are free on the disk of ${disk.what} (${disk.path}). Free some space.`;
    found.push({ code: 'disk_low', detail, degrades: true });
  }
  if (engine !== undefined) found.push(...engineProblems(engine));
  found.push(...others);
  const [largest] = homes;
  if (largest !== undefined) {
    const others = homes.length > 1 ? ` and ${homes.length - 1} more` : '';
    const size = `${Math.round(largest.sizeBytes / 1024 / 1024)} MiB`;
    const detail = `The home of ${largest.sessionId} has ${size}${others}: more than a home should have here. Ask its owner to remove files.`;
    found.push({ code: 'home_too_large', detail, degrades: false });
  }
  if (transport === 'stdio') found.push({ code: 'init_over_stdio', detail: stdioCosts, degrades: false });
  return found.map((finding) => ({ ...finding, detail: finding.detail.slice(0, 512) })).slice(0, 16);
}

function engineProblems(engine: EngineInfo): Finding[] {
  const found: Finding[] = [];
  const add = (code: string, detail: string): void => void found.push({ code, detail, degrades: false });
  if (isBelowFloor(engine.runcVersion)) {
    add('runc_insecure', `runc ${engine.runcVersion} has known holes. Upgrade it to 1.2.8, 1.3.3 or newer.`);
  }
  if (!engine.seccomp) {
    add('seccomp_off', 'The engine runs without its seccomp profile. Remove seccomp=unconfined from its settings.');
  }
  if (!engine.liveRestore) {
    const remedy = 'Set "live-restore": true in /etc/docker/daemon.json, so that a restart of it ends no session.';
    add('live_restore_off', `The engine takes its containers down with it. ${remedy}`);
  }
  return found;
}

/** True for a release of runc that is known to be too old; a version that can not be read is not. */
export function isBelowFloor(version: string): boolean {
  const matched = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version);
  if (matched === null) return false;
  const [major = 0, minor = 0, patch = 0] = matched.slice(1).map(Number);
  const floor = runcFloors.find((each) => each.line === `${major}.${minor}`);
  if (floor !== undefined) return patch < floor.patch;
  return major < 1 || (major === 1 && minor < 2);
}
