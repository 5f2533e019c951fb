/**
 * The terminals of one session as an agent has them, over a real causeway-init.
 */
import { existsSync } from 'node:fs';
import { systemRandom } from '../../../agent-daemon/platform.ts';
import { processStream } from '../../../agent-daemon/processes/streams.ts';
import { mainProcessId, recordOf } from '../../../agent-daemon/sessions/main-process.ts';
import type { Session } from '../../../agent-daemon/sessions/session.ts';
import { ScreenPool } from '../../../agent-daemon/terminals/screen-pool.ts';
import { ScreenThread } from '../../../agent-daemon/terminals/screen-thread.ts';
import { SessionTerminals } from '../../../agent-daemon/terminals/session-terminals.ts';
import { terminalCall, terminalsCall, terminalStream } from '../../../agent-daemon/terminals/streams.ts';
import { XtermScreen } from '../../../agent-daemon/terminals/xterm-screen.ts';
import { type Terminal, TerminalRequest, type TerminalWindow } from '../../../schema/api/terminal-parts.ts';
import { newId } from '../../../schema/ids.ts';
import type { CallInput } from '../../../schema/protocol/calls.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { TerminalEvent } from '../../../schema/protocol/terminal.ts';
import { until } from '../../support/wait.ts';
import { InitBench } from '../init-bench.ts';
import { TestStream } from '../processes/test-stream.ts';
import { sessionId } from '../support.ts';

type Ask = Omit<Extract<StreamOpen, { op: 'terminal' }>, 'op' | 'terminalId'>;
const never = new AbortController().signal;

export class TerminalBench extends InitBench {
  /** Small, so that a test fills it soon; more than what is drawn between two kept screens. */
  readonly spoolBytes = 2 * 1024 * 1024;
  terminals!: SessionTerminals;
  /** Of a main process with a terminal. */
  mainProcessId: string | undefined;
  #viewers: TestViewer[] = [];

  constructor() {
    super('trm');
  }

  protected async begin(): Promise<void> {
    const output = { onFull: 'block', blockMs: 86_400_000 } as const;
    const mainProcess = () => this.mainProcessId;
    this.terminals = new SessionTerminals(
      {
        sessionId,
        generation: 1,
        path: `${this.dir.path}/terminals`,
        wereLeft: existsSync(`${this.dir.path}/terminals`),
        get mainProcessId() {
          return mainProcess();
        },
        supervisor: () => this.supervisor,
        spawnOf: (processId, { argv, env, tty }) => {
          const cwd = `${this.dir.path}/home`;
          const own = { PATH: process.env['PATH'] ?? '', HOME: cwd, TERM: 'xterm-256color', ...env };
          const size = { rows: tty?.rows ?? 24, cols: tty?.columns ?? 80 };
          const spec = { processId, argv, env: own, cwd, tty: size, stdin: 'open' as const, output };
          return Promise.resolve({
            spec,
            record: recordOf(spec, { ...output, spoolBytes: this.spoolBytes }, Date.now()),
          });
        },
      },
      { ...this.ports(), spools: this.spools, pool: new ScreenPool(new ScreenThread(this.log)) },
    );
    await this.terminals.adopt();
  }

  protected async end(): Promise<void> {
    for (const viewer of this.#viewers.splice(0)) viewer.stream.cut();
    await this.terminals.stop();
  }

  act(terminalId: string, act: CallInput<'terminal'>['act']): Promise<Terminal> {
    return terminalCall({ find: () => this.#session })({ sessionId, generation: 1, terminalId, act }, never).then(
      ({ terminal }) => terminal,
    );
  }

  /** A new terminal with this program. */
  async open(script: string, more: Partial<TerminalRequest> = {}): Promise<string> {
    const id = newId('terminal', Date.now(), systemRandom.bytes(10));
    const request = TerminalRequest.parse({ argv: ['/bin/bash', '--norc', '-c', script], ...more });
    await this.act(id, { kind: 'start', request });
    return id;
  }

  /** Starts the main process of the session with a terminal, as `run -it` has it. */
  async startMain(script: string): Promise<void> {
    const processId = mainProcessId(sessionId, 1);
    const cwd = `${this.dir.path}/home`;
    const env = { PATH: process.env['PATH'] ?? '', HOME: cwd, TERM: 'xterm-256color' };
    const policy = { onFull: 'drop', blockMs: 60_000 } as const;
    const spec = {
      processId,
      argv: ['/bin/bash', '--norc', '-c', script],
      env,
      cwd,
      tty: { rows: 24, cols: 80 },
      stdin: 'open' as const,
      output: policy,
    };
    await this.supervisor.spawn(spec, recordOf(spec, { ...policy, spoolBytes: this.spoolBytes }, Date.now()));
    this.mainProcessId = processId;
    await this.terminals.openMain({ isNew: true });
  }

  /** A client of the operation `process` at the main process. */
  follow(more: { input?: boolean; after?: { stdout: number; stderr: number } } = {}): TestStream {
    const stream = new TestStream();
    const session = {
      ...this.#session,
      sessionId,
      generation: 1,
      supervisor: this.supervisor,
      kernels: { owns: () => false },
    } as unknown as Session;
    const of = { find: () => session, spools: this.spools, nowMs: () => Date.now() };
    const open = { op: 'process' as const, processId: 'main', ...more };
    processStream(of)({ sessionId, generation: 1, actorId: 'usr_test', open }, stream).catch(() => undefined);
    return stream;
  }

  async list(): Promise<Terminal[]> {
    return (await terminalsCall({ find: () => this.#session })({ sessionId, generation: 1 }, never)).terminals;
  }

  view(terminalId: string, ask: Ask = {}): TestViewer {
    const viewer = new TestViewer(terminalId, ask, terminalStream({ find: () => this.#session }));
    this.#viewers.push(viewer);
    return viewer;
  }

  get #session(): Pick<Session, 'state' | 'terminals'> {
    return { state: 'running', terminals: this.terminals };
  }
}

let writers = 0;
/** As a client that types. */
export const typing = (window?: TerminalWindow, writer = `writer-${++writers}`): Ask => ({
  input: { writer, from: 0 },
  ...(window === undefined ? {} : { window }),
});

/** A client at a terminal: everything that it was sent, as a terminal of its own draws it. */
export class TestViewer {
  readonly stream = new TestStream<TerminalEvent>((message) => TerminalEvent.parse(message));
  readonly done: Promise<void>;
  error: unknown;
  readonly #window: TerminalWindow;

  constructor(terminalId: string, ask: Ask, serve: ReturnType<typeof terminalStream>) {
    this.#window = ask.window ?? { rows: 24, columns: 80 };
    const open = { op: 'terminal' as const, terminalId, ...ask };
    this.done = serve({ sessionId, generation: 1, actorId: 'usr_test', open }, this.stream);
    this.done.catch((error: unknown) => (this.error = error));
  }

  get events(): TerminalEvent[] {
    return this.stream.events;
  }

  event<Kind extends TerminalEvent['kind']>(kind: Kind): Promise<Extract<TerminalEvent, { kind: Kind }>> {
    return until(() => this.events.find((event) => event.kind === kind) as Extract<TerminalEvent, { kind: Kind }>, {
      what: `${kind} (so far ${JSON.stringify(this.events)})`,
      everyMs: 5,
      giveUp: () => (this.error === undefined ? undefined : String(this.error)),
    });
  }

  /** Offset behind all that was sent. */
  get position(): number {
    const last = this.stream.writes.findLast(({ channel }) => channel === channels.stdout);
    const screen = this.events.findLast((event) => event.kind === 'screen');
    const at = screen?.kind === 'screen' ? screen.at : 0;
    return last === undefined ? at : Math.max(at, last.offset + last.bytes);
  }

  /** What stands on its terminal now, as text that draws it. */
  async drawn(): Promise<string> {
    const screens = this.events.filter((event) => event.kind === 'screen');
    const last = screens.at(-1);
    const before = screens.slice(0, -1).reduce((sum, event) => sum + (event.kind === 'screen' ? event.bytes : 0), 0);
    const at = last?.kind === 'screen' ? last.at : 0;
    const size = last?.kind === 'screen' ? { rows: last.rows, columns: last.columns } : this.#window;
    const text = Buffer.concat(this.stream.received.stderr).subarray(before);
    const screen = new XtermScreen(size, { window: size, text: text.toString() });
    const written = this.stream.writes.filter(({ channel }) => channel === channels.stdout);
    for (const [index, { offset }] of written.entries())
      if (offset >= at) await screen.write(this.stream.received.stdout[index]!);
    await screen.write(Buffer.from('\x1b[m'));
    const { text: drawn } = await screen.draw();
    screen.close();
    return drawn;
  }

  /** The rows of its screen as plain text. */
  async rows(): Promise<string[]> {
    return (await this.drawn()).replaceAll(/\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][0AB]/g, '').split('\r\n');
  }

  async whenText(text: string): Promise<void> {
    // Of a flood only the end is looked at.
    const { stdout, stderr } = this.stream.received;
    const said = () => Buffer.concat([...stderr.slice(-20), ...stdout.slice(-20)]).toString();
    await until(() => said().includes(text), {
      what: `"${text}" in ${JSON.stringify(said().slice(-500))}`,
      everyMs: 5,
      timeoutMs: 90_000,
      giveUp: () => (this.error === undefined ? undefined : String(this.error)),
    });
  }
}
