/** Adds up what Docker says while it pulls, layer by layer, into one line for the person who waits. Pure. */
import type { PullProgress } from '../runtime/runtime.ts';

/** One line of Docker's pull stream, as far as it is read here. */
export interface PullLine {
  id?: string;
  status?: string;
  progressDetail?: { current?: number; total?: number };
  error?: string;
}

interface Layer {
  doneBytes: number;
  totalBytes: number;
  /** What happens to it now, in words; empty while it waits or is there. */
  now: 'loading' | 'extracting' | 'retrying' | '';
  complete: boolean;
}

/** Layers that are told of one by one: Docker loads three at a time. */
const shownLayers = 4;

export class PullTally {
  readonly #layers = new Map<string, Layer>();

  /** Takes a line; true when it changed what `progress()` says. */
  add(line: PullLine): boolean {
    const { id, status } = line;
    if (id === undefined || status === undefined || !isLayer(status)) return false;
    const layer = this.#layers.get(id) ?? { doneBytes: 0, totalBytes: 0, now: '', complete: false };
    this.#layers.set(id, layer);
    if (status === 'Downloading') {
      layer.doneBytes = line.progressDetail?.current ?? layer.doneBytes;
      layer.totalBytes = line.progressDetail?.total ?? layer.totalBytes;
    }
    if (status === 'Download complete' || status === 'Extracting') layer.doneBytes = layer.totalBytes;
    layer.now = activityOf(status);
    layer.complete ||= status === 'Pull complete' || status === 'Already exists';
    return true;
  }

  /** Such as `1 of 4 layers (3fa9c1d20b11 45 %, 8bd0e2aa9f3c extracting)`. */
  progress(): PullProgress {
    const layers = [...this.#layers.entries()];
    const complete = layers.filter(([, layer]) => layer.complete).length;
    const busy = layers.filter(([, layer]) => !layer.complete && layer.now !== '').slice(0, shownLayers);
    const shown = busy.map(([id, layer]) => `${id} ${layer.now === 'loading' ? percentOf(layer) : layer.now}`);
    return {
      detail: `${complete} of ${layers.length} layers${shown.length === 0 ? '' : ` (${shown.join(', ')})`}`,
      doneBytes: layers.reduce((sum, [, layer]) => sum + layer.doneBytes, 0),
      totalBytes: layers.reduce((sum, [, layer]) => sum + layer.totalBytes, 0),
    };
  }
}

const layerStatus = new Set([
  'Pulling fs layer',
  'Waiting',
  'Downloading',
  'Verifying Checksum',
  'Download complete',
  'Extracting',
  'Pull complete',
  'Already exists',
]);
const retrying = /^Retrying in \d+ seconds?$/;

function isLayer(status: string): boolean {
  return layerStatus.has(status) || retrying.test(status);
}

function activityOf(status: string): Layer['now'] {
  if (status === 'Downloading') return 'loading';
  if (status === 'Extracting') return 'extracting';
  return retrying.test(status) ? 'retrying' : '';
}

function percentOf({ doneBytes, totalBytes }: Layer): string {
  return totalBytes === 0 ? 'loading' : `${Math.floor((100 * doneBytes) / totalBytes)} %`;
}
