import { expect, it } from 'vitest';
import type { SessionHistory } from '../../schema/api/session.ts';
import type { SessionState } from '../../schema/api/session-parts.ts';
import { historyFaults } from '../support/invariant-history.ts';
import {
  type ContainerLife,
  containerFaults,
  counterFaults,
  inventoryFaults,
  networkFaults,
  reservationFaults,
  runFaults,
} from '../support/invariant-rules.ts';

it('[I1] sees two containers of a session that run at once, and an older one after a newer', () => {
  expect(runFaults([life(1, [0, 10]), life(2, [11, 20])])).toEqual([]);
  expect(runFaults([life(1, [0, 10]), life(2, [9, 20])])).toEqual([expect.stringContaining('[I1]')]);
  expect(runFaults([life(1, [0, undefined]), life(2, [9, 20])])).toEqual([expect.stringContaining('ran at once')]);
  expect(runFaults([life(2, [0, 10]), life(1, [11, 20])])).toEqual([expect.stringContaining('newer')]);
});

it('[I6] sees a generation that was started twice', () => {
  expect(runFaults([life(1, [0, 10]), life(1, [11, 20])])).toEqual([expect.stringContaining('[I6]')]);
});

it.each([
  ['begin\n1\n2\n3\n', undefined],
  ['begin\n1\n2\n2', undefined], // the last line is not whole yet
  ['begin\n1\n2\n2\n', '[I5] line 4 is "2" instead of 3'],
  ['begin\n1\n3\n', '[I5] line 3 is "3" instead of 2'],
  ['1\n2\n', '[I5] output begins with "1"'],
  ['begin\n1\nbegin\n1\n', '[I6] the command began 2 times'],
  ['', '[I5] no output'],
])('[I5] judges the counter output %j', (output, fault) => {
  expect(counterFaults(output)).toEqual(fault === undefined ? [] : [fault]);
});

it('[I7] accepts a whole life and a placement anew', () => {
  expect(historyFaults(history('PENDING', 'SCHEDULED', 'CREATING', 'RUNNING', 'TERMINATING', 'TERMINATED'))).toEqual(
    [],
  );
  expect(historyFaults(history('PENDING', 'SCHEDULED', 'TERMINATING', 'PENDING', 'SCHEDULED', 'RUNNING'))).toEqual([]);
});

it('[I7] sees a move along no edge, one after the end, a hole, and a start in the middle', () => {
  expect(historyFaults(history('PENDING', 'RUNNING'))).toEqual(['RUNNING follows PENDING']);
  expect(historyFaults(history('PENDING', 'CANCELLED', 'PENDING'))).toEqual(['PENDING follows the end CANCELLED']);
  expect(historyFaults(history('PENDING', 'SCHEDULED').toSpliced(0, 1))).toEqual(['begins as SCHEDULED']);
  const hole = history('PENDING', 'SCHEDULED', 'RUNNING').toSpliced(1, 1, ...history('PENDING', 'SCHEDULED').slice(1));
  hole[2]!.version = 9;
  expect(historyFaults(hole)).toEqual(['version 9 follows 2']);
  expect(historyFaults([])).toEqual(['no history']);
});

it('[I4] sees where the ledger, an agent and an engine differ', () => {
  const sessions = new Map([
    ['a', { id: 'a', state: 'RUNNING' as const, agentId: 'one', resources: { cpu: 100 } }],
    ['b', { id: 'b', state: 'TERMINATED' as const, agentId: 'one', resources: { cpu: 100 } }],
  ]);
  const a = { sessionId: 'a', name: 'a-1', running: true };
  expect(containerFaults(sessions, [a, { sessionId: undefined, name: 'other', running: false }])).toEqual([]);
  expect(containerFaults(sessions, [])).toEqual(['a is RUNNING with 0 containers']);
  expect(containerFaults(sessions, [a, { ...a, sessionId: 'b', name: 'b-1' }])).toEqual([
    'b is TERMINATED and b-1 runs',
  ]);
  expect(containerFaults(sessions, [a, { ...a, sessionId: 'c' }])).toEqual([
    'a container of the unknown session c runs',
  ]);
  expect(networkFaults(sessions, [a, { sessionId: 'b', name: 'n' }])).toEqual(['the network n of b is left over']);
  expect(reservationFaults(sessions, [{ id: 'one', reserved: { cpu: 100 } }])).toEqual([]);
  expect(reservationFaults(sessions, [{ id: 'one', reserved: { cpu: 200 } }])).toHaveLength(1);
  expect(inventoryFaults('one', sessions, [{ sessionId: 'a', state: 'running' }])).toEqual([]);
  expect(inventoryFaults('one', sessions, [])).toEqual(['a is RUNNING on one, which says nothing of it']);
  expect(inventoryFaults('two', sessions, [{ sessionId: 'a', state: 'running' }])).toEqual([
    'two runs a, which is RUNNING on one',
  ]);
});

function life(generation: number, ...runs: [number, number | undefined][]): ContainerLife {
  return {
    containerId: `c${generation}-${runs[0]?.[0]}`,
    name: `s-main1-g${generation}`,
    sessionId: 's',
    generation,
    runs: runs.map(([startMs, endMs]) => (endMs === undefined ? { startMs } : { startMs, endMs })),
  };
}

function history(...states: SessionState[]): SessionHistory['items'] {
  return states.map((state, at) => ({ version: at + 1, state, generation: 0, atMs: at }));
}
