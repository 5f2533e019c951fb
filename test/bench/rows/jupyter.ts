/**
 * Kernels of Jupyter: through edge and tunnel, beside ZeroMQ to a kernel on the same machine and beside a Jupyter server.
 * Rows of one job read different figures out of the same rounds.
 */
import type { BenchContext } from '../context.ts';
import type { RunFigures } from '../peers/kernel-client.ts';
import { type Goal, type Round, type Row, type Unit, quantile } from '../row.ts';
import { sharedRounds } from '../shared-rounds.ts';
import type { KernelLab } from '../subjects/kernel-lab.ts';

/** Five rounds are a thousand. */
const samples = 200;
const pieces = 64;
const pieceBytes = 1024 * 1024;
const lineCount = 100_000;
const displayBytes = 25 * 1024 * 1024;

const ways = ['ours', 'server', 'zmq'] as const;
type Way = (typeof ways)[number];
/** What one round of a job gave, by the way to the kernel. */
type Figures<T> = Record<Way, T>;

async function onEach<T>(context: BenchContext, job: (client: KernelLab[Way]) => Promise<T>): Promise<Figures<T>> {
  const lab = await context.kernels();
  const figures: Partial<Figures<T>> = {};
  for (const way of ways) figures[way] = await job(lab[way]);
  return figures as Figures<T>;
}

const executeTimes = sharedRounds((context) => onEach(context, (client) => client.times('1', samples)));

const stdoutCode = `import sys\nfor _ in range(${pieces}):\n    sys.stdout.write("x" * ${pieceBytes})\n    sys.stdout.flush()`;
const stdoutRuns = sharedRounds((context) => onEach(context, (client) => client.run(stdoutCode)));

const linesCode = `for i in range(${lineCount}):\n    print("line", i)`;
const linesRuns = sharedRounds((context) => onEach(context, (client) => client.run(linesCode)));

const displayCode = `from IPython import get_ipython
k = get_ipython().kernel
k.session.send(k.iopub_socket, "display_data", {"data": {"text/plain": ""}, "metadata": {}, "transient": {}},
    parent=k.get_parent(), ident=k._topic("display_data"), buffers=[bytes(${displayBytes})])`;
const displayRuns = sharedRounds((context) => onEach(context, (client) => client.run(displayCode, displayBytes)));

const peers = {
  server: {
    subject: "Debian's jupyter-server, a kernel in a container of the same engine (dialect v1, no rate limit)",
    way: 'server',
  },
  zmq: { subject: 'ZeroMQ to a kernel in a container of the same engine', way: 'zmq' },
} as const;

/** A row that compares ours with one of the peers; beside the server the least that a kernel costs is shown. */
function row<T>(
  { name, title, unit, goal }: { name: string; title: string; unit: Unit; goal: Goal },
  {
    rounds,
    peer,
    figure,
    fault,
  }: {
    rounds: (context: BenchContext, round: number) => Promise<Figures<T>>;
    peer: 'server' | 'zmq';
    figure: (of: T) => number;
    fault?: (of: T) => string | undefined;
  },
): Row {
  return {
    name,
    title,
    unit,
    goal,
    peer: peers[peer].subject,
    ...(peer === 'server' ? { floor: peers.zmq.subject } : {}),
    setup: (context) => {
      let n = 0;
      return Promise.resolve({
        round: async (): Promise<Round> => {
          const figures = await rounds(context, n++);
          const wrong = fault?.(figures.ours);
          return {
            subject: figure(figures.ours),
            peer: figure(figures[peer]),
            ...(peer === 'server' ? { floor: figure(figures.zmq) } : {}),
            ...(wrong === undefined ? {} : { fault: wrong }),
          };
        },
      });
    },
  };
}

const execute = 'execute `1` to reply and idle, through edge and tunnel';
const stdout = `${pieces} x 1 MiB of stdout of a cell, nothing lost`;
const lines = `${lineCount} printed lines of a cell, nothing lost`;
const p = (q: number) => (times: number[]) => quantile(times, q);
const stdoutRate = ({ ms, characters }: RunFigures) => characters / 1e3 / ms;
const lineRate = ({ ms, lines: count }: RunFigures) => count / (ms / 1000);
const displayRate = ({ ms, bytes }: RunFigures) => (bytes + displayBytes) / 1e3 / ms;

function lost(what: string, wanted: number, got: number): string | undefined {
  return got === wanted ? undefined : `${got} of ${wanted} ${what} came`;
}
const stdoutFault = ({ characters }: RunFigures) => lost('bytes', pieces * pieceBytes, characters);
const linesFault = (of: RunFigures) => lost('lines', lineCount, of.lines);
const displayFault = ({ bytes }: RunFigures) => lost('bytes', displayBytes, bytes);

export const rows: Row[] = [
  row(
    { name: 'jupyter-execute', title: `${execute}, p50`, unit: 'ms', goal: { kind: 'ratio', atMost: 0.13 } },
    { rounds: executeTimes, peer: 'server', figure: p(0.5) },
  ),
  row(
    { name: 'jupyter-execute-zmq', title: `${execute}, p50`, unit: 'ms', goal: { kind: 'ratio', atMost: 1.25 } },
    { rounds: executeTimes, peer: 'zmq', figure: p(0.5) },
  ),
  row(
    { name: 'jupyter-execute-p99', title: `${execute}, p99`, unit: 'ms', goal: { kind: 'ratio', atMost: 2 } },
    { rounds: executeTimes, peer: 'zmq', figure: p(0.99) },
  ),
  row(
    { name: 'jupyter-stdout', title: stdout, unit: 'MB/s', goal: { kind: 'ratio', atLeast: 1 } },
    { rounds: stdoutRuns, peer: 'server', figure: stdoutRate, fault: stdoutFault },
  ),
  row(
    { name: 'jupyter-stdout-zmq', title: stdout, unit: 'MB/s', goal: { kind: 'ratio', atLeast: 0.8 } },
    { rounds: stdoutRuns, peer: 'zmq', figure: stdoutRate, fault: stdoutFault },
  ),
  row(
    { name: 'jupyter-lines', title: lines, unit: 'per s', goal: { kind: 'ratio', atLeast: 1 } },
    { rounds: linesRuns, peer: 'server', figure: lineRate, fault: linesFault },
  ),
  row(
    { name: 'jupyter-lines-zmq', title: lines, unit: 'per s', goal: { kind: 'ratio', atLeast: 0.8 } },
    { rounds: linesRuns, peer: 'zmq', figure: lineRate, fault: linesFault },
  ),
  row(
    {
      name: 'jupyter-display',
      title: `a request with a buffer of ${displayBytes / 1024 ** 2} MiB, answered by a display with one`,
      unit: 'MB/s',
      goal: { kind: 'ratio', atLeast: 1 },
    },
    { rounds: displayRuns, peer: 'server', figure: displayRate, fault: displayFault },
  ),
];
