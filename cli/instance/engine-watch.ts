/**
 * On a machine without a service manager nobody starts dockerd again when it ends. Where an instance started it, the instance
 * does: containers went on meanwhile (live-restore). A dockerd that hangs is left alone, it may be somebody's.
 */
import { existsSync, readFileSync } from 'node:fs';

import { type Engine, STANDARD_SOCKET, startDockerd } from './engine-start.ts';
import { findEngineVersion } from './engine.ts';

const EVERY_MS = 5_000;

export type WatchedEngine = { engine: Engine; logFile: string; marker: string; onRestart: () => void };

/** Starts watching; the returned function ends it. */
export function watchEngine({ engine, logFile, marker, onRestart }: WatchedEngine): () => void {
  if (engine.socket !== STANDARD_SOCKET || !existsSync(marker)) return () => {};
  const look = async () => {
    if ((await findEngineVersion(engine.socket)) !== undefined || dockerdLives()) return;
    startDockerd(logFile, marker);
    onRestart();
  };
  const timer = setInterval(() => void look(), EVERY_MS);
  return () => clearInterval(timer);
}

function dockerdLives(): boolean {
  try {
    const pid = readFileSync('/var/run/docker.pid', 'utf8').trim();
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'dockerd';
  } catch {
    return false;
  }
}
