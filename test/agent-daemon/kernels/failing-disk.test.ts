/** The kernels of a session over a disk that is full or fails for a while: nothing that was taken is lost, and nobody waits for ever. */
import { rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { processIdOf } from '../../../agent-daemon/kernels/spawner.ts';
import { printed } from '../../support/jupyter-messages.ts';
import { until } from '../../support/wait.ts';
import { freshKernelId, freshRunId, KernelBench, withBench } from './bench.ts';

const failure = (code: string) => Promise.reject(Object.assign(new Error(`${code} of the test`), { code }));
/** Waits on a file of its home. */
const waitFor = (name: string) => `while [ ! -e ${name} ]; do sleep 0.02; done`;

/** What is refused: a new file of what kernels run, more in that, output, reading that, the end of a process, what was said to a kernel, a look at what is kept of a process. */
type Refused = 'kernels' | 'records' | 'output' | 'reads' | 'ends' | 'journal' | 'looks';

class FailingDisk extends KernelBench {
  refuses: Refused | undefined;
  /** Of output: of this process alone. */
  process = '';
  refusals = 0;

  override ports() {
    const ports = super.ports();
    const { disk } = ports;
    const refuse = (code: string) => {
      this.refusals++;
      return failure(code);
    };
    const open: typeof disk.open = async (path, ...how) => {
      const isOutput = path.startsWith(`${this.dir.path}/output/`) && path.includes(this.process);
      if (this.refuses === 'kernels' && path === this.kernelsPath) return refuse('ENOSPC');
      if (this.refuses === 'reads' && isOutput && how[0] === 'r') return refuse('EIO');
      const file = await disk.open(path, ...how);
      const write = file.write.bind(file);
      const stat = file.stat.bind(file);
      const datasync = file.datasync.bind(file);
      const refusing = () => {
        if (this.refuses === 'records') return path === this.kernelsPath;
        return this.refuses === 'output' && isOutput && !path.endsWith('/process');
      };
      return Object.assign(file, {
        write: (...what: Parameters<typeof write>) => (refusing() ? refuse('ENOSPC') : write(...what)),
        datasync: () => (this.refuses === 'ends' && path.endsWith('/process') ? refuse('EIO') : datasync()),
        stat: () => (this.refuses === 'journal' && path.startsWith(`${this.kernelsPath}.`) ? refuse('EIO') : stat()),
      });
    };
    const look: typeof disk.stat = (path) =>
      this.refuses === 'looks' && path.endsWith('/process') ? refuse('EIO') : disk.stat(path);
    return { ...ports, disk: { ...disk, open, stat: look } };
  }

  /** From now on until something was refused so often. */
  async refuseFor(what: Refused, act: () => unknown, times = 1): Promise<void> {
    this.refusals = 0;
    this.refuses = what;
    act();
    await until(() => this.refusals >= times, { what: `${what} to be refused` });
    this.refuses = undefined;
  }

  /** Output is refused for so long that it is given up. */
  async loseOutput(act: () => unknown): Promise<void> {
    const given = () => this.log.lines.filter(({ message }) => message.endsWith('is given up')).length;
    const before = given();
    this.refuses = 'output';
    act();
    await until(() => given() > before, { what: 'output to be given up' });
    this.refuses = undefined;
  }

  touch(name: string): void {
    writeFileSync(`${this.dir.path}/home/${name}`, '');
  }
}

const withDisk = (act: (own: FailingDisk) => Promise<void>, own = new FailingDisk()) => withBench(own, act);

/** A kernel that a writer has said something to; its agent has died. */
async function leftWithWriter(own: FailingDisk): Promise<string> {
  const id = freshKernelId();
  await own.act(id, { kind: 'startSpec', spec: 'fake' });
  const first = await own.channels({ kernelId: id, writer: 'w' }).whenOpen();
  await first.whenDone(first.ask(JSON.stringify([{ do: 'count' }])));
  await own.leave();
  return id;
}

describe('a full disk', () => {
  it('at the first run refuses that, and is forgotten when it is full no more', async () => {
    const full = new FailingDisk();
    full.refuses = 'kernels';
    await withDisk(async (own) => {
      await expect(own.run('1').done).rejects.toMatchObject({ code: 'ENOSPC' });
      own.refuses = undefined;
      expect(await own.run('1').outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    }, full);
  });

  it('at a later run keeps it all the same once there is room', () =>
    withDisk(async (own) => {
      await own.run('x = 1').outcome();
      own.refuses = 'records';
      const noted = own.run('x += 1\nprint(x)');
      await until(() => own.log.lines.some((line) => JSON.stringify(line).includes('can not be kept yet')), {
        what: 'a write to be refused',
      });
      own.refuses = undefined;
      expect(await noted.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      await own.restart();
      const again = own.execute({ runId: noted.runId });
      expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(again.text()).toBe('2\n');
    }));
});

describe('output that the disk refuses', () => {
  it('of one step of a batch does not end the next one before it is done', () =>
    withDisk(async (own) => {
      const id = freshKernelId();
      await own.act(id, { kind: 'start', language: 'bash' });
      const build = `echo built; ${waitFor('on')}; while [ -e on ]; do echo more; sleep 0.02; done`;
      const request = { mode: 'batch' as const, clean: '', build, exec: 'sleep 0.5; echo done' };
      const batch = own.execute({ runId: freshRunId(), kernelId: id, request });
      await batch.whenText('built');
      await own.loseOutput(() => own.touch('on'));
      await batch.whenText('more');
      rmSync(`${own.dir.path}/home/on`);
      expect(await batch.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(batch.events.map(({ kind }) => kind)).toContain('gap');
      expect(batch.text()).toMatch(/^built\n(more\n)+done\n$/);
      const next = own.run('echo next', { kernelId: id });
      expect(await next.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(next.text()).toBe('next\n');
    }));

  it('and with it the request for a line: it is asked again what it wants', () =>
    withDisk(async (own) => {
      const code = `${waitFor('on')}; read -p 'name? ' name; echo "hi $name"; read -p 'again? ' name; echo "bye $name"`;
      const run = own.run(code, { language: 'bash' });
      await run.event('begun');
      await own.loseOutput(() => own.touch('on'));
      const { at, prompt } = await run.event('waiting');
      expect(prompt).toBe('name? ');
      run.say({ kind: 'input', at, text: 'Ada' });
      await until(() => run.events.filter(({ kind }) => kind === 'waiting').length === 2, {
        what: 'the next question',
      });
      // Another agent hears of the first one once more, and asks for no line that was given.
      await own.restart();
      const again = own.execute({ runId: run.runId });
      const next = await again.event('waiting');
      expect(next.prompt).toBe('again? ');
      again.say({ kind: 'input', at: next.at, text: 'Bob' });
      expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(again.text()).toBe('hi Ada\nbye Bob\n');
      expect(again.events.map(({ kind }) => kind)).toContain('gap');
    }));

  it('and with it that it is ready: it is asked', () =>
    withDisk(async (own) => {
      for (const what of [
        { kind: 'start', language: 'bash' },
        { kind: 'startSpec', spec: 'fake' },
      ] as const) {
        const id = freshKernelId();
        own.process = processIdOf(id, 1);
        let started: ReturnType<typeof own.act> | undefined;
        await own.loseOutput(() => void (started = own.act(id, what)));
        expect(await started).toMatchObject({ id, state: 'idle' });
      }
    }));
});

describe('a disk that fails', () => {
  it('keeps no line from a run whose question the next agent has not read yet', () =>
    withDisk(async (own) => {
      const run = own.run(`read -p 'name? ' name; echo "hi $name"`, { language: 'bash' });
      const { at } = await run.event('waiting');
      own.refuses = 'reads';
      await own.restart();
      own.refusals = 0;
      const answered = own.execute({ runId: run.runId, input: { kind: 'input', at, text: 'Ada' } });
      await until(() => own.refusals > 0, { what: 'reading to be refused' });
      own.refuses = undefined;
      expect(await answered.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(answered.text()).toContain('hi Ada\n');
    }));

  it('where the log of a kernel is read keeps nobody from hearing the rest', () =>
    withDisk(async (own) => {
      await own.refuseFor(
        'reads',
        () => void own.run('echo 1', { runId: 'lost', language: 'bash' }).done.catch(() => 0),
        3,
      );
      const again = own.execute({ runId: 'lost' });
      expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(again.text()).toBe('1\n');
      const id = freshKernelId();
      own.process = processIdOf(id, 1);
      let started: ReturnType<typeof own.act> | undefined;
      await own.refuseFor('reads', () => void (started = own.act(id, { kind: 'startSpec', spec: 'fake' })), 3);
      expect(await started).toMatchObject({ id, state: 'idle' });
    }));

  it('where the end of a listing of kernelspecs is kept does not keep that for ever', () =>
    withDisk(async (own) => {
      const patience = new AbortController();
      const listing = own.kernels.specs(patience.signal);
      own.refuses = 'ends';
      await until(() => own.refusals > 0, { what: 'an end to be refused' });
      patience.abort();
      await expect(listing).rejects.toMatchObject({ code: 'kernel_spec_unusable' });
      own.refuses = undefined;
      const late = AbortSignal.timeout(10_000);
      await own.supervisor.whenAllEnded(late);
      expect(late.aborted).toBe(false);
    }));

  it('where another agent looks for what is kept of a process leaves that as it is, and finds it later', () =>
    withDisk(async (own) => {
      await own.run('x = 1').outcome();
      const first = own.run('input("go on? ")\nprint("x is", x)');
      await first.event('waiting');
      await own.leave();
      let started: Promise<unknown> | undefined;
      await own.refuseFor('looks', () => void (started = own.start()), 3);
      await started;
      const again = own.execute({ runId: first.runId });
      again.say({ kind: 'input', at: (await again.event('waiting')).at, text: '' });
      expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(again.text()).toBe('x is 1\n');
    }));

  it('where another agent reads what was said to a kernel loses nothing of that', () =>
    withDisk(async (own) => {
      const id = await leftWithWriter(own);
      let started: Promise<unknown> | undefined;
      await own.refuseFor('journal', () => void (started = own.start()), 2);
      await started;
      const after = { starts: 1, offset: 0 };
      const next = await own.channels({ kernelId: id, writer: 'w', after }).whenOpen();
      expect(next.stream.info?.inputOffset).toBeGreaterThan(0);
      await next.whenDone(next.ask(JSON.stringify([{ do: 'count' }])));
      expect(printed(next.messages)).toBe('12');
    }));

  it('until the session is over asks nobody to begin anew with what he said', () =>
    withDisk(async (own) => {
      const id = await leftWithWriter(own);
      own.refuses = 'journal';
      await own.start();
      const next = own.channels({ kernelId: id, writer: 'w', after: { starts: 1, offset: 0 } });
      await until(() => own.refusals > 1, { what: 'it to be read in vain' });
      await own.kernels.remove();
      await expect(next.done).rejects.toMatchObject({ code: 'session_ended' });
      expect(next.stream.info).toBeUndefined();
    }));
});
