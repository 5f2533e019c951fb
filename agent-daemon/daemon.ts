/** The agent: reads its configuration, joins once, keeps the tunnel up and carries orders out until it is told to stop. */
import type { Log } from '../schema/ports.ts';
import { brieflyKept } from '../wire/http.ts';
import type { Way } from '../wire/way.ts';
import { Agent, type AgentPorts } from './agent.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { agentFailpoints } from './failpoints.ts';
import { thisHost } from './host.ts';
import { unixDoor } from './init/door.ts';
import { MachineChanged } from './machine.ts';
import { lineLog, systemClock, systemDisk, systemGzip, systemRandom, systemSoon, systemTimers } from './platform.ts';
import { DockerRuntime } from './runtime/docker.ts';
import { StateInUse, lockState } from './state-lock.ts';
import { ScreenThread } from './terminals/screen-thread.ts';
import { JoinError } from './tunnel/enrol.ts';
import { postBy, putBy } from './tunnel/http.ts';
import { dialBy } from './tunnel/socket.ts';
import { downloadBy } from './upgrade/download.ts';
import { Installation } from './upgrade/installation.ts';
import { wayOf } from './way.ts';

/** Exit codes of sysexits.h: after the first two another try would end the same way. `again`: start what is current. */
const exitCodes = { other: 1, usage: 64, refused: 77, hung: 70, inUse: 75, again: 85 } as const;

/** Returns the exit status. */
async function run(config: Config): Promise<number> {
  lockState(config.stateDir);
  const log = lineLog(config.logLevel, (line) => void process.stderr.write(line));
  process.on('unhandledRejection', (error) => log.error('a promise was not looked after', { error: String(error) }));
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stopping.abort(new Error(signal)));

  const url = () => readConfig(process.argv.slice(2), process.env).url;
  const way = await wayOf(config, process.env, systemDisk);
  let exitCode = 0;
  const restart = () => {
    exitCode = exitCodes.again;
    stopping.abort(new Error('another version is to run'));
  };
  const agent = await Agent.start(config, realPorts(config, log, { url, way, restart }), stopping.signal);
  await new Promise<void>((resolve) => {
    if (stopping.signal.aborted) resolve();
    else stopping.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await agent.stop();
  return exitCode;
}

interface Doors {
  /** Address of the control plane, read again each time. */
  url: () => string;
  way: Way;
  /** Ends the process in order, to be started as the version that is current then. */
  restart: () => void;
}

function realPorts(config: Config, log: Log, { url, way, restart }: Doors): AgentPorts {
  const download = downloadBy(way);
  const kept = brieflyKept(way);
  return {
    clock: systemClock,
    random: systemRandom,
    timers: systemTimers(log),
    log,
    failpoints: agentFailpoints(config.failpoint, config.stateDir),
    disk: systemDisk,
    soon: systemSoon,
    nowMs: () => performance.now(),
    url,
    dial: dialBy(kept),
    post: postBy(kept),
    put: putBy(kept),
    gzip: systemGzip,
    route: () => way.describe(new URL(url())),
    hung: () => process.exit(exitCodes.hung),
    runtime: new DockerRuntime(config.dockerHost),
    door: unixDoor,
    host: thisHost(),
    screens: new ScreenThread(log),
    ...(config.install === undefined
      ? {}
      : {
          upgrade: {
            installation: new Installation(config.install),
            download: (path, signal, headers) => download(new URL(path, url()), signal, headers),
            restart,
            trialMs: config.trialSeconds * 1000,
          },
        }),
  };
}

function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigError) return exitCodes.usage;
  if (error instanceof JoinError || error instanceof MachineChanged) return exitCodes.refused;
  return error instanceof StateInUse ? exitCodes.inUse : exitCodes.other;
}

async function main(): Promise<never> {
  try {
    return process.exit(await run(readConfig(process.argv.slice(2), process.env)));
  } catch (error) {
    const status = exitCodeOf(error);
    const text = error instanceof Error ? (status === exitCodes.other ? error.stack : error.message) : String(error);
    process.stderr.write(`causeway agent: ${text}\n`);
    process.exit(status);
  }
}

void main();
