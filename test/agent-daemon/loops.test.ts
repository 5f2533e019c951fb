/** Loops that can not die silently, and retention that no change of the wall clock touches. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type LoopState, Loops } from '../../agent-daemon/loops.ts';
import { Spools } from '../../agent-daemon/output/spools.ts';
import { Homes } from '../../agent-daemon/sessions/homes.ts';
import { tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';
import { ManualTimers, keptLog, noFailpoints } from './ports.ts';
import { systemDisk } from '../../agent-daemon/platform.ts';

const dir = tmpDir('loop');
afterAll(() => dir.remove());

const hourMs = 3_600_000;

/** Boot and wall clock apart, timers by hand. */
class World {
  readonly disk = systemDisk;
  boot = 1_000;
  wall = 1_800_000_000_000;
  readonly clock = { nowMs: () => this.wall, bootMs: () => this.boot };
  readonly timers = new ManualTimers();
  readonly log = keptLog();
  readonly loops = new Loops(this);

  /** Lets `ms` pass by both clocks, and runs whatever waits. */
  async pass(ms: number): Promise<void> {
    this.boot += ms;
    this.wall += ms;
    this.timers.fire();
    await new Promise((resolve) => void setTimeout(resolve, 20));
  }
}

describe('loops', () => {
  it.each<[string, () => void | Promise<void>]>([
    [
      'throws',
      () => {
        throw new Error('injected');
      },
    ],
    ['rejects', () => Promise.reject(new Error('injected'))],
  ])('go on after a run that %s, tell it, and tell when it is over', async (_, fail) => {
    const world = new World();
    let runs = 0;
    let broken = true;
    world.loops.every('a loop', 1000, () => {
      runs++;
      return broken ? fail() : undefined;
    });
    await world.pass(0);
    await world.pass(1000);
    expect(runs).toBeGreaterThanOrEqual(2);
    const told: LoopState[] = world.loops.troubled();
    expect(told).toEqual([{ name: 'a loop', failures: runs, error: 'Error: injected' }]);
    expect(world.log.lines).toContainEqual(
      expect.objectContaining({ level: 'error', message: 'a loop failed and goes on' }),
    );
    broken = false;
    await world.pass(1000);
    expect(world.loops.troubled()).toEqual([{ name: 'a loop', failures: told[0]!.failures }]);
  });

  it('tell of a run that does not end, and never start a second one beside it', async () => {
    const world = new World();
    const hanging = Promise.withResolvers<void>();
    let runs = 0;
    const loop = world.loops.every('a loop', 1000, () => {
      runs++;
      return runs === 1 ? hanging.promise : undefined;
    });
    loop.soon();
    await world.pass(hourMs);
    expect([runs, world.loops.troubled()]).toEqual([1, [{ name: 'a loop', failures: 0, stuck: true }]]);
    hanging.resolve();
    await until(() => runs === 2, { what: 'the run that was asked for meanwhile' });
    expect(world.loops.troubled()).toEqual([]);
  });

  it('stop when they are told to', async () => {
    const world = new World();
    let runs = 0;
    const loop = world.loops.every('a loop', 1000, () => void runs++);
    await loop.stop();
    loop.soon();
    await world.pass(5000);
    expect(runs).toBe(1);
  });
});

describe('what has ended', () => {
  async function homesOf(world: World, root: string): Promise<Homes> {
    const homes = new Homes(root, world);
    await homes.start();
    return homes;
  }

  it('leaves its home for 24 hours, over a restart and over any change of the wall clock', async () => {
    const world = new World();
    const root = join(dir.path, 'homes');
    let homes = await homesOf(world, root);
    await homes.ensure('ses_a');
    await homes.ensure('ses_live');
    writeFileSync(join(root, 'ses_a', 'file'), 'kept');
    await homes.sessionEnded('ses_a');
    // A year ahead, and back beyond the beginning: neither is time that passed.
    for (const jumpMs of [365 * 24 * hourMs, -730 * 24 * hourMs]) {
      world.wall += jumpMs;
      await world.pass(600_000);
      expect(existsSync(join(root, 'ses_a', 'file'))).toBe(true);
    }
    await world.pass(20 * hourMs);
    await homes.stop();
    homes = await homesOf(world, root);
    await world.pass(1000);
    expect(existsSync(join(root, 'ses_a', 'file'))).toBe(true);
    await world.pass(4 * hourMs);
    await until(() => !existsSync(join(root, 'ses_a')), { what: 'the end of the home' });
    expect(existsSync(join(root, 'ses_live'))).toBe(true);
    await homes.stop();
  });

  it('is kept from the beginning again when another generation comes', async () => {
    const world = new World();
    const root = join(dir.path, 'again');
    const homes = await homesOf(world, root);
    await homes.ensure('ses_a');
    await homes.sessionEnded('ses_a');
    await world.pass(23 * hourMs);
    await homes.ensure('ses_a');
    await world.pass(100 * hourMs);
    expect(existsSync(join(root, 'ses_a'))).toBe(true);
    await homes.stop();
  });

  it('leaves its output for 7 days, whatever the wall clock says', async () => {
    const world = new World();
    const root = join(dir.path, 'output');
    const generation = join(root, 'ses_a', 'g1');
    mkdirSync(join(generation, 'prc_a'), { recursive: true });
    writeFileSync(join(generation, 'prc_a', 'stdout-0000000000000000'), 'x');
    const { clock, timers, loops, log } = world;
    const spools = new Spools({
      root,
      totalBytes: 1e9,
      disk: systemDisk,
      clock,
      timers,
      loops,
      log,
      failpoints: noFailpoints,
    });
    await spools.start();
    await spools.generationEnded('ses_a', 1);
    world.wall += 30 * 24 * hourMs;
    await world.pass(hourMs);
    expect(existsSync(generation)).toBe(true);
    await world.pass(8 * 24 * hourMs);
    await until(() => !existsSync(generation), { what: 'the end of the output' });
    await spools.stop();
  });
});
