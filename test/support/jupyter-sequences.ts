/**
 * Sequences of what clients of a Jupyter kernel say, made from a seed: what they say, on which channel, and what they wait
 * for before they go on. Everything in them is the same whoever runs them, ids and dates too, so that answers can be compared.
 */
import type { Rng } from './random.ts';

/** Two clients of one kernel. */
export type Who = 'a' | 'b';

export type Step =
  /** A message. `until`: what comes last of what it brings about; `answers`: what is typed where it asks. */
  | {
      kind: 'say';
      by: Who;
      channel: string;
      type: string;
      content: Record<string, unknown>;
      metadata?: Record<string, unknown>;
      buffers?: readonly string[];
      until: 'reply' | 'idle' | 'nothing';
      answers?: readonly string[];
      /** Who types that, if not who asked. */
      answersBy?: Who;
      /** In place of what a header usually has; null: nothing. */
      header?: Record<string, unknown>;
    }
  /** Cells that wait, of either client, behind one that waits for a line and then fails or not. */
  | { kind: 'queue'; by: Who; first: string; codes: readonly string[]; codesBy: Who; stopOnError: boolean }
  /** Cells that are said without waiting for any. */
  | { kind: 'burst'; by: Who; codes: readonly string[] }
  /** A cell that prints `on` or asks for a line, and is interrupted over HTTP then. */
  | { kind: 'interrupt'; by: Who; code: string }
  | { kind: 'interrupt-idle' }
  /** Over HTTP; then both clients come back, as JupyterLab does. */
  | { kind: 'restart' }
  /** What ends the kernel: its server starts it anew. */
  | { kind: 'die'; by: Who; channel: string; type: string; content: Record<string, unknown> };

export interface Sequence {
  number: number;
  dialect: 'v1' | 'text';
  steps: readonly Step[];
}

/** How often a sequence has what takes seconds. */
export interface Rare {
  restarts: boolean;
  deaths: boolean;
}

const other = (who: Who): Who => (who === 'a' ? 'b' : 'a');
const pick = <Item>(rng: Rng, items: readonly Item[]): Item => items[rng.integer(0, items.length - 1)]!;

function executeContent(code: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  const usual = { silent: false, store_history: true, user_expressions: {}, allow_stdin: false, stop_on_error: true };
  return { code, ...usual, ...more };
}

/** The content of a cell, as clients send it by default. */
export const cell = executeContent;

const words = ['alpha', 'naïve', '日本', '🙂 smile', 'tab\\there', '</script>', '\\x1b[31mred', '"quoted"', 'a\\nb'];

/** Code of all kinds that a cell can be. */
const codes: readonly ((rng: Rng) => string)[] = [
  (rng) => `print("${pick(rng, words)}")`,
  (rng) => `for i in range(${rng.integer(1, 200)}): print(i, "${pick(rng, words)}")`,
  (rng) => `import sys\nprint("${pick(rng, words)}", file=sys.stderr)`,
  (rng) => `import sys\nprint("out")\nprint("err ${rng.integer(0, 9)}", file=sys.stderr)\nprint("out again")`,
  (rng) => `${rng.integer(0, 99)} * ${rng.integer(0, 99)}`,
  (rng) => `x = ${rng.integer(0, 99)}`,
  () => 'x if "x" in globals() else None',
  (rng) => `"${pick(rng, words)}"`,
  () => '',
  () => '   \n\n',
  () => '# nothing',
  () => '_, __, _1 if "_1" in globals() else 0',
  () => 'from IPython.display import display, HTML, Markdown\ndisplay(HTML("<b>bold</b>"))\ndisplay(Markdown("*m*"))',
  (rng) =>
    `from IPython.display import display\nh = display("first", display_id="d${rng.integer(0, 3)}")\nh.update("second")`,
  () => 'from IPython.display import clear_output\nprint("gone")\nclear_output(wait=True)\nprint("stays")',
  () =>
    'from IPython.display import display\ndisplay({"application/json": {"a": [1, None, True, 1e300, float("nan")]}}, raw=True)',
  () => 'from IPython.display import display\nprint("before", end="")\ndisplay(1)\nprint("behind", end="")',
  () =>
    'class Picture:\n    def _repr_png_(self): return b"\\x89PNG" + bytes(range(256))\n    def _repr_html_(self): return "<i>p</i>"\nPicture()',
  () => '1 / 0',
  () => 'print("before")\nraise ValueError("naïve 日本")',
  () => 'def f(n): return f(n - 1) if n else 1 / 0\nf(3)',
  () => 'this is no code',
  () => 'nothing_of_this_name',
  () => 'raise KeyboardInterrupt',
  () => 'raise SystemExit',
  () => 'import sys\nsys.exit("words")',
  () => 'try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise RuntimeError("again") from e',
  () => 'len?',
  () => 'get_ipython().set_next_input("next()")',
  () => '%lsmagic?',
  () => '%who_ls int',
  () => '%%capture caught\nprint("unseen")',
  () => 'import threading\nt = threading.Thread(target=lambda: print("thread"))\nt.start()\nt.join()',
  () => 'import asyncio\nawait asyncio.sleep(0.01)\nprint("awaited")',
  () => 'import warnings\nwarnings.simplefilter("always")\nwarnings.warn("look")',
  () => 'import sys\nfor i in range(3):\n    sys.stdout.write(f"{i}\\r"); sys.stdout.flush()',
  (rng) => `print("y" * ${rng.integer(10_000, 300_000)})`,
  () => 'print("z" * 3_000_000)',
  () => 'print("\\x00\\x07\\x1b[1mbold\\x1b[0m")',
  () => 'import os\nos.write(2, b"")\n{"é": {1, 2}, "n": None}',
  () => 'get_ipython().payload_manager.write_payload({"source": "own", "n": 1})',
  () =>
    'from IPython.core.display_functions import publish_display_data\npublish_display_data({"text/plain": "p"}, metadata={"m": 1}, transient={"t": 2})',
  () => 'get_ipython().kernel.send_response(get_ipython().kernel.iopub_socket, "of_no_type", {"n": 1})\nNone',
];

/** Codes that ask for a line. */
const asking: readonly { code: string; answers: readonly string[] }[] = [
  { code: 'print("hi " + input("name? "))', answers: ['Ada'] },
  { code: 'a = input()\nb = input("naïve? ")\nprint(a, b)', answers: ['', '日本 "x"'] },
  { code: 'import getpass\nlen(getpass.getpass("secret: "))', answers: ['hush'] },
  { code: 'print("shown")\nint(input("number? "))', answers: ['no number'] },
];

const commCode =
  'def opened(comm, msg):\n    comm.send({"got": msg["content"]["data"]}, buffers=[bytes(b) for b in msg["buffers"]])\n' +
  '    @comm.on_msg\n    def _(msg):\n        print("said", msg["content"]["data"], [bytes(b) for b in msg["buffers"]])\n' +
  '        comm.send({"again": 1}, metadata={"m": 2}, buffers=[b"\\x00\\xff"])\n' +
  'get_ipython().kernel.comm_manager.register_target("echo", opened)';

function say(
  by: Who,
  type: string,
  content: Record<string, unknown>,
  more: Partial<Extract<Step, { kind: 'say' }>> = {},
): Step {
  return { kind: 'say', by, channel: 'shell', type, content, until: 'reply', ...more };
}

const makers: readonly [weight: number, make: (rng: Rng, by: Who, number: number) => readonly Step[]][] = [
  [24, (rng, by) => [say(by, 'execute_request', executeContent(pick(rng, codes)(rng)))]],
  [
    6,
    (rng, by) => [
      say(
        by,
        'execute_request',
        executeContent(pick(rng, codes)(rng), {
          silent: rng.next() < 0.5,
          store_history: rng.next() < 0.5,
          stop_on_error: rng.next() < 0.5,
          allow_stdin: rng.next() < 0.5,
        }),
        { metadata: { cellId: 'c-1', deep: { x: [1, null] } } },
      ),
    ],
  ],
  [
    4,
    (rng, by) => [
      say(
        by,
        'execute_request',
        executeContent(pick(rng, codes)(rng), {
          user_expressions: { sum: '1 + 1', bad: '1 / 0', word: `"${pick(rng, words)}"` },
        }),
      ),
    ],
  ],
  [
    5,
    (rng, by) => {
      const { code, answers } = pick(rng, asking);
      const answersBy = rng.next() < 0.8 ? by : other(by);
      return [say(by, 'execute_request', executeContent(code, { allow_stdin: true }), { answers, answersBy })];
    },
  ],
  [2, (rng, by) => [say(by, 'execute_request', executeContent(pick(rng, asking).code))]],
  [
    4,
    (rng, by) => [
      {
        kind: 'queue',
        by,
        first: rng.next() < 0.7 ? 'input("go? ")\nraise ValueError("stop")' : 'input("go? ")',
        codes: Array.from({ length: rng.integer(1, 4) }, () => pick(rng, codes.slice(0, 8))(rng)),
        codesBy: rng.next() < 0.6 ? by : other(by),
        stopOnError: rng.next() < 0.7,
      },
    ],
  ],
  [
    2,
    (rng, by) => [
      { kind: 'burst', by, codes: Array.from({ length: rng.integer(5, 30) }, () => pick(rng, codes.slice(0, 8))(rng)) },
    ],
  ],
  [
    2,
    (rng, by) => {
      const header = pick(rng, [
        { date: 1_700_000_000.5 },
        { date: null },
        { username: null },
        { version: '5.0' },
        { own: { n: [1] } },
      ]);
      return [say(by, 'execute_request', executeContent(pick(rng, codes)(rng)), { header })];
    },
  ],
  [
    3,
    (rng, by) => {
      // None whose answer has names of files or modules that only one of two machines has.
      const code = pick(rng, ['pri', 'x.', 'import colors', '%ti', '"".spl', '"naïve 🙂".isalph']);
      return [say(by, 'complete_request', { code, cursor_pos: Array.from(code).length })];
    },
  ],
  [
    3,
    (rng, by) => {
      const code = pick(rng, ['print', 'len(', 'nothing_of_this_name', 'x', 'import os\nos.path.join']);
      return [say(by, 'inspect_request', { code, cursor_pos: code.length, detail_level: rng.integer(0, 1) })];
    },
  ],
  [
    3,
    (rng, by) => {
      const code = pick(rng, ['1 + 1', 'for i in x:', 'x = (', 'this is no code', '', '  f(\n', '%%time\n']);
      return [say(by, 'is_complete_request', { code })];
    },
  ],
  [
    2,
    (rng, by) => [
      say(by, 'history_request', {
        hist_access_type: 'range',
        output: rng.next() < 0.5,
        raw: rng.next() < 0.5,
        session: 0,
        start: 0,
        stop: rng.integer(1, 20),
      }),
    ],
  ],
  [1, (_, by) => [say(by, 'history_request', { hist_access_type: 'of_no_type', output: false, raw: true })]],
  [2, (_, by) => [say(by, 'kernel_info_request', {})]],
  [2, (_, by) => [say(by, 'kernel_info_request', {}, { channel: 'control' })]],
  [1, (_, by) => [say(by, 'interrupt_request', {}, { channel: 'control' })]],
  [2, (_, by) => [say(by, 'debug_request', { seq: 1, type: 'request', command: 'debugInfo' }, { channel: 'control' })]],
  [1, (_, by) => [say(by, 'connect_request', {})]],
  [
    1,
    (rng, by) => [
      say(by, 'execute_request', executeContent(pick(rng, codes.slice(0, 8))(rng)), { channel: 'control' }),
    ],
  ],
  [
    4,
    (rng, by, number) => {
      const comm = { comm_id: `comm-${number}-${rng.integer(0, 9999)}` };
      const buffers =
        rng.next() < 0.6 ? ['', '\0\xff bytes', 'x'.repeat(rng.integer(1, rng.next() < 0.8 ? 70_000 : 2_000_000))] : [];
      const idle = { until: 'idle' as const };
      return [
        say(by, 'execute_request', executeContent(commCode, { store_history: false })),
        say(by, 'comm_open', { ...comm, target_name: 'echo', data: { n: 1 } }, { ...idle, buffers }),
        say(by, 'comm_msg', { ...comm, data: { word: pick(rng, words) } }, { ...idle, buffers }),
        say(by, 'comm_info_request', rng.next() < 0.5 ? {} : { target_name: 'echo' }),
        ...(rng.next() < 0.7 ? [say(by, 'comm_close', { ...comm, data: {} }, idle)] : []),
      ];
    },
  ],
  [
    1,
    (_, by) => [
      say(by, 'comm_open', { comm_id: 'c-none', target_name: 'of_no_name', data: {} }, { until: 'idle' }),
      say(by, 'comm_msg', { comm_id: 'c-none', data: {} }, { until: 'idle' }),
    ],
  ],
  [
    1,
    (_, by) => [
      say(
        by,
        'execute_request',
        executeContent(
          'from comm import create_comm\nc = create_comm(target_name="t", comm_id="own", data={"d": 1}, buffers=[b"b"])\nc.close()',
        ),
      ),
    ],
  ],
  [2, (_, by) => [say(by, 'of_no_type_request', { n: 1 }, { until: 'idle' })]],
  [1, (_, by) => [say(by, 'execute_request', { silent: false }, { until: 'idle' })]],
  [1, (_, by) => [say(by, 'complete_request', {}, { until: 'idle' })]],
  [1, (_, by) => [say(by, 'execute_request', executeContent('1'), { channel: 'of_no_name', until: 'nothing' })]],
  [1, (_, by) => [say(by, 'input_reply', { value: 'nobody asked' }, { channel: 'stdin', until: 'nothing' })]],
  [
    2,
    (rng, by) => [
      {
        kind: 'interrupt',
        by,
        code: pick(rng, [
          'import time\nprint("on", flush=True)\ntime.sleep(1000)',
          'input("waits? ")',
          'import time\ntry:\n    print("on", flush=True)\n    time.sleep(1000)\nexcept KeyboardInterrupt:\n    print("caught")',
        ]),
      },
    ],
  ],
  [1, () => [{ kind: 'interrupt-idle' }]],
];

const total = makers.reduce((sum, [weight]) => sum + weight, 0);

/** One of the sequences of a seed. */
export function makeSequence(rng: Rng, number: number, rare: Rare): Sequence {
  const steps: Step[] = [];
  const length = rng.integer(3, 7);
  while (steps.length < length) {
    let at = rng.integer(1, total);
    const [, make] = makers.find(([weight]) => (at -= weight) <= 0)!;
    steps.push(...make(rng, rng.next() < 0.7 ? 'a' : 'b', number));
  }
  const by = rng.next() < 0.5 ? 'a' : 'b';
  const middle = rng.integer(1, steps.length - 1);
  if (rare.restarts) steps.splice(middle, 0, { kind: 'restart' });
  if (rare.deaths) steps.splice(middle, 0, pick(rng, deaths(by)));
  return { number, dialect: rng.next() < 0.5 ? 'v1' : 'text', steps };
}

function deaths(by: Who): readonly Step[] {
  const death = { kind: 'die', by } as const;
  const code = (text: string) => ({
    ...death,
    channel: 'shell',
    type: 'execute_request',
    content: executeContent(text),
  });
  return [
    code('import os\nprint("last words", flush=True)\nos._exit(3)'),
    code('import os, signal\nos.kill(os.getpid(), signal.SIGKILL)'),
    { ...death, channel: 'control', type: 'shutdown_request', content: { restart: false } },
    code('exit'),
  ];
}
