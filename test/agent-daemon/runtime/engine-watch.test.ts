/** The loops that keep in touch with the engine outlive every error: of the engine, and of those whom they tell. */
import { expect, it } from 'vitest';
import { EngineWatch } from '../../../agent-daemon/runtime/engine-watch.ts';
import { type EngineEvent, type EngineInfo, RuntimeError } from '../../../agent-daemon/runtime/runtime.ts';
import { DockerRuntime } from '../../../agent-daemon/runtime/docker.ts';
import { until } from '../../support/wait.ts';
import { ManualTimers, keptLog } from '../ports.ts';

const event: EngineEvent = { kind: 'container', action: 'die', id: 'x', labels: {}, at: '1.5' };

/** An engine of which a test says what it does. */
class ToldEngine extends DockerRuntime {
  isUp = true;
  watches = 0;

  constructor() {
    super('/nowhere.sock');
  }
  override ping(): Promise<void> {
    return this.isUp ? Promise.resolve() : Promise.reject(new RuntimeError('unavailable', 'ping: gone'));
  }
  override info(): Promise<EngineInfo> {
    return this.isUp ? Promise.resolve({ description: 'told' } as EngineInfo) : this.ping().then(() => this.info());
  }
  override watch(_: string | undefined, onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<void> {
    this.watches++;
    onEvent(event);
    return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('ended'))));
  }
}

it('asks and listens on when those whom it tells throw', async () => {
  const engine = new ToldEngine();
  const timers = new ManualTimers();
  const calls = { event: 0, back: 0, gone: 0 };
  const fail = (what: keyof typeof calls) => () => {
    calls[what]++;
    throw new Error(`injected in ${what}`);
  };
  const watch = new EngineWatch({
    runtime: engine,
    timers,
    log: keptLog(),
    onEvent: fail('event'),
    onBack: fail('back'),
    onGone: fail('gone'),
  });
  watch.start();
  const more = async (what: keyof typeof calls) => {
    const before = calls[what];
    await until(() => (timers.fire(), calls[what] > before), { what: `another ${what}` });
  };
  await more('event');
  await more('event');
  await more('back');
  engine.isUp = false;
  await until(() => (timers.fire(), watch.error === 'ping: gone'), { what: 'the silence' });
  engine.isUp = true;
  await more('back');
  expect(engine.watches).toBeGreaterThan(1);
  expect(calls.gone).toBeGreaterThan(0);
  await watch.stop();
});
