import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import { PlacementFile, PlacementStore } from '../../../agent-daemon/sessions/placement.ts';
import { PlacementRecord } from '../../../agent-daemon/sessions/placement-record.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import { tmpDir, type TmpDir } from '../../support/tmp.ts';
import { keptLog } from '../ports.ts';
import { kernelSpec } from '../support.ts';
import { freshSessionId } from './bench.ts';

let dir: TmpDir;
beforeEach(() => {
  dir = tmpDir();
});
afterEach(() => dir.remove());

/** A placement whose journal takes an event when `journalled` is called with an error or without. */
async function startRecord() {
  const events: AgentEvent[] = [];
  const writes: ((error?: Error) => void)[] = [];
  const store = new PlacementStore(dir.path, systemDisk);
  await store.load(() => undefined);
  const recordEvent = (event: AgentEvent) => {
    events.push(event);
    return new Promise<void>((resolve, reject) => writes.push((error) => (error ? reject(error) : resolve())));
  };
  const services = { recordEvent, progress: () => undefined } as unknown as ConstructorParameters<
    typeof PlacementRecord
  >[0]['services'];
  const placement = { sessionId: freshSessionId(), generation: 1, spec: kernelSpec(), recorded: [] };
  const record = new PlacementRecord({ store, services, clock: systemClock, log: keptLog() }, placement);
  const onDisk = () => {
    const [name] = readdirSync(dir.path).filter((each) => each.endsWith('.json'));
    return PlacementFile.parse(JSON.parse(readFileSync(join(dir.path, name!), 'utf8')));
  };
  return { record, events, journalled: (error?: Error) => writes.shift()!(error), onDisk };
}

it('does not say that an event is in the journal before it is, whatever else is saved meanwhile', async () => {
  const { record, events, journalled, onDisk } = await startRecord();
  const recorded = record.record({ kind: 'ended', reason: 'exited', exitCode: 0 });
  await record.save({ containerId: 'c1' });
  // Power that is lost here must find an end that is still to be told.
  expect(onDisk()).toMatchObject({ containerId: 'c1', recorded: [] });
  const again = record.record({ kind: 'ended', reason: 'exited', exitCode: 0 });
  journalled();
  await Promise.all([recorded, again]);
  await record.settled();
  expect(onDisk()).toMatchObject({ containerId: 'c1', recorded: ['ended'] });
  await record.record({ kind: 'ended', reason: 'exited', exitCode: 0 });
  expect(events).toHaveLength(1);
});

it('records an event again that the journal refused', async () => {
  const { record, events, journalled, onDisk } = await startRecord();
  const refused = record.record({ kind: 'removed' });
  journalled(new Error('ENOSPC'));
  await expect(refused).rejects.toThrow('ENOSPC');
  const recorded = record.record({ kind: 'removed' });
  journalled();
  await recorded;
  await record.settled();
  expect(events).toHaveLength(2);
  expect(onDisk().recorded).toEqual(['removed']);
});

it('takes no file that could not be read for one that says nothing', async () => {
  const damaged: string[] = [];
  const failing = {
    ...systemDisk,
    readFile: () => Promise.reject(Object.assign(new Error('i/o error'), { code: 'EIO' })),
  };
  writeFileSync(join(dir.path, `${freshSessionId()}.g1.json`), '{}');
  await expect(new PlacementStore(dir.path, failing).load((path) => damaged.push(path))).rejects.toThrow('i/o error');
  expect(damaged).toEqual([]);
  expect(await new PlacementStore(dir.path, systemDisk).load((path) => damaged.push(path))).toEqual([]);
  expect(damaged).toHaveLength(1);
});
