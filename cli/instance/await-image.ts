/** Right after the first `up` the image that everybody starts with is still being made: a command that wants it waits and says so. */
import { setTimeout as sleep } from 'node:timers/promises';

import { WaitingLine } from '../terminal/waiting.ts';
import { IMAGE } from './python-image/recipe.ts';
import { readSettings } from './settings.ts';
import { findLiveState, type ImageState } from './state.ts';

/** Waits while the instance of this machine, if it is the one at `url`, makes `image`. Returns when it is there or can not be had. */
export async function awaitImage(url: string, image: string, quiet: boolean): Promise<void> {
  if (image !== IMAGE && image !== `${IMAGE}:latest`) return;
  const waiting = new WaitingLine(quiet);
  for (;;) {
    const now = findImageState(url);
    if (now?.state !== 'checking' && now?.state !== 'building') break;
    const percent = process.stderr.isTTY ? `, ${now.percent} %` : ''; // elsewhere each change is a line
    waiting.say(`${IMAGE} is being made on this machine: ${now.what}${percent}`);
    await sleep(500);
  }
  waiting.done();
}

/** Undefined when there is no such instance: then there is nothing to wait for. */
function findImageState(url: string): ImageState | undefined {
  try {
    const state = findLiveState(readSettings().home);
    return state?.url === url ? state.image : undefined;
  } catch {
    return undefined;
  }
}
