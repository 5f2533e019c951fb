/**
 * Builds or pulls `causeway/python` as a process of its own, so that the supervisor can run it beside everything else:
 * `node index.ts --socket PATH --scratch DIR [--pull REF]`. One JSON line per progress; the last is
 * `{"msg":"done"}` or `{"msg":"failed","error":...}` (exit 1).
 */
import { parseArgs } from 'node:util';

import { ensurePythonImage } from './ensure.ts';

const say = (entry: Record<string, unknown>) =>
  process.stdout.write(`${JSON.stringify({ time: Date.now(), ...entry })}\n`);

const { values } = parseArgs({
  options: { socket: { type: 'string' }, scratch: { type: 'string' }, pull: { type: 'string' } },
});
if (!values.socket || !values.scratch) {
  say({ msg: 'failed', error: '--socket and --scratch are required' });
  process.exit(64);
}
try {
  const done = await ensurePythonImage({
    socket: values.socket,
    scratch: values.scratch,
    pullFrom: values.pull,
    onProgress: (percent, what) => say({ msg: 'progress', percent, what }),
  });
  say({ msg: 'done', ...done });
} catch (error) {
  say({ msg: 'failed', error: error instanceof Error ? error.message : String(error) });
  process.exit(1);
}
