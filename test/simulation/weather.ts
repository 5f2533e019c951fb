/**
 * How likely each fault is right now. A seed chooses a swarm: some kinds not at all, some a lot, so that rare combinations
 * come up. When the weather clears all are zero, and everything must converge.
 */
import type { Chance } from './chance.ts';

export interface Weather {
  /** Of each call between objects. */
  loseRequest: number;
  loseAnswer: number;
  slowCall: number;
  /** Of each durable step at the edge: death before it, after it, or after it with the answer lost. */
  edgeStep: number;
  d1Fails: number;
  d1Unknown: number;
  redisFails: number;
  /** Of each message between agent and edge. */
  duplicate: number;
  reorder: number;
  /** Of each durable step at an agent. */
  agentStep: number;
  /** Of each write and each sync of a host's disk: it takes long. */
  slowDisk: number;
  /** Of each transaction of an object: a write fails, and nothing of it happened. */
  commitFails: number;
  /** Of each call of a host's engine: it acts at once and answers late. */
  slowEngine: number;
  /** Of each call of a host's disk, where that is bad: it fails, and nothing of it happened. */
  diskFails: number;
}

export const clear: Weather = {
  loseRequest: 0,
  loseAnswer: 0,
  slowCall: 0,
  edgeStep: 0,
  d1Fails: 0,
  d1Unknown: 0,
  redisFails: 0,
  duplicate: 0,
  reorder: 0,
  agentStep: 0,
  slowDisk: 0,
  commitFails: 0,
  slowEngine: 0,
  diskFails: 0,
};

const worst: Weather = {
  loseRequest: 0.05,
  loseAnswer: 0.05,
  slowCall: 0.1,
  edgeStep: 0.02,
  d1Fails: 0.2,
  d1Unknown: 0.2,
  redisFails: 0.3,
  duplicate: 0.01,
  reorder: 0.01,
  agentStep: 0.01,
  slowDisk: 0.5,
  commitFails: 0.05,
  slowEngine: 0.3,
  diskFails: 0.3,
};

/** A swarm: each kind is absent with a chance of one half, else anything up to its worst. */
export function drawWeather(chance: Chance): Weather {
  const weather = { ...clear };
  for (const kind of Object.keys(worst) as (keyof Weather)[])
    weather[kind] = chance.isTrue(0.5) ? worst[kind] * chance.next() ** 2 : 0;
  return weather;
}
